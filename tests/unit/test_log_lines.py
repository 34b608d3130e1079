"""A line of the log is one JSON object of a bounded size, whatever it is about."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from decoupled.core import limits
from decoupled.server.logs import JsonLines, dropped_lines


def formatted(message: str, **extra: Any) -> dict[str, Any]:
    record = logging.makeLogRecord({"msg": message, "levelname": "ERROR", "name": "test", **extra})
    line = JsonLines().format(record)
    assert len(line) <= limits.MAX_LOG_LINE_BYTES
    assert "\n" not in line
    decoded: dict[str, Any] = json.loads(line)
    return decoded


@pytest.mark.parametrize("character", ["x", "\n", "é", "😀", "\ud800"])
def test_a_line_has_a_bounded_size_whatever_it_is_about(character: str) -> None:
    line = formatted("failed: " + character * 1_000_000, body=[character * 1_000_000], size=5)
    assert line["message"].startswith("failed: ")
    assert (line["level"], line["size"]) == ("ERROR", 5)
    many = {f"{character}{number}" * 100: character * 1000 for number in range(10_000)}
    assert formatted("many", **many)["message"] == "many"


def test_of_a_long_traceback_the_end_is_kept() -> None:
    error = ValueError("x" * 50_000 + " and so it ended")
    line = formatted("failed", exc_info=(ValueError, error, None))
    assert line["traceback"].startswith("ValueError: x")
    assert line["traceback"].endswith("and so it ended")


def test_an_ordinary_line_is_left_as_it_is() -> None:
    assert formatted("y" * 10_000, wide="z" * 10_000)["wide"] == "z" * 10_000


def test_the_line_about_dropped_lines_is_one_of_the_log() -> None:
    line = json.loads(dropped_lines(7))
    assert (line["level"], line["lines"]) == ("ERROR", 7)
