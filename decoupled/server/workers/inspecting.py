"""A process that asks workloads for what is wrong with their items, or that decides nothing: it loads them, says which
have an invariant, and is handed the items of one after the other, as it asks for them. Run as
`python -m decoupled.server.workers.inspecting`; its parent is `inspector.py`."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from decoupled.core import upkeep_limits
from decoupled.core.applying import whole
from decoupled.core.frames import HEADER, frame
from decoupled.core.workload import Item, Workload
from decoupled.pipeline import blame
from decoupled.pipeline.loading import WorkloadError, load
from decoupled.server.parent import end_before_it, end_with_parent
from decoupled.server.workers.lifetime import limit_message
from decoupled.server.workers.process import OOM_SCORE


class Loaded(msgspec.Struct, tag=True, array_like=True):
    """Which workloads there are, which have an invariant, and which call others to decide; or why there are none."""

    workloads: list[str] = []
    invariants: list[str] = []
    concurrent: list[str] = []
    why: str = ""


class More(msgspec.Struct, tag=True, array_like=True):
    """It wants the next items."""


class Said(msgspec.Struct, tag=True, array_like=True):
    """What the workload has said of its items, and how often it said something; `why`: it raised this instead."""

    what: list[str] = []
    count: int = 0
    why: str = ""


class Asked(msgspec.Struct, tag=True, array_like=True):
    """This workload is asked next."""

    workload: str


class Items(msgspec.Struct, tag=True, array_like=True):
    """The next of its items, by key: their JSON texts. None: there are no more."""

    items: list[tuple[str, str]] = []


answers: msgspec.msgpack.Decoder[Loaded | More | Said] = msgspec.msgpack.Decoder(Loaded | More | Said)
_questions: msgspec.msgpack.Decoder[Asked | Items] = msgspec.msgpack.Decoder(Asked | Items)
_item = msgspec.json.Decoder(dict[str, Any], float_hook=lambda text: whole(Decimal(text)))


def main() -> None:
    """Arguments: the socket's number, and as JSON the workloads, their root and how much memory there may be."""
    fd, named = int(sys.argv[1]), json.loads(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and that ends this
    connection = socket.socket(fileno=fd)
    end_with_parent(fd)
    end_before_it(OOM_SCORE)
    try:
        workloads = load(named["workloads"], named["root"] and Path(named["root"]))
    except WorkloadError as error:
        connection.sendall(_framed(Loaded(why=str(error))))
        return
    limit_message(named["memory_mb"])
    invariants = [name for name, workload in workloads.items() if workload.invariant is not None]
    concurrent = [name for name, workload in workloads.items() if workload.concurrent]
    connection.sendall(_framed(Loaded(list(workloads), invariants, concurrent)))
    with connection.makefile("rb") as frames:
        while isinstance(asked := _read(frames), Asked):
            connection.sendall(_framed(_inspect(workloads[asked.workload], connection, frames)))


def _inspect(workload: Workload, connection: socket.socket, frames: BinaryIO) -> Said:
    assert workload.invariant is not None  # noqa: S101  it said so
    said = Said()
    items = _items(connection, frames)
    try:
        for what in islice(workload.invariant(items), upkeep_limits.INVARIANT_SAYS):
            if len(said.what) < upkeep_limits.FAULT_IDS:
                said.what.append(_sendable(str(what)))
            said.count += 1
    except Exception as error:  # noqa: BLE001  whatever a workload's code raises is told of
        said.why = _sendable(f"{type(error).__name__}: {blame.text(error)}")
    return said


def _sendable(text: str) -> str:
    """Half a surrogate in it would end this process, and the fault would not be told."""
    return text[: upkeep_limits.INVARIANT_CHARS].encode(errors="replace").decode()


def _items(connection: socket.socket, frames: BinaryIO) -> Iterator[tuple[str, Item]]:
    while True:
        connection.sendall(_framed(More()))
        given = _read(frames)
        if not isinstance(given, Items) or not given.items:
            return
        for key, text in given.items:
            yield key, _item.decode(text)


def _read(frames: BinaryIO) -> Asked | Items | None:
    """None: there is nobody any more."""
    header = frames.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    return _questions.decode(frames.read(HEADER.unpack(header)[0]))


def _framed(answer: Loaded | More | Said) -> bytes:
    return frame(msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()
