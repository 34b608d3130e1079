"""Listens, and keeps the connections: how many there may be, how long each may wait, and their end."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import time
from email.utils import formatdate

from decoupled.core import limits
from decoupled.server.health import Trouble
from decoupled.server.http.connection import Connection, Handler
from decoupled.server.http.parser import Budget

log = logging.getLogger("decoupled.http_server")

SWEEP_S = 1.0  # between two looks at deadlines
ACCEPT_AT_ONCE = 64  # connections, before those that are there get their turn
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}  # of what every client needs
OTHER_FILES = 192  # that the process has open or may open: the database, two for each worker, logs
FEWEST_CLIENTS = 32  # at once, that are worth serving


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the address, and does not listen yet. Raises ValueError naming why it cannot be had."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a server that has just ended
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _taken(host, port, error) from error
    listener.setblocking(False)
    return listener


def _taken(host: str, port: int, error: OSError) -> ValueError:
    return ValueError(f"cannot listen on {host}:{port}: {error.strerror}")


class HttpServer:
    """Serves a handler on a bound socket. When all places are taken, new connections wait in the kernel, and those
    that are idle make room."""

    def __init__(self, handle: Handler, loop: asyncio.AbstractEventLoop) -> None:
        self.handle = handle
        self.loop = loop
        self.budget = Budget()
        self.stopping = False
        self.connections: set[Connection] = set()
        self._places = _places()
        self._arriving: set[asyncio.Task[object]] = set()
        self._accepting = False
        self._refused: str | None = None  # why a client could not be let in
        self._refused_at = 0.0
        self._look()

    def start(self, listener: socket.socket) -> None:
        """Accept clients. Raises ValueError when somebody else listens on the address by now."""
        self.listener = listener
        try:
            listener.listen(limits.MAX_CLIENTS)
        except OSError as error:
            host, port = listener.getsockname()[:2]
            raise _taken(host, port, error) from error
        self._accept_more()
        self.loop.call_later(SWEEP_S, self._sweep)

    def _accept_more(self) -> None:
        if not self._accepting and not self.stopping:
            self._accepting = True
            self.loop.add_reader(self.listener, self._accept)

    def _accept_no_more(self) -> None:
        if self._accepting:
            self._accepting = False
            self.loop.remove_reader(self.listener)

    def _accept(self) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            if len(self.connections) + len(self._arriving) >= self._places:
                self._accept_no_more()
                return
            try:
                client, _ = self.listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of file descriptors, say
                self._accept_no_more()  # until the next look
                self._refuse_for(error)
                return
            client.setblocking(False)
            task = self.loop.create_task(self._arrive(client))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _arrive(self, client: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self), client)
        except OSError as error:
            client.close()
            if error.errno in _SHORT:
                self._refuse_for(error)
        except Exception:  # one client's trouble
            log.exception("a client could not be let in")
            client.close()

    def _refuse_for(self, error: OSError) -> None:
        if self._refused is None:  # once, however long it lasts
            log.error("no client can be let in; it is tried again", extra={"error": str(error)})
        self._refused, self._refused_at = error.strerror or str(error), self.now

    def trouble(self) -> Trouble | None:
        """Why no further client is let in. Those that are there are served."""
        return None if self._refused is None else Trouble(f"no further client can be let in: {self._refused}")

    def joined(self, connection: Connection) -> None:
        """A connection is there."""
        self.connections.add(connection)
        if self.stopping:
            connection.stop()

    def left(self, connection: Connection) -> None:
        """A connection has ended: its place is free."""
        self.connections.discard(connection)
        self._accept_more()

    def _look(self) -> None:
        self.now = self.loop.time()
        self.date = formatdate(time.time(), usegmt=True)

    def _sweep(self) -> None:
        self._look()
        full = len(self.connections) >= self._places
        enough = self.now + limits.KEEP_ALIVE_S - SWEEP_S  # what began to be idle before the last look
        for connection in list(self.connections):
            if self.now > connection.deadline or (full and connection.is_idle and connection.deadline < enough):
                connection.alone(connection.expire)
        self._accept_more()
        if self._refused is not None and self.now - self._refused_at > 2 * SWEEP_S:
            log.info("clients are let in again")
            self._refused = None
        if not self.stopping or self.connections:
            self.loop.call_later(SWEEP_S, self._sweep)

    async def stop(self) -> None:
        """Accept no more; requests that are whole get their answers, within a bounded time."""
        self.stopping = True
        self._accept_no_more()
        self.listener.close()
        for connection in list(self.connections):
            connection.alone(connection.stop)
        deadline = self.loop.time() + limits.LINGER_S
        while (self.connections or self._arriving) and self.loop.time() < deadline:
            await asyncio.sleep(0.01)


def raise_file_limit() -> None:
    """Of files that the process may have open: as far as it goes. Raises ValueError where that is too few to serve."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.MAX_CLIENTS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft < FEWEST_CLIENTS + OTHER_FILES:
            raise ValueError(
                f"only {soft} files may be open at once, and {FEWEST_CLIENTS + OTHER_FILES} are needed:"
                " raise the limit (ulimit -n)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _places() -> int:
    """For clients, within the number of files that the process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limits.MAX_CLIENTS if soft == resource.RLIM_INFINITY else min(limits.MAX_CLIENTS, soft - OTHER_FILES)
