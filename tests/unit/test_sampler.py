"""What a sample has, and what becomes of one that cannot be taken or kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from decoupled.core import limits
from decoupled.core.metrics import Numbers
from decoupled.core.overview import CHARTED, Sample
from decoupled.engines.protocols import StoreUnavailable
from decoupled.server.counting import Counting
from decoupled.server.sampler import Sampler, charted, pause

QUEUE = {"queued": 5.0, "in_flight": 2.0, "delayed": 1.0, "dead": 3.0, "oldest_age_s": 12.5}
WITHIN_S = 20


class File:
    """Keeps samples in memory, or cannot."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.error: Exception | None = None
        self.closed = False

    def add(self, sample: Sample) -> None:
        if self.error is not None:
            raise self.error
        self.samples.append(sample)

    def close(self) -> None:
        self.closed = True


class Looks:
    """Counts nothing, but how many look at once."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.block = threading.Event()
        self.block.set()
        self.begun = self.most = self.now = 0
        self.closed = False

    def __call__(self, now_ms: int) -> Mapping[str, float | None]:
        self.begun += 1
        self.now += 1
        self.most = max(self.most, self.now)
        self.block.wait(WITHIN_S)
        self.now -= 1
        if self.error is not None:
            raise self.error
        return QUEUE

    def give_up(self) -> None:
        self.block.set()

    def close(self) -> None:
        self.closed = True


class Sampled:
    """A sampler in a loop, without a server."""

    def __init__(self) -> None:
        self.numbers, self.file, self.looks = Counting(["orders"]).numbers, File(), Looks()
        self.time_ms = 1_000
        loop = asyncio.get_running_loop()
        self.sampler = Sampler(self.numbers, self.looks, self.file, loop, lambda: self.time_ms, step_s=0.001)

    async def until(self, reached: Callable[[], Any]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not reached():
                await asyncio.sleep(0.005)

    def detail(self) -> str | None:
        trouble = self.sampler.trouble()
        assert trouble is None or not trouble.refuses
        return None if trouble is None else trouble.detail


def test_a_sample_has_what_was_counted_since_the_one_before() -> None:
    before, now = Numbers(), Numbers()
    for numbers, times in ((before, 1), (now, 3)):
        for metric in ("accepted", "processed", "rejected", "dead", "retried"):
            numbers.count(metric, "orders", 10 * times)
            numbers.count(metric, "readings", 5 * times)
        numbers.observe("commit_messages", 12.0, times=times)
        numbers.observe("accept_seconds", 0.0015, "orders", 50 * times)
    now.observe("accept_seconds", 2.0, "readings", 100)
    now.observe("waiting_seconds", 0.003, "orders", 2)
    now.observe("commit_seconds", 0.0002)
    found = dict(zip(CHARTED, charted(before, now, 10.0, QUEUE), strict=True))
    assert found == {
        **{f"{metric}_per_s": 3.0 for metric in ("accepted", "processed", "rejected", "dead", "retried")},
        **QUEUE,
        "accept_p50_s": pytest.approx(0.002),  # half of all are below
        "accept_p99_s": pytest.approx(2.47),
        "waiting_p50_s": pytest.approx(0.0025),
        "waiting_p99_s": pytest.approx(0.00495),
        "processing_p50_s": None,  # nobody has measured any
        "processing_p99_s": None,
        "commit_messages": 12.0,
        "commit_p99_s": pytest.approx(0.0002485),
    }


def test_of_what_is_not_known_there_is_none() -> None:
    found = dict(zip(CHARTED, charted(Numbers(), Numbers(), 5.0, {}), strict=True))
    assert {name for name, value in found.items() if value is None} == {
        name for name in CHARTED if not name.endswith("_per_s")
    }


def test_looks_take_no_more_than_a_part_of_the_time() -> None:
    assert pause(5.0, 0.01) == 4.99
    assert pause(5.0, 2.0) == 98.0


async def _samples() -> None:
    one = Sampled()
    one.sampler.start()
    await one.until(lambda: one.file.samples)
    one.numbers.count("accepted", "orders", 1_000)
    taken = len(one.file.samples)
    await one.until(lambda: len(one.file.samples) > taken + 1)
    rates = [sample.values[0] for sample in one.file.samples]
    assert sum(rate > 0 for rate in rates if rate is not None) == 1
    (sample,) = [sample for sample in one.file.samples if sample.values[0]]
    assert sample.values[CHARTED.index("oldest_age_s")] == 12.5
    assert sample.at_ms == 1_000
    assert one.looks.most == 1
    assert one.detail() is None
    await one.sampler.close()
    assert one.file.closed
    assert one.looks.closed


def test_what_was_counted_comes_into_one_sample() -> None:
    asyncio.run(_samples())


TROUBLES = {
    "disk": (OSError(28, "No space left on device"), "charts have gaps: they cannot be written: No space left"),
    "bug": (KeyError("x"), "charts have gaps: KeyError: 'x'"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_cannot_be_kept_is_told_until_it_is_over(trouble: str, caplog: pytest.LogCaptureFixture) -> None:
    async def kept() -> None:
        one = Sampled()
        one.file.error, told = TROUBLES[trouble]
        one.sampler.start()
        await one.until(lambda: one.looks.begun > 3)
        assert (one.detail() or "").startswith(told)
        assert len(caplog.records) == 1
        one.file.error = None
        await one.until(lambda: one.detail() is None)
        await one.until(lambda: one.file.samples)
        await one.sampler.close()

    asyncio.run(kept())


def test_what_cannot_be_counted_is_told_and_all_else_kept() -> None:
    async def counted() -> None:
        one = Sampled()
        one.looks.error = StoreUnavailable("disk I/O error")
        one.sampler.start()
        await one.until(lambda: len(one.file.samples) > 2)
        assert one.detail() == "charts have gaps: messages cannot be counted: disk I/O error"
        values = dict(zip(CHARTED, one.file.samples[0].values, strict=True))
        assert (values["accepted_per_s"], values["queued"]) == (0.0, None)
        one.looks.error = None
        await one.until(lambda: one.detail() is None)
        await one.sampler.close()

    asyncio.run(counted())


def test_what_was_counted_and_cannot_be_copied_ends_no_server() -> None:
    async def copied() -> None:
        one = Sampled()
        errors: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
        one.sampler.start()
        one.numbers.counters["accepted"]["orders"] = object()  # type: ignore[assignment]
        await one.until(one.sampler.trouble)
        assert (one.detail() or "").startswith("charts have gaps: TypeError")
        one.numbers.counters["accepted"]["orders"] = 1
        await one.until(lambda: one.detail() is None)
        await one.sampler.close()
        assert errors == []

    asyncio.run(copied())


def test_a_look_that_takes_long_holds_up_nobody_and_is_given_up_at_the_end() -> None:
    async def hung() -> None:
        one = Sampled()
        one.looks.block.clear()
        one.sampler.start()
        await one.until(lambda: one.looks.begun)
        await asyncio.sleep(0)  # the loop turns
        await one.sampler.close()
        assert (one.looks.begun, one.looks.closed, one.detail()) == (1, True, None)

    asyncio.run(hung())


def test_a_look_that_never_ends_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hung() -> None:
        one = Sampled()
        one.looks.block.clear()
        monkeypatch.setattr(Looks, "give_up", lambda self: None)
        one.sampler.start()
        await one.until(lambda: one.looks.begun)
        await one.sampler.close()
        assert not one.looks.closed
        one.looks.block.set()
        await one.until(lambda: one.looks.closed)

    monkeypatch.setattr(limits, "HISTORY_END_S", 0.05)
    asyncio.run(hung())


def test_without_a_thread_there_are_no_charts_and_all_else_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def threadless() -> None:
        one = Sampled()

        def refuse(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        one.sampler.start()
        assert one.detail() == "charts have gaps: can't start new thread"
        await one.sampler.close()

    asyncio.run(threadless())
