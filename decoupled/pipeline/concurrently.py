"""Decides many messages at once: of workloads whose `process` is a coroutine function, in the running event loop, and
of those with threads, in threads. Each has its own deadline, and is decided by then, whatever its workload does:

    begin ──▶ runs ──┬─ returns or raises ──▶ decided
                     └─ deadline ──▶ decided: out of time ──▶ cancelled ──▶ ends, or is stuck
                                                              (a thread cannot be stopped)
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any

from decoupled.core import limits, tracing
from decoupled.core.effects import encode
from decoupled.core.outcomes import Decision, Failure
from decoupled.core.workload import Message, Unavailable, Workload, Workloads
from decoupled.pipeline import blame, network
from decoupled.pipeline.processor import RAISED, TimeLimit, interrupt, open_entry, verdict

log = logging.getLogger("decoupled.processor")

NOT_LATE_S = 0.05  # that an event loop may take to see to a timer
AFTER_INTERRUPT_S = 0.1  # in which those are seen to that had to wait for what was interrupted, at their deadline maybe
DECIDE_GRACE_S = 2 * limits.LATE_S  # beyond the last deadline, before what keeps the loop from running is interrupted

Decided = Callable[[Decision], None]

_interrupted_at = -math.inf  # by time.monotonic: what kept the event loop from going on


class Concurrently:
    """Of a thread with a running event loop, and for that thread only."""

    def __init__(self, workloads: Workloads) -> None:
        self._workloads = workloads
        self._loop = asyncio.get_running_loop()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._overdue: set[_Call] = set()  # decided, and still running

    def begin(self, message: Message, limit_s: float, decided: Decided, whole_s: float | None = None) -> None:
        """Decide a message within that time; `decided` is called once, at once if there is nothing to wait for. It runs
        in a copy of the caller's context."""
        if message.trace:
            message, finish = tracing.begun(message)
            decided = partial(_tell, finish, decided)
        opened = open_entry(message, self._workloads, limit_s)
        if isinstance(opened, Failure):
            decided(opened)
            return
        workload, entry = opened
        call = _Call(workload, limit_s, whole_s, decided)
        if workload.threads:
            try:
                self._begin_in_thread(call, entry, message)
            except RuntimeError as error:  # the system's limit is reached
                decided(blame.unavailable(Unavailable(f"no thread can be started: {error}")))
                return
        else:
            call.task = self._loop.create_task(call.awaited(entry, message, self._workloads))
            call.task.add_done_callback(partial(self._ended, call))
        call.due = self._loop.time() + limit_s
        call.timer = self._loop.call_at(call.due, self._out_of_time, call)

    def stuck(self) -> str | None:
        """What is wrong when at least half of what may run at once does not end, of any workload."""
        since = self._loop.time() - limits.OVERDUE_S
        counts = Counter(call.workload.name for call in self._overdue if call.due < since)
        for name, count in counts.items():
            most = self._workloads[name].at_once
            if 2 * count >= most:
                what = "threads" if self._workloads[name].threads else "coroutines"
                return f"{count} {what} of {name} do not end, of {most} that there may be"
        return None

    # --- one message ----------------------------------------------------------

    def _begin_in_thread(self, call: _Call, entry: Any, message: Message) -> None:
        threads, name = call.workload.threads, call.workload.name
        if (pool := self._pools.get(name)) is None:  # with some for those that do not end, until we are replaced
            pool = self._pools[name] = ThreadPoolExecutor(threads + (threads + 1) // 2, thread_name_prefix=name)
        context = contextvars.copy_context()
        call.thread = pool.submit(context.run, call.in_thread, entry, message, self._workloads)
        call.thread.add_done_callback(lambda ended: self._loop.call_soon_threadsafe(self._ended, call, ended))

    def _ended(self, call: _Call, ended: asyncio.Future[Decision] | Future[Decision]) -> None:
        self._overdue.discard(call)
        call.timer.cancel()
        if ended.cancelled():
            call.decide(blame.raised(asyncio.CancelledError("it was cancelled, and not at its deadline")))
        elif (error := ended.exception()) is not None:
            call.decide(blame.raised(error))  # of a kind that is no verdict, but ended this one alone
        else:
            call.decide(ended.result())

    def _out_of_time(self, call: _Call) -> None:
        if call.is_done():
            return  # and about to be heard of
        late_s = self._loop.time() - call.due
        kept_waiting = late_s > NOT_LATE_S or time.monotonic() - _interrupted_at < AFTER_INTERRUPT_S
        if kept_waiting and not call.late_s:  # it may have come in time, and not be heard of
            call.late_s = max(late_s, NOT_LATE_S)
            call.timer = self._loop.call_later(limits.LATE_S, self._out_of_time, call)
            return
        call.decide(call.failure())
        self._overdue.add(call)
        call.cancel()


def _tell(finish: Callable[[Decision], Decision], decided: Decided, decision: Decision) -> None:
    decided(finish(decision))


class _Call:
    """A message that is being decided."""

    def __init__(self, workload: Workload, limit_s: float, whole_s: float | None, decided: Decided) -> None:
        self.workload = workload
        self.limit_s = limit_s
        self.whole_s = whole_s
        self.due = 0.0
        self.late_s = 0.0  # by which the deadline was seen, if that was too late
        self.timer: asyncio.TimerHandle
        self.task: asyncio.Task[Decision] | None = None
        self.thread: Future[Decision] | None = None
        self._thread_id: int | None = None
        self._decided: Decided | None = decided

    async def awaited(self, entry: Any, message: Message, workloads: Workloads) -> Decision:
        """What it comes to. Whatever is raised ends here: SystemExit would end the event loop."""
        try:
            effects = await self.workload.process(entry, message)  # type: ignore[misc]  # it is a coroutine function
            return encode(effects, message, workloads)
        except RAISED as error:
            return verdict(error, self.limit_s, self.whole_s)

    def in_thread(self, entry: Any, message: Message, workloads: Workloads) -> Decision:
        """The same, in a thread."""
        self._thread_id = threading.get_ident()
        try:
            effects = self.workload.process(entry, message)
            return encode(effects, message, workloads)  # type: ignore[arg-type]  # it is no coroutine function
        except RAISED as error:
            return verdict(error, self.limit_s, self.whole_s)

    def decide(self, decision: Decision) -> None:
        """Tell it, if it was not told before."""
        if self._decided is not None:
            decided, self._decided = self._decided, None
            decided(decision)

    def is_done(self) -> bool:
        """Whether it has ended."""
        return (self.task is not None and self.task.done()) or (self.thread is not None and self.thread.done())

    def failure(self) -> Failure:
        """Whose fault it is that it is not done by now."""
        if self.thread is not None and self._thread_id is None:
            return blame.NOT_STARTED
        waiting = network.waits(self._frames())
        if self.late_s > limits.LATE_S and not waiting:
            return blame.KEPT_WAITING
        return blame.out_of_time(self.limit_s, self.whole_s, waiting)

    def cancel(self) -> None:
        """Ask it to end."""
        if self.task is not None:
            self.task.cancel()
        elif self.thread is not None:
            self.thread.cancel()  # as long as it has not begun

    def _frames(self) -> Iterator[FrameType]:
        if self.task is not None:
            return iter([*_awaits(self.task.get_coro())][::-1])
        return network.stack(sys._current_frames().get(self._thread_id or 0))


def interrupt_one(signal: int, frame: FrameType | None) -> None:
    """The handler of SIGALRM where many are decided: raises TimeLimitExceeded in the coroutine of the one that keeps
    the event loop from going on. The loop's own code is never interrupted."""
    global _interrupted_at
    if any(running.f_code is _Call.awaited.__code__ for running in network.stack(frame)):
        _interrupted_at = time.monotonic()
        interrupt(signal, frame)


def _awaits(waiting: Any) -> Iterator[FrameType]:
    """The frames of a coroutine that waits, the outermost first: it waits for another one, and that for a third, until
    one waits for a future. If that is a task, it goes on there."""
    for _ in range(limits.MAX_AWAITED):
        if waiting is None:
            return
        frame = _attribute(waiting, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            yield frame
        waiting = _awaited_by(waiting, frame)


def _awaited_by(waiting: Any, frame: FrameType | None) -> Any:
    if asyncio.isfuture(waiting):
        tasks = [waiting, *getattr(waiting, "_children", ())]  # those of asyncio.gather
        return next((task.get_coro() for task in tasks if isinstance(task, asyncio.Task) and not task.done()), None)
    if frame is None:  # what Python puts between the two tells of the other only to its garbage collector
        between = gc.get_referents(waiting)
        return next((each for each in between if asyncio.isfuture(each) or asyncio.iscoroutine(each)), None)
    if frame.f_code is asyncio.wait_for.__code__ and "fut" in frame.f_locals:  # before Python 3.12
        return frame.f_locals["fut"]
    return _attribute(waiting, "cr_await", "gi_yieldfrom", "ag_await")


def _attribute(it: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(it, name, None)) is not None), None)


