"""Group commit: everything that waits to be written (sends, claims, settlements, releases) goes into one transaction
and one fsync. It runs in the event loop's own thread, which measured faster than a thread of its own; while it waits
for the disk, the next group gathers in the sockets.

    requests ── send ──┐                          ┌─▶ 202
    poller ──── run ───┴─▶ one transaction, fsync ┴─▶ batches for the workers

A send starts a commit as soon as the loop has read every socket that is ready. Other operations can wait a moment for
one: on a busy server their commits then cost nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from decoupled.embedded.database import Database, StoreUnavailable
from decoupled.embedded.queue import SqliteQueue
from decoupled.engine import NotSent
from decoupled.workload import Message

T = TypeVar("T")

GATHER_S = 0.002  # how long an operation that is not a send may wait for one to share its commit with


class Writer:
    """The only caller of the database's transactions while the server runs."""

    def __init__(self, database: Database, queue: SqliteQueue, loop: asyncio.AbstractEventLoop) -> None:
        self.database = database
        self.queue = queue
        self.loop = loop
        self.failure: str | None = None  # why the last transaction failed, until one succeeds
        self._sends: list[tuple[Sequence[Message], asyncio.Future[NotSent | None]]] = []
        self._operations: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._flush_soon = False
        self.on_sent: Callable[[], None] = lambda: None

    def send(self, messages: Sequence[Message]) -> asyncio.Future[NotSent | None]:
        """Resolves when all of the messages are on the disk, or none is."""
        future: asyncio.Future[NotSent | None] = self.loop.create_future()
        self._sends.append((messages, future))
        if not self._flush_soon:
            self._flush_soon = True
            self.loop.call_soon(self._flush)
        return future

    def run(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        """Resolves to what the operation returns, once that is on the disk. It is undone alone if it raises; its future
        fails with that error, or with StoreUnavailable when the transaction as a whole failed."""
        future: asyncio.Future[T] = self.loop.create_future()
        self._operations.append((operation, future))
        if not self._flush_soon and self._timer is None:
            self._timer = self.loop.call_later(GATHER_S, self._flush)
        return future

    def _flush(self) -> None:
        self._flush_soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sends, self._sends = self._sends, []
        operations, self._operations = self._operations, []
        try:
            with self.database.transaction():
                if sends:
                    self.queue.insert([message for messages, _ in sends for message in messages])
                results = [(future, *self._attempt(operation)) for operation, future in operations]
        except StoreUnavailable as error:
            self._fail(error, sends, operations)
            return
        self.failure = None
        for _, future in sends:
            if not future.done():  # its client may have gone away
                future.set_result(None)
        for future, result, refusal in results:
            if not future.done():
                future.set_result(result) if refusal is None else future.set_exception(refusal)
        if sends:
            self.on_sent()

    def _attempt(self, operation: Callable[[], T]) -> tuple[T | None, Exception | None]:
        try:
            with self.database.savepoint():
                return operation(), None
        except Exception as error:
            if not self.database.connection.in_transaction:
                raise StoreUnavailable(str(error)) from error  # SQLite gave up the whole transaction
            return None, error

    def _fail(
        self,
        error: StoreUnavailable,
        sends: Sequence[tuple[Sequence[Message], asyncio.Future[NotSent | None]]],
        operations: Sequence[tuple[Callable[[], Any], asyncio.Future[Any]]],
    ) -> None:
        self.failure = str(error)
        for _, waiting in sends:
            if not waiting.done():
                waiting.set_result(NotSent(f"the queue cannot be written: {error}", unknown=error.unknown))
        for _, future in operations:
            if not future.done():
                future.set_exception(StoreUnavailable(str(error), error.unknown))
