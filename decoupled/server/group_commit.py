"""Group commit: everything that waits to be written (sends, claims, settlements) goes into one transaction and one
fsync. While it is on its way to the disk the next group gathers, in the sockets.

    requests ── send ──┐                                                 ┌─▶ 202
    poller ──── run ───┴─▶ BEGIN, statements, COMMIT with its fsync ─────┴─▶ batches for the workers

A send starts a transaction as soon as the loop has read what is there. Other operations can wait a moment for one: on a
busy server their commits then cost nothing. All of it happens in the event loop's thread: with a thread for the commit,
the two waited longer for Python's lock than the disk takes.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from decoupled.core.outcomes import Delivery, NotSent
from decoupled.core.workload import Message
from decoupled.engines.protocols import Feed, StoreUnavailable, Transactions
from decoupled.server.health import Trouble

T = TypeVar("T")
Sent = Callable[[NotSent | None], None]
"""Told once: None when all of the messages are on the disk, or why none is."""

log = logging.getLogger("decoupled.writer")

BUSY_S = 1.0  # after a request, transactions are kept short for the next one,
BUSY_SPARE = 64  # by handing out at most so many messages
CREDIT = 0.875  # messages handed out of a long queue for each that joins it: claiming costs more than handing on,
CREDIT_AT_ONCE = 0.04  # and for each that is handed out without joining it: a long queue still gets shorter
ENOUGH_CREDIT = 10.0  # to make a claim of an old message's pages worth its while
SATURATED_S = 0.01  # after the last request: the next one is already on its way
MAX_CREDIT = 1_024.0  # saved up while nothing waits, and enough to catch up with a short queue
GATHER_S = 0.002  # how long an operation that is not a send may wait for one to share its commit with


@dataclass(slots=True)
class _Group:
    """What one transaction holds, and who waits for it."""

    sends: list[tuple[Sequence[Message], Sent]] = field(default_factory=list)
    operations: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = field(default_factory=list)
    results: list[tuple[Any, Exception | None]] = field(default_factory=list)  # of the operations
    claimed: list[Delivery] = field(default_factory=list)  # of the sends, handed out at once


class Taker(Protocol):
    """Who takes messages off the queue, and may be given them in the transaction that puts them on it."""

    visibility_timeout_s: float

    def take(self, fresh: int) -> int:
        """How many of the fresh messages it takes at once."""
        ...

    def sent(self, claimed: list[Delivery]) -> None:
        """Sends are on the disk, and these of them in flight."""
        ...


class Writer:
    """The only one who writes while the server runs."""

    def __init__(self, store: Transactions, queue: Feed, loop: asyncio.AbstractEventLoop) -> None:
        self.store = store
        self.queue = queue
        self.loop = loop
        self.failure: str | None = None  # why the last transaction failed, until one succeeds
        self.taker: Taker  # set before the first send
        self._accepting = 0  # messages that the transaction now being made puts on the queue
        self._accepted_before = 0  # and the one before it
        self._last_send = -math.inf
        self._credit = 0.0  # messages that may be handed out for those that were accepted
        self._gathering = _Group()
        self._soon: asyncio.Handle | None = None

    def send(self, messages: Sequence[Message], sent: Sent) -> None:
        """Put messages on the queue, all or none."""
        if not self._gathering.sends:
            self._cancel()
            self._soon = self.loop.call_soon(self._write)
        self._gathering.sends.append((messages, sent))

    def run(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        """Resolves to what the operation returns, once that is on the disk. It is undone alone if it raises; its future
        fails with that error, or with StoreUnavailable when the transaction as a whole failed."""
        future: asyncio.Future[T] = self.loop.create_future()
        self._gathering.operations.append((operation, future))
        if self._soon is None:
            self._soon = self.loop.call_later(GATHER_S, self._write)
        return future

    def gives_way(self) -> bool:
        """Whether claims should wait a moment: requests come without a pause, and have not earned a claim yet."""
        if not (self._accepting and self._accepted_before) or self._credit >= ENOUGH_CREDIT:
            return False
        return self.loop.time() - self._last_send < SATURATED_S

    def take_spare(self, wanted: int) -> int:
        """How many of the wanted messages the transaction now being made may hand out. The front comes first: while
        requests come, no more is handed out than is accepted, so that a long queue does not slow what joins it."""
        if self._accepting or self._accepted_before:
            taken = min(wanted, int(self._credit) + 1)
            self._credit = max(0.0, self._credit - taken)
            return taken
        return min(wanted, BUSY_SPARE) if self.loop.time() - self._last_send < BUSY_S else wanted

    def trouble(self) -> Trouble | None:
        """Why requests are refused; None while they are written."""
        return None if self.failure is None else Trouble(self.failure, refuses=True)

    def _cancel(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    def _write(self) -> None:
        self._soon = None
        group, self._gathering = self._gathering, _Group()
        try:
            self.store.begin()
            self._accepted_before = self._accepting
            self._accepting = sum(len(messages) for messages, _ in group.sends)
            if group.sends:
                self._last_send = self.loop.time()
                self._insert(group)
            group.results = [self._attempt(operation) for operation, _ in group.operations]
            self.store.commit()
        except Exception as error:  # whatever it was, those who wait are told
            if not isinstance(error, StoreUnavailable):
                log.exception("a transaction could not be made")
            self.store.roll_back()
            self._failed(group, error)
            return
        self._succeeded(group)

    def _insert(self, group: _Group) -> None:
        messages = [message for messages, _ in group.sends for message in messages]
        at_once = self.taker.take(len(messages))
        if at_once:
            group.claimed = self.queue.send_claimed(messages[:at_once], self.taker.visibility_timeout_s)
        if len(messages) > at_once:
            self.queue.send(messages[at_once:])
        earned = at_once * CREDIT_AT_ONCE + (len(messages) - at_once) * CREDIT
        self._credit = min(self._credit + earned, MAX_CREDIT)

    def _attempt(self, operation: Callable[[], Any]) -> tuple[Any, Exception | None]:
        try:
            with self.store.savepoint():
                return operation(), None
        except Exception as error:
            if not self.store.in_transaction:
                raise StoreUnavailable(str(error)) from error  # SQLite gave up the transaction as a whole
            return None, error

    def _succeeded(self, group: _Group) -> None:
        self.failure = None
        self._tell(group, None)
        for (_, waiting), (result, error) in zip(group.operations, group.results, strict=True):
            if waiting.done():
                continue
            if error is None:
                waiting.set_result(result)
            else:
                waiting.set_exception(error)
        if group.sends:
            self.taker.sent(group.claimed)

    def _failed(self, group: _Group, error: Exception) -> None:
        self.failure = str(error)
        unknown = isinstance(error, StoreUnavailable) and error.unknown
        self._tell(group, NotSent(f"the queue cannot be written: {error}", unknown=unknown))
        for _, waiting in group.operations:
            if not waiting.done():
                waiting.set_exception(StoreUnavailable(str(error), unknown))

    def _tell(self, group: _Group, outcome: NotSent | None) -> None:
        for _, sent in group.sends:
            try:
                sent(outcome)
            except Exception:  # one client's trouble must not keep the answer from the others
                log.exception("an answer could not be given")
