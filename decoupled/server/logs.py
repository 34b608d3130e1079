"""Logs: one JSON object a line on standard error, from the server, its workers, and what a workload prints."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from decoupled.core import limits
from decoupled.core.traces import trace_id
from decoupled.core.workload import Message

deciding: Message | None = None
"""The message that this process decides right now: what is logged meanwhile is about it, also by threads of its own."""

_deciding_here: ContextVar[Message | None] = ContextVar("deciding_here", default=None)
_begun_here: ContextVar[list[str]] = ContextVar("begun_here")
"""Where a process decides many at once, the one of this coroutine or thread, and of what they start; and what it has
printed of a line. One that a process decides alone has neither."""


class JsonLines(logging.Formatter):
    """One JSON object a line, with whatever the call passed as `extra`."""

    _standard = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in self._standard}
        if (about := deciding or _deciding_here.get()) is not None:
            traced = {"trace_id": trace_id(about.trace)} if about.trace else {}
            line = {"message_id": about.id, "workload": about.workload} | traced | line
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        text = json.dumps(line, default=str)
        return text if len(text) <= limits.MAX_LOG_LINE_BYTES else _cut(line)


def _cut(line: dict[str, Any]) -> str:
    """The line with what is long in it cut: of a traceback, say, the beginning and the end are worth the most."""
    members = list(line.items())[: limits.MAX_LOG_MEMBERS]
    most = limits.MAX_LOG_LINE_BYTES // len(members) // 2
    return json.dumps({_fitting(name, most): _fitting(value, most) for name, value in members}, default=str)


def _fitting(value: Any, most: int) -> Any:
    """The value, or so much of its text that it takes no more than so many bytes as JSON."""
    short, chars = value, most
    while len(json.dumps(short, default=str)) > most:
        chars //= 2
        text = str(value)
        short = f"{text[: chars // 2]}…{text[len(text) - chars // 2 :]}"
    return short


def dropped_lines(count: int) -> str:
    """The line that says so."""
    record = logging.makeLogRecord({"name": "decoupled.logs", "levelno": logging.ERROR, "levelname": "ERROR"})
    record.msg, record.lines = "lines of the log were dropped here: they were not read fast enough", count
    return JsonLines().format(record) + "\n"


def configure_logs(level: str) -> None:
    """Logs go to standard error, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def about(message: Message) -> Callable[[], None]:
    """From here on, in this context, what is logged and printed is about that message. Returns what is to be called
    when it is decided: a line that it did not end is told then."""
    line = [""]
    _deciding_here.set(message)
    _begun_here.set(line)

    def decided() -> None:
        if line[0]:
            extra = {"message_id": message.id, "workload": message.workload}
            logging.getLogger("stdout").info("%s", line[0], extra=extra)
            line[0] = ""

    return decided


class Printed(io.TextIOBase):
    """Stands for a worker's standard output: each line that a workload prints becomes a line of the log."""

    def __init__(self) -> None:
        self._begun = [""]

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Log the lines that are whole, and a piece that is longer than a line may be."""
        begun = _begun_here.get(self._begun)
        *lines, begun[0] = (begun[0] + text).split("\n")
        if len(begun[0]) > limits.MAX_LOG_LINE_CHARS:
            lines.append(begun[0])
            begun[0] = ""
        for line in lines:
            logging.getLogger("stdout").info("%s", line[: limits.MAX_LOG_LINE_CHARS])
        return len(text)
