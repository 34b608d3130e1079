"""Messages that are decided at once: each on its own, each by its own deadline, and whose fault it is when that is
reached. On Lambda, those of a batch."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import httpx
import msgspec
import pytest

from decoupled.core import limits
from decoupled.core.outcomes import Commit, Decision, Delivery, Failure, Reject
from decoupled.core.workload import Effects, Message, Process, Rejected, Workload
from decoupled.pipeline.concurrently import Concurrently, decide_all, interrupt_one
from decoupled.pipeline.processor import decide
from tests.support.events import process_event, sqs_event, sqs_record
from tests.support.model_engine import ManualClock, ModelQueue, ModelTable

Act = Callable[[], Awaitable[object]]


class Anything(msgspec.Struct):
    """An entry that says which act it is."""

    act: int = 0


def messages(count: int) -> list[Message]:
    return [Message(f"m{index}", "calls", f'{{"act": {index}}}', "anonymous", 0) for index in range(count)]


def calling(*acts: Act) -> dict[str, Workload]:
    async def process(entry: Anything, _message: Message) -> Effects:
        await acts[entry.act]()
        return Effects({"act": entry.act})

    return {"calls": Workload("calls", Anything, process)}


def blocking(*acts: Callable[[], object], threads: int = 8) -> dict[str, Workload]:
    def process(entry: Anything, _message: Message) -> Effects:
        acts[entry.act]()
        return Effects({"act": entry.act})

    return {"calls": Workload("calls", Anything, process, threads=threads)}


def decided(workloads: dict[str, Workload], count: int = 1, limit_s: float = 0.3) -> list[Decision]:
    return decide_all(messages(count), workloads, limit_s, limit_s)


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def well() -> None:
    """Nothing."""


# --- at once --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "threads"])
def test_all_of_a_batch_are_decided_at_the_same_time_and_in_its_order(kind: str) -> None:
    everybody = threading.Barrier(8)

    acts = calling(*[asyncio.Barrier(8).wait] * 8) if kind == "async" else None
    workloads = acts or blocking(*[lambda: everybody.wait(10)] * 8)
    decisions = decided(workloads, 8, limit_s=15)
    assert [type(decision) for decision in decisions] == [Commit] * 8
    assert [msgspec.json.decode(it.result)["act"] for it in decisions if isinstance(it, Commit)] == [*range(8)]


def test_one_alone_is_decided_like_any_other() -> None:
    assert isinstance(decide(messages(1)[0], calling(well), 1.0), Commit)


def test_what_is_kept_between_batches_is_the_event_loop() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    decided(calling(note, note), 2)
    decided(calling(note))
    assert len(loops) == 3
    assert len(set(map(id, loops))) == 1


def test_a_callable_whose_method_is_async_is_async() -> None:
    class Calls:
        async def __call__(self, _entry: Anything, _message: Message) -> Effects:
            return Effects({})

    workload = Workload("calls", Anything, Calls())
    assert workload.is_async
    assert isinstance(decide(messages(1)[0], {"calls": workload}, 1.0), Commit)


# --- what they raise --------------------------------------------------------------


class Unheard(BaseException):
    """No exception that a workload should raise."""


@pytest.mark.parametrize("kind", ["async", "threads"])
@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), Unheard("no"), asyncio.CancelledError("no")])
def test_what_one_raises_is_its_own_failure_and_ends_nothing(kind: str, error: BaseException) -> None:
    async def fail() -> None:
        raise error

    def fail_in_thread() -> None:
        raise error

    workloads = calling(fail, well) if kind == "async" else blocking(fail_in_thread, lambda: None)
    bad, good = decided(workloads, 2, limit_s=5)
    assert isinstance(bad, Failure)
    assert (bad.kind, bad.error_type) == ("failed", type(error).__name__)
    assert isinstance(good, Commit)


def test_a_business_rule_may_say_no() -> None:
    async def reject() -> None:
        raise Rejected("against the rules")

    assert decided(calling(reject)) == [Reject("against the rules")]


# --- deadlines ----------------------------------------------------------------------


def test_a_deadline_is_its_own_and_what_swallows_the_cancellation_holds_up_nobody() -> None:
    ended = threading.Event()

    async def swallow() -> None:
        while not ended.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    hung, stubborn, good = decided(calling(lambda: asyncio.sleep(60), swallow, well), 3)
    assert [it.error_type for it in (hung, stubborn) if isinstance(it, Failure)] == ["TimeLimitExceeded"] * 2
    assert isinstance(good, Commit)
    ended.set()


async def read(port: int) -> None:
    reader, _ = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()


async def get_by_aiohttp(port: int) -> None:
    async with aiohttp.ClientSession() as session:
        await session.get(f"http://127.0.0.1:{port}/")


async def get_by_httpx(port: int) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        await client.get(f"http://127.0.0.1:{port}/")


WAITERS: dict[str, Callable[[int], Awaitable[object]]] = {
    "streams": read,
    "aiohttp": get_by_aiohttp,
    "httpx": get_by_httpx,
    "wait_for": lambda port: asyncio.wait_for(read(port), 60),
    "gather": lambda port: asyncio.gather(well(), read(port)),
    "a task": lambda port: asyncio.ensure_future(read(port)),
}


@pytest.mark.parametrize("how", WAITERS)
def test_time_that_runs_out_in_the_network_is_the_networks_fault(silent: int, how: str) -> None:
    async def wait() -> None:
        await WAITERS[how](silent)

    (failure,) = decided(calling(wait))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.error_type) == ("unavailable", "TimeLimitExceeded")


@pytest.mark.parametrize("act", [lambda: asyncio.sleep(60), lambda: asyncio.Event().wait(), lambda: asyncio.Future()])
def test_time_that_runs_out_elsewhere_is_the_messages(act: Act) -> None:
    (failure,) = decided(calling(act))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.error_type) == ("failed", "TimeLimitExceeded")


def test_a_thread_is_decided_at_its_deadline_by_what_it_does_and_goes_on(silent: int) -> None:
    goes_on = threading.Event()

    def receive() -> None:
        with socket.create_connection(("127.0.0.1", silent)) as connection:
            connection.settimeout(1)
            connection.makefile("rb").readline()

    waits, works = decided(blocking(receive, lambda: goes_on.wait(20)), 2)
    assert [it.kind for it in (waits, works) if isinstance(it, Failure)] == ["unavailable", "failed"]
    goes_on.set()


def test_one_that_was_kept_waiting_by_another_is_not_to_blame() -> None:
    async def block() -> None:
        time.sleep(1.2)

    blocks, waits = decided(calling(block, lambda: asyncio.sleep(30)), 2)
    assert isinstance(blocks, Commit)
    assert isinstance(waits, Failure)
    assert waits.kind == "not_started"


def test_one_that_blocks_the_event_loop_is_interrupted_and_is_to_blame() -> None:
    async def block() -> None:
        while True:
            time.sleep(0.01)

    blocks, good = decided(calling(block, lambda: asyncio.sleep(0.2)), 2)
    assert isinstance(blocks, Failure)
    assert (blocks.kind, blocks.error_type) == ("failed", "TimeLimitExceeded")
    assert isinstance(good, Commit)


def test_a_thread_that_cannot_be_started_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    (failure,) = decided(blocking(lambda: None))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.error) == ("unavailable", "no thread can be started: can't start new thread")


def test_what_does_not_end_is_told_of_when_it_is_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OVERDUE_S", 0.1)
    goes_on = threading.Event()
    workloads = blocking(*[lambda: goes_on.wait(20)] * 4, threads=8)

    async def look() -> list[str | None]:
        together, said, ended = Concurrently(workloads), [], asyncio.Queue[Decision]()
        for message in messages(4):
            together.begin(message, 0.1, ended.put_nowait)
            said.append(together.stuck())
        for _ in range(4):
            await ended.get()
        await asyncio.sleep(0.2)
        said.append(together.stuck())
        goes_on.set()
        while together.stuck() is not None:
            await asyncio.sleep(0.01)
        return said

    assert asyncio.run(look()) == [None] * 4 + ["4 threads of calls do not end, of 8 that there may be"]


# --- on Lambda ------------------------------------------------------------------------


@pytest.mark.parametrize("receive_count", [1, 2])
def test_a_batch_on_lambda_is_decided_at_once_also_when_it_was_delivered_before(receive_count: int) -> None:
    together = asyncio.Barrier(8)
    table, queue = ModelTable(), ModelQueue(ManualClock())
    records = [sqs_record(message, receive_count) for message in messages(8)]
    workloads = calling(*[together.wait] * 8)
    answer = process_event(sqs_event(records), queue, table, workloads, 3, lambda: 20.0)
    assert answer == {"batchItemFailures": []}
    assert all((record := table.get(f"m{index}")) and record.status == "processed" for index in range(8))


def test_no_more_of_a_batch_are_decided_at_once_than_the_workload_says() -> None:
    running: list[int] = []
    most: list[int] = []

    async def process(_entry: Anything, _message: Message) -> Effects:
        running.append(1)
        await asyncio.sleep(0.02)
        most.append(len(running))
        running.pop()
        return Effects({})

    workloads = {"calls": Workload("calls", Anything, process, concurrency=3)}
    assert [type(decision) for decision in decided(workloads, 10, limit_s=5)] == [Commit] * 10
    assert max(most) == 3


def test_threads_that_do_not_end_keep_no_later_batch_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OVERDUE_S", 0.0)
    goes_on = threading.Event()
    hang, end = (lambda: goes_on.wait(20)), (lambda: None)
    workloads = blocking(hang, hang, hang, end, threads=2)
    for _ in range(3):  # more than there are threads, and spare ones
        assert {type(decision) for decision in decided(workloads, 2, limit_s=0.1)} == {Failure}
    last = messages(4)[3]
    assert [type(decision) for decision in decide_all([last], workloads, 5.0)] == [Commit]
    goes_on.set()


def test_one_that_began_and_never_returned_is_alone_on_lambda() -> None:
    running: set[str] = set()
    seen: list[set[str]] = []

    async def process(entry: Anything, message: Message) -> Effects:
        running.add(message.id)
        await asyncio.sleep(0.05)
        seen.append(set(running))
        running.discard(message.id)
        return Effects({})

    table = ModelTable()
    suspect, *others = messages(3)
    table.begin_attempt(Delivery(suspect, "earlier", 2))  # and its process died
    records = [sqs_record(message, 3) for message in (*others, suspect)]
    workloads = {"calls": Workload("calls", Anything, process)}
    process_event(sqs_event(records), ModelQueue(ManualClock()), table, workloads, 3, lambda: 20.0)
    assert {suspect.id} in seen
    assert max(map(len, seen)) == 2


def test_workloads_of_both_kinds_may_share_a_batch() -> None:
    def plain(_entry: Anything, _message: Message) -> Effects:
        return Effects({})

    process: Process = plain
    workloads: dict[str, Any] = {**calling(well), "plain": Workload("plain", Anything, process)}
    mixed = [*messages(1), Message("p", "plain", "{}", "", 0), Message("u", "unknown", "{}", "", 0)]
    table = ModelTable()
    event = sqs_event([sqs_record(message) for message in mixed])
    answer = process_event(event, ModelQueue(ManualClock()), table, workloads, 3, lambda: 20.0)
    assert [it["itemIdentifier"] for it in answer["batchItemFailures"]] == ["sqs-u"]
    assert [(record := table.get(it)) and record.status for it in ("m0", "p")] == ["processed"] * 2


def test_who_waited_for_what_was_interrupted_just_at_its_deadline_is_not_out_of_time() -> None:
    """It is interrupted at a time of the process's own, which may be that of the deadline to the millisecond."""
    limit_s = 0.3

    async def block() -> None:
        while True:
            pass

    async def a_moment() -> None:
        await asyncio.sleep(0.05)

    async def both() -> list[Decision]:
        loop = asyncio.get_running_loop()
        concurrently = Concurrently(calling(block, a_moment))
        decisions: list[asyncio.Future[Decision]] = [loop.create_future() for _ in range(2)]
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        for message, decision in zip(messages(2), decisions, strict=True):
            concurrently.begin(message, limit_s, decision.set_result)
        return await asyncio.gather(*decisions)

    before = signal.signal(signal.SIGALRM, interrupt_one)
    try:
        blocked, other = asyncio.run(both())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert isinstance(blocked, Failure)
    assert blocked.error_type == "TimeLimitExceeded"
    assert isinstance(other, Commit)
