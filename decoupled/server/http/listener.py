"""Listens, and keeps the connections: how many there may be, how long each may wait, and their end."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Collection
from email.utils import formatdate
from ssl import SSLContext
from typing import Protocol

from decoupled.core import limits
from decoupled.server.counting import Requests
from decoupled.server.health import Trouble
from decoupled.server.http.connection import Connection
from decoupled.server.http.cors import Cors
from decoupled.server.http.exchange import Handler, alone
from decoupled.server.http.shares import Shares
from decoupled.server.http.tls import Tls
from decoupled.server.http.turns import Turns
from decoupled.server.listening import places

log = logging.getLogger("decoupled.http_server")

SWEEP_S = 1.0  # between two looks at deadlines
BUSY_S = 0.05  # before somebody is asked for a place again, where nobody could give one
TOLD_S = 10.0  # for which health says that clients had to give way, and between two lines of the log about it
ACCEPT_AT_ONCE = 256  # connections, before those that are there get their turn,
ACCEPT_OF_SHARED = 16  # and where other fronts accept too
LET_OTHERS_S = 0.002  # for another front to go first
PLACES_FREE = 16  # one in so many is kept free
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}  # of what every client needs


CLIENT = (Connection, Tls)
"""What the event loop may say an error came from: then it is one client's trouble."""


class Seat(Protocol):
    """What a server knows of others on the same socket."""

    def count(self, clients: int) -> None:
        """Tell them how many clients are here."""
        ...

    def is_ahead(self) -> bool:
        """Whether another one should take the next clients."""
        ...

    def leave(self) -> None:
        """Tell them that no client comes here any more."""
        ...


