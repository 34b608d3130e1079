"""The rules of the page's files, read from them: short, and nothing in them that the policy of content would refuse, or
by which a text could become markup."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.page_server import PAGE

OURS = sorted(file for file in PAGE.iterdir() if file.suffix in (".js", ".css") and "uplot" not in file.name)
SCRIPTS = [file for file in OURS if file.suffix == ".js"]
MAX_LINES = 300
# Each of these makes markup, a script or a style of a text.
FORBIDDEN = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|cssText|srcdoc"


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.name)
def test_a_file_is_short_and_opens_with_what_lives_there(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert text.startswith("// " if file.suffix == ".js" else "/* ")


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_no_text_becomes_markup(file: Path) -> None:
    assert re.findall(FORBIDDEN, file.read_text()) == []
    assert re.findall(r"""setAttribute\([^)]*["']style["']|\bstyle: |["']style["']:""", file.read_text()) == []


def test_nothing_is_inline() -> None:
    html = (PAGE / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|\bstyle=|<style|\bon[a-z]+=", html) == []


def test_all_that_is_named_is_there() -> None:
    named = set(re.findall(r'"-/assets/([^"]+)"', (PAGE / "index.html").read_text()))
    for file in SCRIPTS:
        named |= set(re.findall(r'from "\./([^"]+)"', file.read_text()))
    assert named <= {file.name for file in PAGE.iterdir()}
    assert {file.name for file in OURS} <= named
