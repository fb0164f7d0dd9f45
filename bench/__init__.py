"""Measurements on a real tower: ``python -m bench.register``, ``bench.ingest``, ``bench.runs``.

Each prints ratios within one run and writes them to ``bench/results/``; others may work on the machine too,
so compare only what stands in one file.
"""

from __future__ import annotations
