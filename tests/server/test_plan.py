"""What `decoupled plan` says of a burst and an outage, beside what a real server does with them. Messages sleep for as
long as they take, so that hardly anything depends on the machine; when they came is what the plan is told."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from decoupled.cli.measured import service_ms
from decoupled.plan.answer import answer
from decoupled.plan.arrivals import Recorded
from decoupled.plan.prices import price_list
from decoupled.plan.scenario import Outage, Scenario, Service, Workload
from decoupled.plan.waits import quantile
from tests.support.server import DECOUPLED, Server, serving, wait_for

NAP_S = 0.08
WORKERS = 3
POSTS, EACH, EVERY_S = 16, 10, 0.1
AWAY_FROM_S, AWAY_S = 0.8, 2.0
KNOWN = 24  # messages after which a server knows how long they take
WITHIN = 0.2  # of what the server does


@dataclass(frozen=True)
class Seen:
    """Of a real run: seconds since the first message, and what the server says that one takes."""

    service: Service

    came: tuple[float, ...]
    outage: Outage
    peak_depth: int
    drained_s: float
    took_s: list[float]


@contextmanager
def depths(server: Server) -> Iterator[list[int]]:
    """What `decoupled status` says all the while: messages that have not ended."""
    seen: list[int] = []
    command: list[str | Path] = [
        DECOUPLED,
        "status",
        "--json",
        "--watch",
        "--every",
        "0.1s",
        "--data",
        str(server.data),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = iter(process.stdout)

    def read() -> None:
        for line in lines:
            look = json.loads(line)
            seen.append(look["queued"] + look["in_flight"] + look["delayed"])

    thread = threading.Thread(target=read)
    thread.start()
    try:
        wait_for(lambda: len(seen), bool)
        yield seen
    finally:
        process.kill()
        process.wait()
        thread.join()


def run(server: Server, away: Path) -> Seen:
    """A burst, with an outage within it, until all is done."""
    nap = {"seconds": NAP_S, "away": str(away)}
    server.accept("/naps", *[nap] * KNOWN)
    server.wait_until_settled()
    with depths(server) as seen:
        start = time.monotonic()
        outage = [0.0, 0.0]
        for number in range(POSTS):
            pause_until(start + number * EVERY_S)
            if number * EVERY_S >= AWAY_FROM_S and not away.exists():
                away.touch()
                outage[0] = time.monotonic() - start
            server.accept("/naps", *[nap] * EACH)
        pause_until(start + outage[0] + AWAY_S)
        away.unlink()
        outage[1] = time.monotonic() - start
        server.wait_until_settled(60)
        peak = max(seen)
    rows = server.rows("SELECT accepted_at, finished_at FROM messages ORDER BY seq")[KNOWN:]
    first = min(came for came, _ in rows)
    mean_ms, _ = service_ms(server.url, "naps")
    return Seen(
        service=Service(mean_ms / 1000),
        came=tuple(sorted((came - first) / 1000 for came, _ in rows)),
        outage=Outage(outage[0], outage[1] - outage[0]),
        peak_depth=peak,
        drained_s=(max(done for _, done in rows) - first) / 1000,
        took_s=[(done - came) / 1000 for came, done in rows],
    )


def pause_until(moment: float) -> None:
    """The load keeps to the clock: it is what is measured, and no wait for the server."""
    time.sleep(max(0.0, moment - time.monotonic()))


def test_depth_and_waits_are_those_of_a_real_server_within_a_fifth(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workloads", "naps", "--concurrency", str(WORKERS)) as server:
        seen = run(server, tmp_path / "away")
    scenario = Scenario(
        Recorded(seen.came), Workload(seen.service), concurrency=WORKERS, outages=(seen.outage,), repeats=1
    )
    planned = answer(scenario, "machine", price_list())
    both = {
        "peak depth": (planned.peak_depth, seen.peak_depth),
        "drained at": (planned.drained_at_s, seen.drained_s),
        "p50 until processed": (planned.waiting_p50_s, quantile(seen.took_s, 0.5)),
        "p99 until processed": (planned.waiting_p99_s, quantile(seen.took_s, 0.99)),
    }
    print({name: (round(plan or 0, 2), round(real, 2)) for name, (plan, real) in both.items()})  # noqa: T201
    for name, (plan, real) in both.items():
        assert plan == pytest.approx(real, rel=WITHIN), name
