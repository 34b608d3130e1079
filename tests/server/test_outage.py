"""A sick backend is not a poisoned message: outages, slow stores and poison, a day in seconds."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from decoupled.core import limits
from decoupled.core.outcomes import Commit, NotStored, Record, Reject, Stored
from decoupled.core.workload import Effects, Message, Unavailable, Workload
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite import outage
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.outage import Outage
from decoupled.pipeline.loading import load
from tests.support import client_outages, events
from tests.support.engines import ReceivingSqliteQueue
from tests.support.events import process_event
from tests.support.model_engine import ManualClock, ModelQueue, ModelTable
from tests.support.virtual_time import EPOCH_MS, EmbeddedInVirtualTime, run

DAY_S = 86_400
WAITING = 10_000
SEED = random.SystemRandom().randrange(1_000_000)
ORDERS = load(["orders"])
ORDER = json.dumps(events.ORDER)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A million warnings tell nothing."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def seeded() -> random.Random:
    """Random numbers that a failed test can be replayed with."""
    print(f"seed {SEED}")  # noqa: T201  shown when the test fails
    return random.Random(SEED)


def order(number: int, body: str = ORDER, workload: str = "orders") -> Message:
    return Message(f"{workload}-{number}", workload, body, "anonymous", EPOCH_MS)


# --- an outage of a day ------------------------------------------------------------


def test_after_an_outage_of_a_day_all_is_processed_and_nothing_is_dead(seeded: random.Random) -> None:
    async def day() -> None:
        server = EmbeddedInVirtualTime(ORDERS, lambda now: "down" if now < DAY_S else None, seeded.random)
        server.send([order(number) for number in range(WAITING)])
        server.start()
        for number in range(WAITING, WAITING + 24):  # the front goes on, and waits for nothing
            before = server.loop.time()
            server.send([order(number)])
            assert server.loop.time() == before
            await asyncio.sleep(DAY_S / 24)
        assert set(server.statuses()) == {"queued"}
        await server.until_finished(within_s=300)
        assert server.statuses() == {"processed": WAITING + 24}
        assert max(server.receive_counts()) <= 5
        assert sum(server.receive_counts()) < 1.5 * WAITING

    run(day())


@pytest.mark.parametrize("outage_s", [600, DAY_S])
def test_the_usual_set_up_would_have_dead_lettered_them_all(outage_s: int) -> None:
    """maxReceiveCount 3, a visibility timeout of 180 s, and a consumer that does not tell a sick backend from a bad
    message: on the same queue, in the same outage."""
    clock = ManualClock(EPOCH_MS)
    queue = ReceivingSqliteQueue(Database(":memory:"), clock)
    queue.send([order(number) for number in range(WAITING)])
    dead = processed = 0
    while dead + processed < WAITING:
        while deliveries := queue.receive(limits.RECEIVE_MAX, 180):
            moved = [delivery for delivery in deliveries if delivery.receive_count > 3]
            stored = [] if clock.now_ms - EPOCH_MS < outage_s * 1000 else deliveries
            queue.delete(moved or stored)
            dead += len(moved)
            processed += 0 if moved else len(stored)
        clock.advance(180)
    assert dead == WAITING


def test_a_lambda_waits_an_outage_of_a_day_out_far_below_the_queues_own_limit(seeded: random.Random) -> None:
    clock = ManualClock(EPOCH_MS)
    queue, table = ModelQueue(clock), SickTable()
    queue.send([order(number) for number in range(100)])
    table.sick = True
    counts: list[int] = []
    while len(queue):
        table.sick = clock.now_ms - EPOCH_MS < DAY_S * 1000
        while deliveries := queue.receive(limits.RECEIVE_MAX, 180):
            counts += [delivery.receive_count for delivery in deliveries]
            event = events.sqs_event(
                [
                    events.sqs_record(delivery.message, delivery.receive_count, delivery.receipt)
                    for delivery in deliveries
                ]
            )
            answer = process_event(event, queue, table, ORDERS, 5, lambda: 30.0)
            failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
            queue.delete([d for d in deliveries if f"sqs-{d.message.id}" not in failed])
        clock.advance(5)
        assert clock.now_ms - EPOCH_MS < (DAY_S + 3600) * 1000
    assert table.dead_letters == {}
    assert {record.status for record in table.records.values()} == {"processed"}
    assert len(table.records) == 100
    assert max(counts) < limits.MAX_RECEIVE_COUNT / 4


def test_ten_minutes_of_network_trouble_kill_nothing_whatever_the_client_library(seeded: random.Random) -> None:
    during, after = client_outages.ten_minutes(seeded.random)
    assert len(during) == 25
    assert {name: each for name, each in during.items() if set(each) != {"queued"}} == {}
    assert {name: each for name, each in after.items() if set(each) != {"processed"}} == {}


class SickTable(ModelTable):
    """Every call is refused while it is sick."""

    sick = False

    def commit(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> list[Stored | NotStored]:
        return [NotStored("down")] * len(decided) if self.sick else super().commit(decided, now_ms)

    def _change(self, message: Message, by: int, **story: Any) -> Record:
        if self.sick:
            raise Unavailable("down")
        return super()._change(message, by, **story)


def test_a_sick_workload_does_not_stop_another(seeded: random.Random) -> None:
    class Ping(Struct):
        pass

    def unavailable(_entry: Ping, _message: Message) -> Effects:
        raise Unavailable("its backend is down", retry_after_s=5)

    workloads = {**ORDERS, "pings": Workload("pings", Ping, unavailable)}

    async def hour() -> None:
        server = EmbeddedInVirtualTime(workloads, spread=seeded.random)
        server.send([order(number, "{}", "pings") for number in range(500)])
        server.send([order(number) for number in range(500)])
        server.start()
        await asyncio.sleep(10)
        assert server.statuses() == {"processed": 500, "queued": 500}
        await asyncio.sleep(3600)
        states = server.breakers.states()
        assert (states["orders"]["state"], states["pings"]["state"]) == ("closed", "open")
        assert states["pings"]["why"] == "its backend is down"
        assert max(server.receive_counts()) <= 10
        server.stopping = True

    run(hour())


# --- a store that limps ------------------------------------------------------------


def test_a_slow_store_delays_and_kills_nothing(seeded: random.Random) -> None:
    async def slow() -> None:
        server = EmbeddedInVirtualTime(ORDERS, commit_s=lambda: seeded.uniform(1, 20), spread=seeded.random)
        server.send([order(number) for number in range(2_000)])
        server.start()
        await server.until_finished(within_s=DAY_S)
        assert server.statuses() == {"processed": 2_000}
        assert set(server.receive_counts()) == {1}

    run(slow())


def test_a_store_that_comes_and_goes_kills_nothing(seeded: random.Random) -> None:
    async def flapping() -> None:
        def outage(now: float) -> str | None:
            return "throttled" if now < 3600 and seeded.random() < 0.7 else None

        server = EmbeddedInVirtualTime(ORDERS, outage, seeded.random)
        server.send([order(number) for number in range(2_000)])
        server.start()
        await server.until_finished(within_s=DAY_S)
        assert server.statuses() == {"processed": 2_000}

    run(flapping())


def test_what_was_decided_before_the_disk_was_full_is_stored_when_it_has_space_half_a_day_later(
    seeded: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full() -> None:
        server = EmbeddedInVirtualTime(ORDERS, spread=seeded.random, message_s=1)
        server.send([order(number) for number in range(10)])
        begin = server.database.begin

        def begin_if_there_is_space() -> None:
            if 0.5 < server.loop.time() < DAY_S / 2:
                raise StoreUnavailable("database or disk is full")
            begin()

        monkeypatch.setattr(server.database, "begin", begin_if_there_is_space)
        broken: list[Any] = []
        server.loop.set_exception_handler(lambda _, context: broken.append(context))
        server.start()
        await asyncio.sleep(DAY_S / 2)
        await server.until_finished(within_s=60)
        assert server.statuses() == {"processed": 10}
        assert broken == []  # ten thousand tries later

    run(full())


# --- an outage on request -----------------------------------------------------------


def outage_of(tmp_path: Path, clock: ManualClock) -> Outage:
    """That of a directory, which looks at its file each time."""
    seconds = iter(range(1_000_000))
    return Outage(tmp_path, clock, lambda: next(seconds))


def test_an_outage_begins_with_its_file_and_ends_by_itself(tmp_path: Path) -> None:
    clock = ManualClock(time.time_ns() // 1_000_000)
    look = outage_of(tmp_path, clock)
    assert look() is None
    outage.begin(tmp_path, 60)
    assert look() == "an outage is simulated"
    clock.advance(59)
    assert look() is not None
    clock.advance(2)
    assert look() is None


def test_an_outage_can_be_ended_early(tmp_path: Path) -> None:
    look = outage_of(tmp_path, ManualClock(time.time_ns() // 1_000_000))
    outage.begin(tmp_path, 60)
    assert look() is not None
    outage.end(tmp_path)
    assert look() is None
    outage.end(tmp_path)


def test_no_file_makes_an_outage_longer_than_the_limit(tmp_path: Path) -> None:
    clock = ManualClock(time.time_ns() // 1_000_000)
    look = outage_of(tmp_path, clock)
    (tmp_path / "outage").write_text(str(clock() + limits.MAX_OUTAGE_S * 1000))
    assert look() is not None
    (tmp_path / "outage").write_text(str(clock() + limits.MAX_OUTAGE_S * 1000 + 1))
    assert look() is None


@pytest.mark.parametrize("text", [b"", b"soon", b"-1", b"1e99", "²".encode(), b"\xff", b"9" * 18 + b"x" * 9])
def test_a_file_that_says_nothing_sensible_is_no_outage(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "outage").write_bytes(text)
    assert outage_of(tmp_path, ManualClock(time.time_ns() // 1_000_000))() is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_no_outage_and_nobody_waits_for_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "outage")
    assert outage_of(tmp_path, ManualClock(time.time_ns() // 1_000_000))() is None


# --- poison ------------------------------------------------------------------------


class Entry(Struct):
    bad: bool = False


def fail_if_bad(entry: Entry, _message: Message) -> Effects:
    if entry.bad:
        raise KeyError("no such product")
    return Effects({})


ENTRIES = {"entries": Workload("entries", Entry, fail_if_bad)}


def poisoned_messages(seeded: random.Random, poison: int) -> list[Message]:
    bad = set(seeded.sample(range(5_000), poison))
    return [order(n, '{"bad":true}' if n in bad else "{}", "entries") for n in range(5_000)]


def test_of_one_percent_poison_only_the_poison_dies_and_the_good_wait_for_nothing(seeded: random.Random) -> None:
    async def poisoned() -> None:
        server = EmbeddedInVirtualTime(ENTRIES, spread=seeded.random)
        server.send(poisoned_messages(seeded, 50))
        server.start()
        await asyncio.sleep(30)
        assert server.statuses()["processed"] == 4_950  # before the poison is given up
        await server.until_finished(within_s=600)
        assert server.statuses() == {"processed": 4_950, "dead": 50}
        good = server.database.execute("SELECT DISTINCT receive_count FROM messages WHERE status = 'processed'")
        assert good.fetchall() == [(1,)]  # each with its first batch
        dead = server.database.execute(
            "SELECT DISTINCT attempts, receive_count, error_type, instr(body, 'true') > 0 FROM messages"
            " WHERE status = 'dead'"
        )
        assert dead.fetchall() == [(limits.MAX_ATTEMPTS, limits.MAX_ATTEMPTS, "KeyError", 1)]

    run(poisoned())


def test_poison_in_an_outage_neither_ends_the_wait_nor_dies_of_it(seeded: random.Random) -> None:
    async def both() -> None:
        server = EmbeddedInVirtualTime(ENTRIES, lambda now: "down" if now < 7200 else None, seeded.random)
        server.send(poisoned_messages(seeded, 1_000))
        server.start()
        await asyncio.sleep(7100)
        assert server.statuses() == {"queued": 5_000}
        assert sum(server.receive_counts()) < 1_500  # what was in flight when it began, and a probe every 30 s
        await server.until_finished(within_s=3600)
        assert server.statuses() == {"processed": 4_000, "dead": 1_000}

    run(both())