class HttpServer:
    """Serves a handler on a bound socket. When all places are taken, those that have waited longest make room; new
    connections wait in the kernel for the moment that this takes."""

    def __init__(
        self,
        handle: Handler,
        loop: asyncio.AbstractEventLoop,
        of: int = 1,
        seat: Seat | None = None,
        tls: SSLContext | None = None,
        origins: Collection[str] = (),
        leaving: Callable[[], None] = lambda: None,
        requests: Requests | None = None,
    ) -> None:
        """One `of` so many that serve on the same socket, where each has its `seat`. `origins`: of `Cors`. `leaving` is
        called when nobody is let in any more."""
        cors = Cors(origins) if origins else None
        self.handle = handle if cors is None else cors.around(handle)
        self.opened: Callable[[str | None], str] | None = None if cors is None else cors.opened
        self.requests = requests or Requests()
        self.tls = tls  # for clients to come; None: plain HTTP
        self.loop = loop
        self.stopping = False  # what is answered from now on is the last answer of its connection
        self.connections: set[Connection] = set()
        self.shares = Shares(self.connections, loop.call_later, _bytes_of(of))
        self._seat = seat
        self._leaving = leaving
        self._others_went = False  # if they wanted: it is our turn to accept, whoever has fewer clients
        self._hurrying = False
        self._places = places(of)
        self._arriving: set[asyncio.Task[object]] = set()
        self._accepting = False
        self._turns = Turns(loop)
        self.handshakes = Turns(loop)
        self._due: list[Connection] = []  # to expire
        self._expiries = Turns(loop)
        self._refused: str | None = None  # why a client could not be let in
        self._refused_at = 0.0
        self._crowded = ""  # who had to give way lately, and what
        self._crowded_until = 0.0
        self._look()

    def start(self, listener: socket.socket) -> None:
        """Accept clients of a socket that listens."""
        self.listener = listener
        listener.setblocking(False)
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
        self.now = self.loop.time()  # so that who comes in a crowd and who was there before can be told apart
        if self._seat is not None and self._lets_others(self._seat):
            return
        free = self._places - len(self.connections) - len(self._arriving)
        if free <= self._places // PLACES_FREE:
            self._make_places(free)
        for _ in range(min(free, ACCEPT_AT_ONCE if self._seat is None else ACCEPT_OF_SHARED)):
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

    def _lets_others(self, seat: Seat) -> bool:
        """Where another front has fewer clients, it goes first; unless it does not, because it is busy or hangs."""
        seat.count(len(self.connections) + len(self._arriving))
        if self._others_went or not seat.is_ahead():
            self._others_went = False
            return False
        self._others_went = True
        self._accept_no_more()
        self.loop.call_later(LET_OTHERS_S, self._accept_more)
        return True

    def _make_places(self, free: int) -> None:
        """Before the last one is taken, so that a crowd at the door need not wait for those who leave."""
        asked = self.shares.make_places(1 + self._places // PLACES_FREE)
        if free <= 0:
            self._accept_no_more()  # until one has left
            if not asked:
                self.loop.call_later(BUSY_S, self._accept_more)

    async def _arrive(self, client: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(self._connection, client)
        except OSError as error:
            client.close()
            if error.errno in _SHORT:
                self._refuse_for(error)
        except Exception:  # one client's trouble
            log.exception("a client could not be let in")
            client.close()

    def _connection(self) -> asyncio.Protocol:
        connection = Connection(self)
        return connection if self.tls is None else Tls(self, connection, self.tls)

    def _refuse_for(self, error: OSError) -> None:
        if self._refused is None:  # once, however long it lasts
            log.error("no client can be let in; it is tried again", extra={"error": str(error)})
        self._refused, self._refused_at = error.strerror or str(error), self.now

    def joined(self, connection: Connection) -> None:
        """A connection is there."""
        self.connections.add(connection)
        if self._hurrying:
            connection.stop()

    def left(self, connection: Connection) -> None:
        """A connection has ended: its place is free."""
        self.connections.discard(connection)
        if self._seat is not None and not self.stopping:
            self._seat.count(len(self.connections) + len(self._arriving))
        self._accept_more()

    def go_on_soon(self, connection: Connection) -> None:
        """Give the connection its turn, after those that came before it."""

        def go_on() -> bool:
            alone(connection, connection.go_on)
            return False

        self._turns.take(go_on)

    def _look(self) -> None:
        self.now = self.loop.time()
        self.date = formatdate(time.time(), usegmt=True)

    def _sweep(self) -> None:
        self._look()
        if not self.stopping or self.connections:
            self.loop.call_later(SWEEP_S, self._sweep)
        if not self._due:
            self._due = [connection for connection in self.connections if self.now > connection.deadline]
            self._expiries.take(self._expire_one)
        self._tell()
        self._accept_more()

    def _expire_one(self) -> bool:
        """Thousands may be due at once. Whether there is another one."""
        if self._due:
            connection = self._due.pop()
            if self.now > connection.deadline:  # it may have gone on since the sweep
                alone(connection, connection.expire)
        return bool(self._due)

    def _tell(self) -> None:
        """That clients had to give way, or can come in again, is no secret."""
        if self._refused is not None and self.now - self._refused_at > 2 * SWEEP_S:
            log.info("clients are let in again")
            self._refused = None
        gave_way = self.shares.gave_way
        if gave_way and self.now >= self._crowded_until:
            told = ", ".join(f"{clients:,} gave up {what}" for what, clients in sorted(gave_way.items()))
            self._crowded = f"there is not room for all clients: {told}"
            self._crowded_until = self.now + TOLD_S
            log.warning(self._crowded, extra={"connections": len(self.connections), "bytes_kept": self.shares.used})
            gave_way.clear()

    def trouble(self) -> Trouble | None:
        """Why no further client is let in, or that some had to give way lately. Those that are there are served."""
        if self._refused is not None:
            return Trouble(f"no further client can be let in: {self._refused}")
        return Trouble(self._crowded) if self.now < self._crowded_until else None

    async def retire(self) -> None:
        """Accept no more; those that are connected go in their own time, each with its next answer."""
        self._accept_none()
        await self._all_gone(limits.FRONT_LEAVE_S)

    async def stop(self, gently_s: float = 0.0) -> None:
        """Accept no more; requests that are whole get their answers, within a bounded time. Before that, those that are
        connected may go in their own time, for so long."""
        self._accept_none()
        await self._all_gone(gently_s)
        self.hurry()
        await self._all_gone(limits.LINGER_S)

    def hurry(self) -> None:
        """Whoever has sent no whole request goes now."""
        self._hurrying = True
        for connection in list(self.connections):
            alone(connection, connection.stop)

    def _accept_none(self) -> None:
        self.stopping = True
        self._accept_no_more()
        self.listener.close()
        if self._seat is not None:
            self._seat.leave()
        self._leaving()

    async def _all_gone(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while (self.connections or self._arriving) and self.loop.time() < until:
            await asyncio.sleep(0.01)


def _bytes_of(processes: int) -> int:
    """That each of so many may keep for its clients."""
    if processes == 1:
        return limits.MAX_KEPT_BYTES
    return max(limits.MAX_KEPT_BYTES // processes, limits.FRONT_KEPT_BYTES)
