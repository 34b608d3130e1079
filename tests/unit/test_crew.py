"""How often workers are started that cannot be, or do not last: in time that passes when nothing else is left to do."""

from __future__ import annotations

import asyncio
import logging

import pytest

from decoupled.core import limits
from decoupled.server.options import Options
from decoupled.server.workers.crew import WorkerCrew
from decoupled.server.workers.pool import Worker
from tests.support.virtual_time import run

HOUR_S = 3_600


class Failing(WorkerCrew[Worker]):
    """None of its workers can be started until a time."""

    def __init__(self, until_s: float, spread: float) -> None:
        loop = asyncio.get_running_loop()
        nothing = lambda *_: None  # noqa: E731
        super().__init__(Worker, 4, Options(), loop, nothing, nothing, nothing, lambda: spread)
        self.until_s = until_s
        self.tries_at: list[float] = []

    async def _start(self, _worker: Worker) -> None:
        self.tries_at.append(self.loop.time())
        if self.loop.time() < self.until_s:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.workers.append(_Running())  # type: ignore[arg-type]  # it stands for a Worker


class _Running:
    ready = proven = True
    gone = False
    first_mb = 30


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_what_cannot_be_started_is_tried_ever_more_slowly_and_told_once(
    caplog: pytest.LogCaptureFixture, spread: float
) -> None:
    async def hour() -> None:
        crew = Failing(HOUR_S, spread)
        crew.fill()
        await asyncio.sleep(HOUR_S - 1)
        crew.look()
        trouble = crew.trouble()
        assert trouble is not None
        assert trouble.detail.startswith("0 of 4 workers are ready: a worker cannot be started: Resource")
        assert not trouble.refuses
        assert len(crew.tries_at) < 2 * HOUR_S / limits.WORKER_RETRY_CAP_S + 10
        await asyncio.sleep(limits.WORKER_RETRY_CAP_S + 1)
        crew.look()
        assert crew.trouble() is None
        assert len(crew.workers) == 4

    with caplog.at_level(logging.INFO):
        run(hour())
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_a_limit_that_holds_for_three_seconds_costs_a_few(caplog: pytest.LogCaptureFixture) -> None:
    async def moment() -> None:
        crew = Failing(3.0, spread=0.5)
        crew.fill()
        await asyncio.sleep(3.0 + 2 * 3.0)
        assert len(crew.workers) == 4

    run(moment())


def test_workers_that_take_long_to_start_are_told_of() -> None:
    async def slow() -> None:
        crew = Failing(0, 0)
        for _ in range(int(limits.WORKER_SLOW_START_S) + 2):
            crew.look()
            assert crew.loop.time() > limits.WORKER_SLOW_START_S or crew.trouble() is None
            await asyncio.sleep(1)
        trouble = crew.trouble()
        assert trouble is not None
        assert "still starting" in trouble.detail

    run(slow())
