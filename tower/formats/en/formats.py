from __future__ import annotations

# The day first and 24 hours, as all else in the product: Django's English says "Nov. 28, 2026, 8 a.m.".
DATE_FORMAT = "j M Y"
TIME_FORMAT = "H:i"
DATETIME_FORMAT = "j M Y H:i"
MONTH_DAY_FORMAT = "j M"
