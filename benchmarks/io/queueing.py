"""Who waits for whom, and what a bug costs: one caller behind another's long queue, claims from queues of any length, a
bad deployment, and poison among good messages. All by the workload in probe.py."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.loads import prefill
from benchmarks.report import Target
from tests.support.server import DECOUPLED, Server, serving

PROBE = f"{Path(__file__).with_name('probe.py')}:WORKLOAD"
OPTIONS = ("--workloads", PROBE, "--log-level", "ERROR")
LOOK_S = 0.2

# --- a caller behind another one ------------------------------------------------------

AHEAD, AHEAD_MS = 2_000, 5.0
LATE = 10  # callers, one after the other, while those are being processed
ONE_ROUND = 60  # messages of 5 ms: what two workers have in hand and ahead, and a batch more each


def caller(data: Path, _seconds: float) -> list[Target]:
    """2,000 messages of one caller, and while they wait, now and then a single one of another caller."""
    with serving(data, *OPTIONS) as server:
        for _ in range(AHEAD // 1_000):
            server.accept("/probe", *[{"who": "busy", "takes_ms": AHEAD_MS}] * 1_000)
        passed = [_passed_by(server, f"late-{number}") for number in range(LATE)]
        server.wait_until_settled(60)
    most, waited_ms = max(passed)
    return [(f"other messages processed before a late caller's, at most (in {waited_ms} ms)", most, f"<= {ONE_ROUND}")]


def _passed_by(server: Server, who: str) -> tuple[int, int]:
    """How many messages are processed between the acceptance of one and its end, and how many milliseconds that is."""
    (late,) = server.accept("/probe", {"who": who, "takes_ms": AHEAD_MS})
    server.wait_until("processed", f"/probe/{late}", seconds=60)
    ((accepted_at, finished_at),) = server.rows("SELECT accepted_at, finished_at FROM messages WHERE id = ?", late)
    ((count,),) = server.rows(
        "SELECT count(*) FROM messages WHERE finished_at BETWEEN ? AND ? AND id != ?", accepted_at, finished_at, late
    )
    return count, finished_at - accepted_at


# --- a bug, and poison ------------------------------------------------------------------

WAITING = 10_000
WITH_BUG_S = 45.0  # in which the five attempts of a message would be over: 2 + 4 + 8 + 16 s between them
MENDED_S = 60.0
GOOD, POISON = 4_950, 50


def bug(data: Path, _seconds: float) -> list[Target]:
    """A deployment with a bug finds 10,000 messages; then the mended one comes, and the dead are redriven."""
    ids = prefill(data, WAITING, "probe", '{"who": "shop", "counted": true}')
    server = Server(data, *OPTIONS)
    try:
        server.environment = {"BENCH_BUG": "1"}
        server.start()
        _until(lambda: "queued" not in server.statuses(), WITH_BUG_S)
        dead = server.statuses().get("dead", 0)
        server.stop()
        server.environment = {}
        server.start()
        subprocess.run([DECOUPLED, "dead", "redrive", "--all", "--data", data], check=True, capture_output=True)
        took_s = _until(lambda: "queued" not in server.statuses(), MENDED_S)
        right = _applied_once(server, ids)
        server.stop()
    finally:
        server.end()
    return [
        (f"dead of {WAITING:,} waiting messages, after {WITH_BUG_S:.0f} s of a bug", dead, "<= 50"),
        (f"of them not processed exactly once, {took_s:.0f} s after the mended start", WAITING - right, "= 0"),
        *_poison(data.with_name(f"{data.name}-poison")),
    ]


def _applied_once(server: Server, ids: list[str]) -> int:
    """Messages that are processed and whose item says so once."""
    items = {
        key.removeprefix("probes/") for (key,) in server.rows("SELECT key FROM items WHERE item = '{\"applied\":1}'")
    }
    processed = {id_ for (id_,) in server.rows("SELECT id FROM messages WHERE status = 'processed'")}
    return len(items & processed & set(ids))


def _poison(data: Path) -> list[Target]:
    """One in a hundred fails, always."""
    with serving(data, *OPTIONS) as server:
        ids: dict[bool, list[str]] = {True: [], False: []}
        for _ in range(POISON):
            entries = [{"who": "shop", "poison": n == 50, "counted": True} for n in range(100)]
            for entry, id_ in zip(entries, server.accept("/probe", *entries), strict=True):
                ids[bool(entry["poison"])].append(id_)
        _until(lambda: "queued" not in server.statuses(), WITH_BUG_S)
        rows = server.rows("SELECT id FROM messages WHERE status = 'dead' AND attempts = 5")
        dead = {id_ for (id_,) in rows}
        right = _applied_once(server, ids[False])
    return [
        ("poison, 1 %: messages of it that did not die of five attempts", len(set(ids[True]) - dead), "= 0"),
        ("good ones beside it that were not processed exactly once", len(ids[False]) - right, "= 0"),
    ]


def _until(done: Callable[[], bool], seconds: float) -> float:
    """Wait for it, at most so long; how long that was."""
    began = time.monotonic()
    while not done() and time.monotonic() < began + seconds:
        time.sleep(LOOK_S)
    return time.monotonic() - began


# --- long queues --------------------------------------------------------------------------

FEW, MANY, GROUPS = 1_000, 1_000_000, 10_000
ROUNDS = 3
WARM_UP_S = 2.0


def backlog(data: Path, seconds: float) -> list[Target]:
    """Messages that each emit another one, so that always as many wait; what is processed a second is then counted by
    the rows that there are more, at no cost."""
    queues = {"1,000 in one group": (FEW, ["one"]), "1,000,000 in one group": (MANY, ["one"])}
    queues["1,000,000 in 10,000 groups"] = (MANY, [f"g{n}" for n in range(GROUPS)])
    for name, (messages, groups) in queues.items():
        prefill(_place(data, name), messages, "probe", '{"who": "%s", "again": true}', groups)
    per_s: dict[str, list[float]] = {name: [] for name in queues}
    for number in range(ROUNDS):
        for name in list(queues)[:: 1 if number % 2 else -1]:
            per_s[name].append(_processed_per_s(_place(data, name), seconds / 2))
    few, *many = per_s.values()
    targets: list[Target] = [("processed/s with 1,000 waiting", statistics.median(few), "> 0")]
    for name, each in zip(list(queues)[1:], many, strict=True):
        ratio = statistics.median(m / f for m, f in zip(each, few, strict=True))
        targets.append((f"processed/s with {name}, of that ({statistics.median(each):,.0f}/s)", ratio, ">= 0.90"))
    return targets


def _place(data: Path, name: str) -> Path:
    return data.with_name(f"{data.name}-{name.replace(' ', '-').replace(',', '')}")


def _processed_per_s(data: Path, seconds: float) -> float:
    with serving(data, *OPTIONS) as server:
        time.sleep(WARM_UP_S)
        before, began = _rows(server), time.monotonic()
        time.sleep(seconds)
        return (_rows(server) - before) / (time.monotonic() - began)


def _rows(server: Server) -> int:
    ((last,),) = server.rows("SELECT max(seq) FROM messages")
    return int(last)
