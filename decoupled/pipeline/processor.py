"""The back: deliveries become stored results. Decides what each message comes to, commits that in one atomic step each
(`settlement.py`), and gives back only what must be tried again.

    deliveries → decide (pure) → settle (commit, or count and put off, or bury) → what to deliver again

A message delivered for the first time is decided with its batch. One that was delivered before may be what killed the
last attempt, so it is marked before it is touched, and goes alone:

    deliveries ─┬─ first ──────▶ decide all ──▶ settle all, concurrently
                └─ again, each ▶ begin_attempt ▶ decide ▶ settle        the mark outlives a crash

Messages of an ordered workload go in rounds, the next one of each group in each: none before the one ahead of it is
finished.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Collection, Sequence
from types import FrameType

import msgspec

from decoupled.core.effects import encode
from decoupled.core.outcomes import Decision, Delivery, Failure, Reject
from decoupled.core.status import FINAL
from decoupled.core.workload import Message, Rejected, Unavailable, Workloads, decoder
from decoupled.engines.protocols import Queue, Table
from decoupled.pipeline import blame, network
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
) -> list[Delivery]:
    """Process a batch within the time that remains. Returns the deliveries that must be made again, only."""
    time_s = remaining_s()
    reserved_s = min(TIME_RESERVED_S, time_s / 4)  # a short function timeout still leaves time to process

    def decide_one(delivery: Delivery) -> Decision:
        decision = decide(delivery.message, workloads, remaining_s() - reserved_s, whole_s=time_s - reserved_s)
        return policy.runs.judge(delivery, decision)

    def process_some(deliveries: Sequence[Delivery]) -> list[Delivery]:
        first = [delivery for delivery in deliveries if delivery.receive_count == 1]
        again = [delivery for delivery in deliveries if delivery.receive_count > 1]
        failed = settle([(delivery, decide_one(delivery)) for delivery in first], queue, table, policy)
        return failed + _process_again(again, decide_one, queue, table, policy, ordered, remaining_s)

    ordered = {name for name, workload in workloads.items() if workload.ordered}
    failed = process_some([delivery for delivery in deliveries if delivery.message.workload not in ordered])
    in_order = [delivery for delivery in deliveries if delivery.message.workload in ordered]
    return failed + _process_in_order(in_order, process_some, queue, table, policy)


def _process_in_order(
    deliveries: Sequence[Delivery],
    process_some: Callable[[Sequence[Delivery]], list[Delivery]],
    queue: Queue,
    table: Table,
    policy: Policy,
) -> list[Delivery]:
    """Once a message has to be delivered again, those of its group behind it are given back as they are."""
    waiting: dict[tuple[str, str], list[Delivery]] = {}
    for delivery in deliveries:
        waiting.setdefault((delivery.message.workload, delivery.message.group), []).append(delivery)
    failed: list[Delivery] = []
    while waiting:
        came_back = process_some([group[0] for group in waiting.values()])
        held = {(delivery.message.workload, delivery.message.group) for delivery in came_back}
        behind = [(delivery, blame.BEHIND) for name in held for delivery in waiting[name][1:]]
        failed += came_back + settle(behind, queue, table, policy)
        waiting = {name: group[1:] for name, group in waiting.items() if name not in held and group[1:]}
    return failed


def _process_again(
    suspects: Sequence[Delivery],
    decide_one: Callable[[Delivery], Decision],
    queue: Queue,
    table: Table,
    policy: Policy,
    ordered: Collection[str],
    remaining_s: Callable[[], float],
) -> list[Delivery]:
    failed: list[Delivery] = []
    sick: Failure | None = None  # the table's last answer; once it is sick, the rest need not wait for its time-outs
    for delivery in suspects:
        if sick is not None:
            failed += settle([(delivery, sick)], queue, table, policy)
            continue
        try:
            record = table.begin_attempt(delivery)
        except Unavailable as error:
            sick = blame.unavailable(error)
            failed += settle([(delivery, sick)], queue, table, policy, begun=True)  # it may have been counted
            continue
        if record.status in FINAL:
            failed += settle_duplicate(delivery, queue, table, policy)
        elif record.status == "dead" and delivery.message.workload in ordered:
            failed += bury_again(delivery, record, queue, table, policy)
        else:
            if policy.span_s and record.attempts > 1:  # should it kill this process, it is not to come back too soon
                queue.retry_later([(delivery, remaining_s() + policy.pause_s(record.attempts - 1, None))])
            culprit = blame.never_returned(record, delivery.receive_count, policy.max_attempts)
            failed += settle([(delivery, culprit or decide_one(delivery))], queue, table, policy, begun=True)
    return failed


# --- decide: pure -------------------------------------------------------------


def decide(message: Message, workloads: Workloads, limit_s: float, whole_s: float | None = None) -> Decision:
    """What a message comes to, within `limit_s` seconds. Never raises: a workload's exceptions are verdicts.

    `whole_s` is the time that the batch had, if messages before this one used some of it."""
    if limit_s <= 0:
        return blame.NOT_STARTED
    if not message.workload:
        return blame.NOT_OURS
    workload = workloads.get(message.workload)
    if workload is None:
        return blame.unknown_workload(message.workload)
    try:
        entry = decoder(workload.schema).decode(message.body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return blame.undecodable(error)
    except Exception as error:  # noqa: BLE001  the schema's own checks raised what is no verdict on the entry
        return blame.raised(error)
    try:
        with _TimeLimit(limit_s):
            effects = workload.process(entry, message)
        return encode(effects, message, workloads)
    except Rejected as verdict:
        return Reject(blame.text(verdict))
    except _TimeLimitExceeded as interruption:
        return blame.out_of_time(limit_s, whole_s, interruption.waiting)
    except (Exception, SystemExit) as error:  # noqa: BLE001  the edge: what a workload raises is a verdict
        return blame.raised(error)


class _TimeLimitExceeded(BaseException):
    """`waiting`: what was interrupted waited for the network."""

    def __init__(self, waiting: bool) -> None:
        super().__init__()
        self.waiting = waiting


class _TimeLimit:
    """Interrupt what runs longer than that. Only the main thread can be interrupted, and there a function runs. The
    handler stays in place: setting it anew for each message would cost more than most messages take."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds if threading.current_thread() is threading.main_thread() else 0.0

    def __enter__(self) -> None:
        if self._seconds:
            if signal.getsignal(signal.SIGALRM) is not _interrupt:
                signal.signal(signal.SIGALRM, _interrupt)
            signal.setitimer(signal.ITIMER_REAL, self._seconds, INTERRUPT_AGAIN_S)

    def __exit__(self, *_: object) -> None:
        if self._seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(_signal: int, frame: FrameType | None) -> None:
    raise _TimeLimitExceeded(network.waits(frame))
