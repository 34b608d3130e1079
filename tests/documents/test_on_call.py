"""What docs/operations.md answers when the worst has happened: every command is typed as it is printed, and prints what
the text says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ministack
from tests.support.on_call import blocks, follow, promised, sections
from tests.support.server import ROOT

QUESTIONS = (
    "The disk died",
    "The machine died",
    "The disk is filling",
    "I deployed a bug",
    "A customer wants to be forgotten",
    "We outgrew the machine",
)
ANSWERS = sections((ROOT / "docs" / "operations.md").read_text())


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack.running(tmp_path_factory.mktemp("aws")) as url:
        yield url


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_does_what_it_says(question: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    answer = ANSWERS[question]
    assert blocks(answer)
    aws = ministack.environment(request.getfixturevalue("endpoint")) if "--stack" in answer else None
    follow(answer, tmp_path, aws)


# --- the runner itself ------------------------------------------------------------------------------------------------

RETURN = """curl -sS --json '{"order": "A-17", "item": "KB-104", "reason": "broken"}' http://127.0.0.1:8080/returns"""
TRUE = f"""Send one.

```sh
{RETURN}
```

```
{{"id":"…","status_url":"/returns/…"}}
```

Stop it, and start it.

```sh
systemctl stop decoupled
! systemctl is-active decoupled
systemctl start decoupled
systemctl reload decoupled
decoupled status
```

```
…
breaker … returns
…
```

```json
{{"not": "typed"}}
```
"""


def test_a_section_is_typed_as_it_is_printed(tmp_path: Path) -> None:
    follow(TRUE, tmp_path)
    assert "stopping" in (tmp_path / "log").read_text()
    assert not (tmp_path / "pid").exists()


def test_a_text_that_lies_fails(tmp_path: Path) -> None:
    for name, lie in {"print": TRUE.replace("status_url", "location"), "end": f"```sh\n{RETURN}\nfalse\n```\n"}.items():
        (tmp_path / name).mkdir()
        with pytest.raises(AssertionError, match="the text says" if name == "print" else "ended with 1"):
            follow(lie, tmp_path / name)
        assert not (tmp_path / name / "pid").exists()


def test_what_is_printed_is_compared_line_by_line() -> None:
    assert promised("a … c\n", "a b c\n")
    assert promised("first\n…\nlast\n", "first\n1\n2\nlast\n")
    assert promised("first\n…\nlast\n", "first\nlast\n")
    assert not promised("a … c\n", "a b\nc\n")
    assert not promised("first\n", "first\nmore\n")
    assert not promised("a.c\n", "abc\n")


def test_only_what_follows_at_once_is_what_a_block_prints() -> None:
    first, second = blocks("```sh\none\n```\n\nIn a file:\n\n```\nx\n```\n\n```sh\ntwo\n```\n```\ny\n```\n")
    assert (first.prints, second.prints) == (None, "y\n")
