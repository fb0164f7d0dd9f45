"""Axe, from a wheel that ``uv.lock`` pins by its checksum (axe-core, MPL-2.0): for tests only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import axe_playwright_python

AXE: Final = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
#: Axe's best practices that name no failure of WCAG are left to the reviewer.
RULES: Final = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


def violations(page: Any, *, leave_out: str = "") -> list[str]:
    """What axe finds on the page as it stands, a line each. ``leave_out``: a part that other people draw."""
    # Nothing is preloaded: axe would copy style sheets into the page, which its policy forbids.
    page.evaluate(AXE)
    found: list[str] = page.evaluate(
        """async ([rules, out]) => {
          const part = out ? { exclude: [out] } : document;
          const { violations } = await axe.run(part, { ...rules, preload: false });
          return violations.flatMap((one) => one.nodes.map((node) =>
            `${one.id}: ${node.target.join(" ")} ${node.failureSummary}`));
        }""",
        [RULES, leave_out],
    )
    return found
