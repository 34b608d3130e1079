"""Events as a stream has them (Server-Sent Events, of the HTML standard): what became of a message, and from where a
client goes on that was gone. Pure."""

from __future__ import annotations

import re

import msgspec

from decoupled.core import limits
from decoupled.core.outcomes import Record
from decoupled.core.problem import Problem, Response
from decoupled.core.shown import view
from decoupled.core.status import ENDED
from decoupled.engines.protocols import Position

MEDIA_TYPE = "text/event-stream"
HEAD = Response(200, {"content-type": MEDIA_TYPE, "cache-control": "no-store", "x-accel-buffering": "no"}, b"")
"""Of each stream. The last header keeps nginx from collecting events before it hands them on."""

FIRST = f"retry: {limits.STREAM_RETRY_S * 1000}\n".encode()
COMMENT = b": keep-alive\n"  # no empty line behind it, which some clients would take for an event


def require_accepted(accept: str | None, by_name: bool) -> None:
    """Raises Problem 406 if the client does not take events, or, `by_name`, does not say so."""
    ranges = {MEDIA_TYPE} if by_name else {MEDIA_TYPE, "text/*", "*/*"}
    if not accept and not by_name:
        return
    for part in (accept or "").lower().split(","):
        media, *parameters = (it.strip(" \t") for it in part.split(";"))
        if media in ranges and not any(re.fullmatch(r"q=0(\.0*)?", it) for it in parameters):
            return
    raise Problem(406, f"GET gives {MEDIA_TYPE} here: say so in Accept. POST sends.")


# --- one message --------------------------------------------------------------


def of_record(record: Record) -> bytes:
    """The record as it is. The end of a message has an id of its own, also if it was put back and ended again."""
    return _event(final_id(record) or "queued", record)


def final_id(record: Record) -> str | None:
    """Of the event that tells of its end; None while it has not ended."""
    return f"{record.status}.{record.finished_at}" if record.status in ENDED else None


# --- all of a caller ----------------------------------------------------------


def start(position: Position) -> bytes:
    """The beginning of a stream: without an event, but from then on a client knows where it is."""
    return FIRST + f"id: {text_of(position)}\n\n".encode()


def of_end(position: Position, record: Record) -> bytes:
    """A message has ended."""
    return _event(text_of(position), record)


def text_of(position: Position) -> str:
    """As ids of events have it."""
    return f"{position[0]}.{position[1]}"


def position_of(last_event_id: str) -> Position:
    """The other way round. Raises Problem 400."""
    found = _POSITION.fullmatch(last_event_id)
    if found is None:
        raise Problem(400, f"Last-Event-ID is the id of an event of this stream; this was {last_event_id[:40]!r}.")
    return int(found[1]), int(found[2])


_POSITION = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")


def _event(event_id: str, record: Record) -> bytes:
    data = msgspec.json.encode(view(record))
    if b"\n" in data or b"\r" in data:  # between the tokens of a result: in a text they are escaped
        data = data.replace(b"\n", b" ").replace(b"\r", b" ")
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), record.status.encode(), data)
