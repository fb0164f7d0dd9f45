from __future__ import annotations

# As Intl.NumberFormat writes them in the page: 1,204,000. Django does not group at all in Chinese.
THOUSAND_SEPARATOR = ","
NUMBER_GROUPING = 3