# --- a batch, without an event loop of the caller's


def decide_all(
    messages: Sequence[Message], workloads: Workloads, limit_s: float, whole_s: float | None = None
) -> list[Decision]:
    """What messages of concurrent workloads come to, each within `limit_s` seconds, as many at once as they may be. The
    thread's event loop is kept, and with it the connections that workloads hold in it."""
    with TimeLimit(limit_s + DECIDE_GRACE_S, interrupt_one):
        return _kept.runner().run(_decide_all(messages, workloads, limit_s, whole_s))


async def _decide_all(
    messages: Sequence[Message], workloads: Workloads, limit_s: float, whole_s: float | None
) -> list[Decision]:
    await asyncio.sleep(0)  # a connection that was closed since the last batch is heard of first
    loop, concurrently = asyncio.get_running_loop(), _kept.concurrently(workloads)
    until = loop.time() + limit_s
    slots = {name: asyncio.Semaphore(workload.at_once) for name, workload in workloads.items()}

    async def one(message: Message) -> Decision:
        async with slots[message.workload]:
            decision: asyncio.Future[Decision] = loop.create_future()
            concurrently.begin(message, until - loop.time(), decision.set_result, whole_s)
            return await decision

    return await asyncio.gather(*map(one, messages))


class _Kept(threading.local):
    """What a thread keeps from one batch to the next."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._last: tuple[Workloads, Concurrently] | None = None

    def runner(self) -> asyncio.Runner:
        """The thread's event loop."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner

    def concurrently(self, workloads: Workloads) -> Concurrently:
        """The one for these workloads: their threads are kept, too, as long as they end."""
        if self._last is not None and (why := self._last[1].stuck()) is not None:
            log.warning("others take their place", extra={"cause": why})
            self._last = None
        if self._last is None or self._last[0] is not workloads:
            self._last = workloads, Concurrently(workloads)
        return self._last[1]


_kept = _Kept()
