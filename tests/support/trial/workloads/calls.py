"""Calls others, many at once: everything that such a message can do to the process that it shares, chosen by the entry.
With `once`, only the first time: the file of that name tells."""

import asyncio
import ctypes
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from decoupled.core.workload import Add, Effects, Message, Workload


class Call(Struct, frozen=True, forbid_unknown_fields=True):
    act: str = "well"
    seconds: float = 0.0
    port: int = 0
    once: str | None = None
    noted: str | None = None  # a directory that gets a file each time that this is begun


async def process(call: Call, message: Message) -> Effects:
    note(call, message)
    if call.once is None or not Path(call.once).exists():
        if call.once is not None:
            Path(call.once).touch()
        await ACTS[call.act](call)
    return Effects({"act": call.act, "pid": os.getpid()}, [Add("calls/done", {call.act: 1})])


def note(call: Call, message: Message) -> None:
    if call.noted is not None:
        (Path(call.noted) / f"{message.id}-{time.monotonic_ns()}").touch()


async def _well(_: Call) -> None:
    pass


async def _sleep(call: Call) -> None:
    await asyncio.sleep(call.seconds)


async def _ask(call: Call) -> None:
    """Waits for the answer of a server on this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", call.port)
    try:
        assert await reader.readline() == b"well\n"
    finally:
        writer.close()


async def _swallow(_: Call) -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("goes on")  # noqa: T201


async def _block_in_python(_: Call) -> None:
    while True:
        time.sleep(0.01)


async def _block_in_c(_: Call) -> None:
    ctypes.PyDLL(None).sleep(60)  # while no other thread runs either


async def _exit(call: Call) -> None:
    await asyncio.sleep(call.seconds)
    os._exit(4)


async def _raise(_: Call) -> None:
    raise RuntimeError("the workload says no")


async def _system_exit(_: Call) -> None:
    raise SystemExit(3)


async def _tell(call: Call) -> None:
    """Prints in pieces, and logs, before and after others had their turn."""
    print("before", end="")  # noqa: T201
    await asyncio.sleep(call.seconds)
    print(" and after")  # noqa: T201
    logging.getLogger("calls").info("told")
    print("at last", end="")  # noqa: T201


ACTS: dict[str, Callable[[Call], Awaitable[None]]] = {
    "well": _well,
    "sleep": _sleep,
    "ask": _ask,
    "swallow": _swallow,
    "block_in_python": _block_in_python,
    "block_in_c": _block_in_c,
    "exit": _exit,
    "raise": _raise,
    "system_exit": _system_exit,
    "tell": _tell,
}

WORKLOAD = Workload("calls", Call, process)
