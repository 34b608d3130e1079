"""The fuzzer, shortly; `python -m benchmarks.fuzz` goes on for longer. And that it finds what it is there to find."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.fuzz import Conversation, fuzz, read_answers

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


def test_nearly_right_requests_break_no_promise(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    found = fuzz(tmp_path, 5_000, seed)
    assert found.broken == [], found.told()
    assert len(found.accepted) > 500, found.told()
    assert {200, 202, 400, 404, 405, 415, 422, 501} <= set(found.statuses), found.told()


def test_a_conversation_is_drawn_from_its_seed_and_its_number() -> None:
    first, again, other = Conversation(7, 3), Conversation(7, 3), Conversation(7, 4)
    assert (first.stream, list(first.pieces())) == (again.stream, list(again.pieces()))
    assert first.stream != other.stream
    assert b"".join(first.pieces()) == first.stream


def test_answers_are_read_with_and_without_their_bodies() -> None:
    assert list(read_answers(OK + b"{}" + OK + OK + b"{}")) == [(200, b"{}"), (200, b""), (200, b"{}")]
    assert list(read_answers(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)) == [(200, b"")]


@pytest.mark.parametrize(
    "received", [OK + b"{", OK + b"{}{}", b"{}", OK[:-2], OK.replace(b"content-length: 2\r\n", b"")]
)
def test_what_is_no_answer_is_found(received: bytes) -> None:
    with pytest.raises(ValueError, match="answer"):
        list(read_answers(received))
