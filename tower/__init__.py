"""Command Tower: the project package.

The stock ``sqlite3`` of many Pythons is older than 3.51.3 and has the
"WAL-reset" corruption bug when two processes write and checkpoint at once,
which is our normal state. The wheel ``pysqlite3`` brings a newer library; it
has to stand in before Django loads its own.
"""

from __future__ import annotations

import sys

import pysqlite3
import pysqlite3.dbapi2

sys.modules["sqlite3"] = pysqlite3
sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2

__version__ = "0.1.0"
