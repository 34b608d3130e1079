"""What can be held against any page: what axe-core, which others wrote, finds by WCAG 2.0 to 2.2, levels A and AA; and
what stands out of the page."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def violations(page: Page) -> list[str]:
    """One line for each rule and element that breaks it, of the page as it is now."""
    options = {"runOnly": {"type": "tag", "values": _TAGS}, "resultTypes": ["violations"]}
    found = Axe().run(page, options=options).response
    assert len(found["passes"]) > 5, "it has looked at nothing"
    return [
        f"{rule['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def overflowing(page: Page) -> Any:
    """Elements that stand out of the page at its width; but for what is in a part that scrolls."""
    return page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter((each) => {
            const right = each.getBoundingClientRect().right;
            return right > document.documentElement.clientWidth + 1 && !each.closest("pre, .scrolls");
        }).map((each) => each.outerHTML.slice(0, 200))"""
    )
