"""The demo fleet: simulated actors that know the public REST API and Redis, nothing of the inside.

No module here imports Django or a model: what a stranger's actor cannot do, these cannot do either.
"""

from __future__ import annotations
