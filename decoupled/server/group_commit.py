"""Group commit: everything that waits to be written (sends, claims, settlements) goes into one transaction and one
fsync. While it is on its way to the disk the next group gathers, in the sockets.

    requests ── send ──┐                                                 ┌─▶ 202
    poller ──── run ───┴─▶ BEGIN, statements, COMMIT with its fsync ─────┴─▶ batches for the workers

A send starts a transaction as soon as the loop has read what is there. Other operations can wait a moment for one: on a
busy server their commits then cost nothing. All of it happens in the event loop's thread: with a thread for the commit,
the two waited longer for Python's lock than the disk takes.

A group that meets a damaged place of the store goes again without the part that led there. While another process holds
the store's lock the group waits, and the loop does not.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from decoupled.core import limits, tracing
from decoupled.core.outcomes import Delivery, NotSent, Together
from decoupled.core.workload import Message
from decoupled.engines.protocols import Feed, StoreBusy, StoreDamaged, StoreUnavailable, Transactions
from decoupled.server.counting import Counting
from decoupled.server.door import Sent
from decoupled.server.group import Group, Operation, Send
from decoupled.server.health import Trouble

T = TypeVar("T")

log = logging.getLogger("decoupled.writer")

BUSY_S = 1.0  # after a request, transactions are kept short for the next one,
BUSY_SPARE = 64  # by handing out at most so many messages
CREDIT = 0.875  # messages handed out of a long queue for each that joins it: claiming costs more than handing on,
CREDIT_AT_ONCE = 0.04  # and for each that is handed out without joining it: a long queue still gets shorter
ENOUGH_CREDIT = 10.0  # to make a claim of an old message's pages worth its while
SATURATED_S = 0.01  # after the last request: the next one is already on its way
MAX_CREDIT = 1_024.0  # saved up while nothing waits, and enough to catch up with a short queue
GATHER_S = 0.002  # how long an operation that is not a send may wait for one to share its commit with
LOCK_PAUSE_S = 0.002  # before the lock of another process is asked for again, doubled each time,
LOCK_PAUSE_MOST_S = 0.05  # up to this
REFUSED_IN_A_ROW = 10  # sends that met damage, and none that did not: then it is where all of them have to go


class _Damaged(Exception):  # noqa: N818  what a part of a group led to
    """One part met damage; if neither is named, one of the sends did, which were made together."""

    def __init__(self, error: StoreDamaged, send: Send | None = None, operation: Operation | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.send = send
        self.operation = operation


class Taker(Protocol):
    """Who takes messages off the queue, and may be given them in the transaction that puts them on it."""

    visibility_timeout_s: float

    def take(self, fresh: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
        """Which of the fresh messages it takes at once, and which it leaves on the queue."""
        ...

    def sent(self, claimed: list[Delivery]) -> None:
        """Sends are on the disk, and these of them in flight."""
        ...


class Writer:
    """The only one who writes while the server runs."""

    def __init__(
        self, store: Transactions, queue: Feed, loop: asyncio.AbstractEventLoop, counting: Counting | None = None
    ) -> None:
        self.store = store
        self.queue = queue
        self.loop = loop
        self.counting = counting or Counting()
        self.failure: str | None = None  # why the last transaction failed, until one succeeds
        self.taker: Taker  # set before the first send
        self.began_ns = 0  # when the last transaction did, where there are traces
        self._accepting = 0  # messages that the transaction now being made puts on the queue
        self._accepted_before = 0  # and the one before it
        self._last_send = -math.inf
        self._credit = 0.0  # messages that may be handed out for those that were accepted
        self._gathering = Group()
        self._soon: asyncio.Handle | None = None
        self._locked_since: float | None = None  # by another process
        self._lock_pause_s = LOCK_PAUSE_S
        self._damaged_sends = 0  # in a row

    def send(self, messages: Sequence[Message], sent: Sent) -> None:
        """Put messages on the queue: all or none, but for those that are refused each for itself."""
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

    def sends_wait(self) -> bool:
        """Whether messages that it was given are not written yet."""
        return bool(self._gathering.sends)

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
        """Why requests are refused, or are about to be; None while they are written."""
        if self._locked_since is not None:
            seconds = self.loop.time() - self._locked_since
            why = f"another process has held the lock of the database for {seconds:.1f} s"
            return Trouble(why, refuses=self.failure is not None)
        if self._damaged_sends >= REFUSED_IN_A_ROW:
            return Trouble("where new messages go, the database is damaged", refuses=True)
        return None if self.failure is None else Trouble(self.failure, refuses=True)

    def _cancel(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    def _write(self) -> None:
        self._soon = None
        if tracing.active is not None:
            self.began_ns = time.time_ns()
        group = self._gathering
        later: list[Send] = []
        try:
            self.store.begin()
            later = group.cut()
            self._fill(group)
            began = time.perf_counter()
            self.store.commit()
        except StoreBusy as busy:
            self._wait_for_lock(group, busy)
        except _Damaged as found:
            self.store.roll_back()
            self._leave_out(group, found)
        except Exception as error:  # whatever it was, those who wait are told
            if not isinstance(error, StoreUnavailable):
                log.exception("a transaction could not be made")
            self.store.roll_back()
            self._failed(group, error)
        else:
            self.counting.committed(self.store.added, time.perf_counter() - began)
            self._succeeded(group)
        finally:
            for messages, sent in later:
                self.send(messages, sent)

    # --- one transaction ------------------------------------------------------

    def _fill(self, group: Group) -> None:
        self._accepted_before = self._accepting
        self._accepting = sum(len(messages) for messages, _ in group.sends)
        if group.sends:
            self._last_send = self.loop.time()
            one_by_one = group.one_by_one or len(group.sends) == 1
            group.claimed, group.refused = [], {}
            for sends in [[send] for send in group.sends] if one_by_one else [group.sends]:
                try:
                    self._insert([message for messages, _ in sends for message in messages], group)
                except StoreDamaged as error:
                    raise _Damaged(error, send=sends[0] if one_by_one else None) from error
        group.results = [self._attempt(operation) for operation in group.operations]

    def _insert(self, messages: Sequence[Message], group: Group) -> None:
        at_once, later = self.taker.take(messages)
        if at_once:
            group.claimed += self.queue.send_claimed(at_once, self.taker.visibility_timeout_s, group.refuse)
        if later and any(outcomes := self.queue.send(later)):
            for message, outcome in zip(later, outcomes, strict=True):
                if outcome is not None:
                    group.refuse(message, outcome)
        earned = len(at_once) * CREDIT_AT_ONCE + len(later) * CREDIT
        self._credit = min(self._credit + earned, MAX_CREDIT)

    def _attempt(self, operation: Operation) -> tuple[Any, Exception | None]:
        try:
            with self.store.savepoint():
                return operation[0](), None
        except StoreDamaged as error:
            raise _Damaged(error, operation=operation) from error
        except Exception as error:
            if not self.store.in_transaction:
                raise StoreUnavailable(str(error)) from error  # SQLite gave up the transaction as a whole
            return None, error

    # --- what came of it ------------------------------------------------------

    def _succeeded(self, group: Group) -> None:
        self._gathering = Group()
        self.failure = None
        if self._locked_since is not None:
            self._unlocked(self._locked_since)
        for messages, sent in group.sends:
            self._tell(sent, group.outcome(messages))
        if tracing.active is not None:
            accepted = [message.trace for messages, _ in group.sends for message in messages if message.trace]
            tracing.committed(accepted, "messages", self.began_ns)
        for (_, waiting), (result, error) in zip(group.operations, group.results, strict=True):
            if waiting.done():
                continue
            if error is None:
                waiting.set_result(result)
            else:
                waiting.set_exception(error)
        if group.sends:
            self._damaged_sends = 0
            self.taker.sent(group.claimed)

    def _failed(self, group: Group, error: Exception) -> None:
        self._gathering = Group()
        self.failure = str(error)
        if not isinstance(error, StoreUnavailable):
            error = StoreUnavailable(str(error))
        for _, sent in group.sends:
            self._tell(sent, NotSent(f"the queue cannot be written: {error}", unknown=error.unknown))
        for _, waiting in group.operations:
            if not waiting.done():
                waiting.set_exception(error)

    def _leave_out(self, group: Group, found: _Damaged) -> None:
        """The part that met damage is told so. The others go again without it, in a moment: nothing of them is done."""
        if found.operation is not None:
            group.operations.remove(found.operation)
        elif found.send is not None:
            group.sends.remove(found.send)
            self._damaged_sends += 1
        else:
            group.one_by_one = True
        if group.sends or group.operations:
            self._soon = self.loop.call_soon(self._write)
        if found.send is not None:
            self._tell(found.send[1], NotSent(f"the queue cannot be written: {found.error}"))
        if found.operation is not None and not found.operation[1].done():
            found.operation[1].set_exception(found.error)

    def _wait_for_lock(self, group: Group, busy: StoreBusy) -> None:
        """Nothing is begun, and what comes meanwhile joins the group. Nobody waits for longer than LOCK_WAIT_S."""
        now = self.loop.time()
        if self._locked_since is None:
            self._locked_since = now
        if group.refuse_at is None:
            group.refuse_at = now + limits.LOCK_WAIT_S
        if now < group.refuse_at:
            self._soon = self.loop.call_later(self._lock_pause_s, self._write)
            self._lock_pause_s = min(self._lock_pause_s * 2, LOCK_PAUSE_MOST_S)
            return
        if self.failure is None:
            log.error("another process holds the lock of the database; requests are refused")
        self._failed(group, busy)

    def _unlocked(self, since: float) -> None:
        seconds = self.loop.time() - since
        if seconds >= limits.LOCK_WAIT_S:
            log.warning("another process has let go of the lock", extra={"after_s": round(seconds, 1)})
        self._locked_since = None
        self._lock_pause_s = LOCK_PAUSE_S

    def _tell(self, sent: Sent, outcome: Together) -> None:
        try:
            sent(outcome)
        except Exception:  # one client's trouble must not keep the answer from the others
            log.exception("an answer could not be given")
