"""Calls others by a client library that blocks, in threads."""

import logging
import os
import socket
import threading
import time
from pathlib import Path

from msgspec import Struct

from decoupled.core.workload import Effects, Message, Workload


class Blocking(Struct, frozen=True, forbid_unknown_fields=True):
    act: str = "well"
    port: int = 0
    seconds: float = 0.0
    once: str | None = None


def process(blocking: Blocking, message: Message) -> Effects:
    if blocking.once is None or not Path(blocking.once).exists():
        if blocking.once is not None:
            Path(blocking.once).touch()
        if blocking.act == "ask":
            with socket.create_connection(("127.0.0.1", blocking.port)) as connection:
                assert connection.makefile().readline() == "well\n"
        elif blocking.act == "sleep":
            time.sleep(blocking.seconds)
        elif blocking.act == "tell":
            print("told")  # noqa: T201
            logging.getLogger("threads").info("told")
            print("at last", end="")  # noqa: T201
    return Effects({"pid": os.getpid(), "thread": threading.get_ident()})


WORKLOAD = Workload("threads", Blocking, process, threads=8)
