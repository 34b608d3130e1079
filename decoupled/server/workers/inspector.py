"""The parent of `inspecting.py`: hands a workload's items to it, and hears what the workload's invariant says of them.
Whatever that code does, crash or hang, it does over there, and this says so."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from decoupled.core import limits, upkeep_limits
from decoupled.core.frames import HEADER, frame
from decoupled.server.options import Options
from decoupled.server.workers.child import GRACE_S
from decoupled.server.workers.inspecting import Asked, Items, Loaded, More, Said, answers


class Unsaid(Exception):  # noqa: N818  what came of it, not an error of ours
    """The workloads cannot be asked: why."""


class Inspector:
    """Has one process at a time. Used by one thread, which waits for it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket

    def load(self) -> Loaded:
        """Which workloads there are to be asked. Raises Unsaid."""
        if self._process is not None:
            self.close()
        ours, theirs = socket.socketpair()
        named = {
            "workloads": self._options.workloads,
            "root": self._options.root and str(self._options.root),
            "memory_mb": self._options.worker_memory_mb,
        }
        self._socket = ours
        command = [sys.executable, "-P", "-m", "decoupled.server.workers.inspecting"]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  our own module, and options that were checked
                [*command, str(theirs.fileno()), json.dumps(named)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # to where errors go: the report stands alone in our output
            )
        loaded = self._hear(limits.WORKER_START_S)
        if not isinstance(loaded, Loaded) or loaded.why:
            self.close()
            raise Unsaid(loaded.why if isinstance(loaded, Loaded) else "it answers what it was not asked")
        return loaded

    def inspect(self, workload: str, items: Iterable[tuple[str, str]]) -> Said:
        """What the workload says of its items, each a key and its JSON text, in the order of their keys. Raises Unsaid,
        and what `items` raises; the next one gets a new process then."""
        if self._process is None:
            self.load()
        parts = _parts(iter(items))
        try:
            self._tell(Asked(workload))
            while isinstance(heard := self._hear(self._options.function_timeout_s + GRACE_S), More):
                self._tell(Items(next(parts, [])))
        except BaseException:
            self.close()
            raise
        if not isinstance(heard, Said):
            self.close()
            raise Unsaid("it answers what it was not asked")
        return heard

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._socket.close()
            self._process.kill()
            self._process.wait()
            self._process = None

    def _tell(self, what: Asked | Items) -> None:
        self._socket.settimeout(self._options.function_timeout_s + GRACE_S)
        with self._heard_of():
            self._socket.sendall(frame(msgspec.msgpack.encode(what)))

    def _hear(self, within_s: float) -> Loaded | More | Said:
        self._socket.settimeout(within_s)
        with self._heard_of():
            (size,) = HEADER.unpack(self._read(HEADER.size))
            if size > upkeep_limits.INVARIANT_BYTES:
                raise Unsaid("it says more than there is to say")
            return answers.decode(self._read(size))

    def _read(self, size: int) -> bytes:
        read = bytearray()
        while len(read) < size:
            if not (part := self._socket.recv(size - len(read))):
                raise ConnectionError("it has ended")
            read += part
        return bytes(read)

    @contextlib.contextmanager
    def _heard_of(self) -> Iterator[None]:
        """Raises Unsaid with what became of the process."""
        try:
            yield
        except TimeoutError:
            raise Unsaid(f"it asked for nothing and said nothing for {self._socket.gettimeout():g} s") from None
        except msgspec.MsgspecError as error:
            raise Unsaid(f"what it says cannot be read: {error}") from error
        except OSError as error:
            raise Unsaid(self._ended() or str(error)) from error

    def _ended(self) -> str:
        assert self._process is not None  # noqa: S101  it was told something
        try:
            code = self._process.wait(limits.WORKER_END_S)
        except subprocess.TimeoutExpired:
            return "it has hung up"
        return f"its process was killed by signal {-code}" if code < 0 else f"its process ended with status {code}"


def _parts(items: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """A hundred at a time, so that a part of the largest has 40 MB."""
    while some := list(islice(items, upkeep_limits.INVARIANT_ITEMS)):
        yield some
