"""The back: deliveries become stored results. Decides what each message comes to, commits that in one atomic step each
(`settlement.py`), and gives back only what must be tried again.

    deliveries → decide (pure) → settle (commit, or count and put off, or bury) → what to deliver again

A message delivered for the first time is decided with its batch. One that was delivered before may be what killed the
last attempt, so it is marked before it is touched, and goes alone:

    deliveries ─┬─ first ──────▶ decide all ──▶ settle all, concurrently
                └─ again, each ▶ begin_attempt ▶ decide ▶ settle        the mark outlives a crash

Messages of an ordered workload go in rounds (`rounds.py`).

What calls others and waits for them is decided at once (`concurrently.py`); of what was delivered before, that of which
every start so far has returned: one that did not is alone from then on.
"""

from __future__ import annotations

import signal
import threading
from _signal import getsignal  # type: ignore[import-not-found]  # without the search for a name of what it finds
from collections.abc import Callable, Sequence
from time import perf_counter
from types import FrameType
from typing import Any

import msgspec

from decoupled.core import tracing
from decoupled.core.effects import encode
from decoupled.core.metrics import Numbers
from decoupled.core.outcomes import Decision, Delivery, Failure, Reject
from decoupled.core.status import FINAL
from decoupled.core.workload import Message, Rejected, Unavailable, Workload, Workloads, decoder
from decoupled.engines.protocols import Queue, Table
from decoupled.pipeline import blame, network
from decoupled.pipeline.rounds import Store, process_in_order
from decoupled.pipeline.settlement import Policy, bury_again, settle, settle_duplicate

TIME_RESERVED_S = 3.0  # of the function's time, for committing what was decided: a store's time-out and one retry
INTERRUPT_AGAIN_S = 1.0  # a workload that caught the interruption itself is interrupted again


def process(
    deliveries: Sequence[Delivery],
    queue: Queue,
    table: Table,
    workloads: Workloads,
    policy: Policy,
    remaining_s: Callable[[], float],
    tally: Numbers | None = None,
) -> list[Delivery]:
    """Process a batch within the time that remains. Returns the deliveries that must be made again, only. `tally`: see
    `settle`; and how long each decision took, of those that are made at once as long as all of them."""
    time_s = remaining_s()
    reserved_s = min(TIME_RESERVED_S, time_s / 4)  # a short function timeout still leaves time to process

    def took(began: float, some: Sequence[Delivery]) -> None:
        if tally is not None:
            for delivery in some:
                tally.observe("processing_seconds", perf_counter() - began, delivery.message.workload)

    def decide_one(delivery: Delivery) -> Decision:
        began = perf_counter()
        alone = decide_traced if delivery.message.trace else decide
        decision = alone(delivery.message, workloads, remaining_s() - reserved_s, whole_s=time_s - reserved_s)
        took(began, [delivery])
        return policy.runs.judge(delivery, decision)

    def decide_each(some: Sequence[Delivery]) -> list[tuple[Delivery, Decision]]:
        together = [delivery for delivery in some if _is_concurrent(delivery, workloads)]
        decided = [(delivery, decide_one(delivery)) for delivery in some if not _is_concurrent(delivery, workloads)]
        if together:
            began, messages = perf_counter(), [delivery.message for delivery in together]
            decisions = _at_once(messages, workloads, remaining_s() - reserved_s, time_s - reserved_s)
            took(began, together)
            decided += [(it, policy.runs.judge(it, decision)) for it, decision in zip(together, decisions, strict=True)]
        return decided

    def store(decided: Sequence[tuple[Delivery, Decision]], begun: bool = False) -> list[Delivery]:
        return settle(decided, queue, table, policy, begun, tally)

    def process_some(deliveries: Sequence[Delivery]) -> list[Delivery]:
        first = [delivery for delivery in deliveries if delivery.receive_count == 1]
        again = [delivery for delivery in deliveries if delivery.receive_count > 1]
        failed = store(decide_each(first))
        company, more = _process_again(again, decide_one, store, workloads, queue, table, policy, remaining_s)
        return failed + more + store(decide_each(company), begun=True)

    failed = process_some([delivery for delivery in deliveries if not _is_ordered(delivery, workloads)])
    in_order = [delivery for delivery in deliveries if _is_ordered(delivery, workloads)]
    return failed + process_in_order(in_order, process_some, store)


def _is_concurrent(delivery: Delivery, workloads: Workloads) -> bool:
    workload = workloads.get(delivery.message.workload)
    return workload is not None and workload.concurrent


def _is_ordered(delivery: Delivery, workloads: Workloads) -> bool:
    workload = workloads.get(delivery.message.workload)
    return workload is not None and workload.ordered


def _process_again(
    suspects: Sequence[Delivery],
    decide_one: Callable[[Delivery], Decision],
    store: Store,
    workloads: Workloads,
    queue: Queue,
    table: Table,
    policy: Policy,
    remaining_s: Callable[[], float],
) -> tuple[list[Delivery], list[Delivery]]:
    """Process each alone. Returns those that may go together all the same, whose start is counted, and those to deliver
    again."""
    company: list[Delivery] = []
    failed: list[Delivery] = []
    sick: Failure | None = None  # the table's last answer; once it is sick, the rest need not wait for its time-outs
    for delivery in suspects:
        if sick is not None:
            failed += store([(delivery, sick)])
            continue
        try:
            record = table.begin_attempt(delivery)
        except Unavailable as error:
            sick = blame.unavailable(error)
            failed += store([(delivery, sick)], begun=True)  # it may have been counted
            continue
        if record.status in FINAL:
            failed += settle_duplicate(delivery, queue, table, policy)
        elif record.status == "dead" and _is_ordered(delivery, workloads):
            failed += bury_again(delivery, record, queue, table, policy)
        elif record.attempts == 1 and _is_concurrent(delivery, workloads):
            company.append(delivery)
        else:
            if policy.span_s and record.attempts > 1:  # should it kill this process, it is not to come back too soon
                queue.retry_later([(delivery, remaining_s() + policy.pause_s(record.attempts - 1, None))])
            culprit = blame.never_returned(record, delivery.receive_count, policy.max_attempts)
            failed += store([(delivery, culprit or decide_one(delivery))], begun=True)
    return company, failed


