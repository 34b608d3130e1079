"""What the documents say of themselves: links that lead somewhere, a glossary with each word once, the version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import decoupled

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
ENTRY = re.compile(r"^- \*\*(.+?)\*\*: ", re.MULTILINE)


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def links(document: Path) -> list[str]:
    """Relative links; those to other sites are theirs to keep."""
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text()))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_code(document.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in links(document):
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), f"{document.name} links to {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{document.name} links to {link}"


def test_a_dead_link_and_a_dead_anchor_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# The first, of two\n\n[a](gone.md) [b](#nowhere) [c](https://example.com)\n")
    assert links(page) == ["gone.md", "#nowhere"]
    assert anchors(page) == {"the-first-of-two"}


def test_every_word_of_the_glossary_stands_there_once_and_sorted() -> None:
    text = (ROOT / "GLOSSARY.md").read_text()
    words = ENTRY.findall(text)
    assert len(words) == len(re.findall(r"^- ", text, re.MULTILINE)), "an entry is - **word**: what it means"
    assert words == sorted(set(words), key=str.lower)


def test_the_newest_version_of_the_changelog_is_the_code_s() -> None:
    versions = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == decoupled.__version__