# --- decide: pure -------------------------------------------------------------


def decide(message: Message, workloads: Workloads, limit_s: float, whole_s: float | None = None) -> Decision:
    """What a message comes to, within `limit_s` seconds. Never raises: a workload's exceptions are verdicts.

    `whole_s` is the time that the batch had, if messages before this one used some of it."""
    opened = open_entry(message, workloads, limit_s)
    if isinstance(opened, Failure):
        return opened
    workload, entry = opened
    if workload.is_async:
        return _at_once([message], workloads, limit_s, whole_s)[0]
    try:
        with TimeLimit(limit_s):
            effects = workload.process(entry, message)
        return encode(effects, message, workloads)  # type: ignore[arg-type]  # it is no coroutine function
    except RAISED as error:
        return verdict(error, limit_s, whole_s)


def decide_traced(message: Message, workloads: Workloads, limit_s: float, whole_s: float | None = None) -> Decision:
    """As `decide`, for a message that carries the context of a trace."""
    if (workload := workloads.get(message.workload)) and workload.is_async:  # which sees to that itself
        return decide(message, workloads, limit_s, whole_s)
    return tracing.traced(message, lambda it: decide(it, workloads, limit_s, whole_s))


def _at_once(
    messages: Sequence[Message], workloads: Workloads, limit_s: float, whole_s: float | None
) -> list[Decision]:
    from decoupled.pipeline import concurrently  # asyncio, which others need not wait for

    return concurrently.decide_all(messages, workloads, limit_s, whole_s)


def open_entry(message: Message, workloads: Workloads, limit_s: float) -> tuple[Workload, Any] | Failure:
    """The workload of a message and its entry, or why it cannot be decided."""
    if limit_s <= 0:
        return blame.NOT_STARTED
    if not message.workload:
        return blame.NOT_OURS
    workload = workloads.get(message.workload)
    if workload is None:
        return blame.unknown_workload(message.workload)
    try:
        return workload, decoder(workload.schema).decode(message.body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return blame.undecodable(error)
    except Exception as error:  # noqa: BLE001  the schema's own checks raised what is no verdict on the entry
        return blame.raised(error)


def verdict(error: BaseException, limit_s: float, whole_s: float | None) -> Decision:
    """What an exception comes to that a workload raised, or that interrupted it. A group of one, as asyncio.TaskGroup
    raises it, is that one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, Rejected):
        return Reject(blame.text(error))
    if isinstance(error, TimeLimitExceeded):
        return blame.out_of_time(limit_s, whole_s, error.waiting)
    return blame.raised(error)


class TimeLimitExceeded(BaseException):
    """`waiting`: what was interrupted waited for the network."""

    def __init__(self, waiting: bool) -> None:
        super().__init__()
        self.waiting = waiting


_SIGALRM = int(signal.SIGALRM)

RAISED = (Exception, SystemExit, TimeLimitExceeded)
"""The edge: of what a workload raises, what is a verdict."""

Interrupt = Callable[[int, FrameType | None], None]
"""A handler of SIGALRM, which may raise TimeLimitExceeded in what runs in the main thread."""


class _Alarm:
    """The one that a process has, and that only its main thread can be interrupted by."""

    of_batch = False  # it is set, for all messages of a batch
    of_message = False  # a workload runs, and may be interrupted; our own code may not


class BatchLimit:
    """Around the messages of a batch that have their time together: its alarm is set once, and not for each. A workload
    that sets one itself takes it away from those behind it; then the main process sees to one that hangs."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds if _in_main_thread() else 0.0

    def __enter__(self) -> None:
        if self._seconds:
            _set(self._seconds, _interrupt_workload)
            _Alarm.of_batch = True

    def __exit__(self, *_: object) -> None:
        if self._seconds:
            _Alarm.of_batch = _Alarm.of_message = False
            signal.setitimer(signal.ITIMER_REAL, 0)


class TimeLimit:
    """Interrupt what runs longer than that, or than its batch may. Only the main thread can be interrupted, and there a
    function runs. The handler stays in place: setting it anew for each message would cost more than most messages take.
    """

    __slots__ = ("_handler", "_seconds")

    def __init__(self, seconds: float, handler: Interrupt | None = None) -> None:
        self._handler = handler or _interrupt_workload
        self._seconds = seconds if _in_main_thread() else 0.0

    def __enter__(self) -> None:
        if self._seconds:
            if not _Alarm.of_batch or getsignal(_SIGALRM) is not self._handler:
                _Alarm.of_batch = False
                _set(self._seconds, self._handler)
            _Alarm.of_message = True

    def __exit__(self, *_: object) -> None:
        if self._seconds:
            _Alarm.of_message = False
            if not _Alarm.of_batch:
                signal.setitimer(signal.ITIMER_REAL, 0)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _set(seconds: float, handler: Interrupt) -> None:
    if getsignal(_SIGALRM) is not handler:
        signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, INTERRUPT_AGAIN_S)


def interrupt(_signal: int, frame: FrameType | None) -> None:
    raise TimeLimitExceeded(network.waits(network.stack(frame)))


def _interrupt_workload(number: int, frame: FrameType | None) -> None:
    if _Alarm.of_message:
        interrupt(number, frame)
