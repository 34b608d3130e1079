"""However the process dies, nothing that was answered 202 is lost, and nothing is applied twice. The server is
killed under load, at random moments and at named points, and started again on the same data; then every id is accounted
for."""

from __future__ import annotations

import collections
import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.table import SqliteTable
from tests.support.server import LAUNCH, Server, wait_for

POINTS = (
    "before_begin",
    "after_begin",
    "after_insert",
    "before_commit_of_a_send",
    "after_commit_of_a_send",
    "after_claim",
    "before_commit_of_a_claim",
    "after_commit_of_a_claim",
    "before_settle",
    "before_commit_of_a_settlement",
    "after_commit_of_a_settlement",
    "after_release",
    "checkpoint",
)
CLIENTS = 6
ACCOUNTS = 7
RANDOM_KILLS = 24
WORKER_KILLS = 25


@dataclass
class Load:
    """Clients that post ledger entries one after the other, through every crash. Those with a key send again what they
    got no answer for, until there is one; the others cannot know and go on."""

    port: int
    seed: int
    accepted: dict[str, tuple[int, int]] = field(default_factory=dict)  # id → account and amount
    unanswered: list[tuple[int, int]] = field(default_factory=list)
    refused: collections.Counter[int] = field(default_factory=collections.Counter)
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Load:
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _run(self, number: int) -> None:
        choose = random.Random(self.seed * 1000 + number)
        keyed = number % 2 == 0
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        for turn in itertools.count():
            size = choose.choice((1, 1, 1, 7))
            entries = [(choose.randrange(ACCOUNTS), choose.randrange(1000)) for _ in range(size)]
            headers = {"content-type": "application/json"}
            if keyed:
                headers["idempotency-key"] = f'"{self.seed}-{number}-{turn}"'
            while not self._send(connection, entries, headers):
                if not keyed:
                    break
                if self.stopping.is_set():
                    return
            if self.stopping.is_set():
                return

    def _send(self, connection: http.client.HTTPConnection, entries: list[Any], headers: dict[str, str]) -> bool:
        body = json.dumps([{"account": account, "amount": amount} for account, amount in entries])
        try:
            connection.request("POST", "/ledger", body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except ConnectionRefusedError:
            connection.close()
            self.stopping.wait(0.01)  # it is down
            return False
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            with self.lock:
                self.unanswered += entries
            return False
        if response.status != 202:
            with self.lock:
                self.refused[response.status] += 1
            return False
        with self.lock:
            for accepted in answer["accepted"]:
                self.accepted[accepted["id"]] = entries[accepted["index"]]
        return True


@pytest.fixture
def seed() -> int:
    """Of this run; `CRASH_SEED` replays one."""
    chosen = int(os.environ.get("CRASH_SEED", random.randrange(1_000_000)))
    print(f"CRASH_SEED={chosen}")  # noqa: T201  shown when the test fails
    return chosen


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", "--workloads", "ledger,echoes", "--log-level", "WARNING")
    yield server
    server.end()


def test_nothing_is_lost_or_done_twice_in_fifty_crashes(server: Server, seed: int) -> None:
    choose = random.Random(seed)
    crashes: list[str | None] = [*POINTS, *POINTS, *[None] * RANDOM_KILLS]
    choose.shuffle(crashes)
    with Load(server.port, seed) as load:
        for point in crashes:
            if point is None:
                _kill_at_random(server, choose)
            else:
                _kill_at(server, point, choose.randint(1, 8))
        server.start()
        before = len(load.accepted)
        wait_for(lambda: len(load.accepted) > before)  # it serves on
    _account_for_everything(server, load)


@pytest.mark.parametrize("point", ["after_insert", "before_commit_of_a_send", "after_commit_of_a_send"])
def test_a_message_that_an_idle_server_hands_to_a_worker_at_once_is_sent_again_safely(
    server: Server, point: str
) -> None:
    server.spawn(*LAUNCH, point, "1")
    server.wait_until_up()
    entry, headers = {"account": 1, "amount": 3}, {"idempotency_key": '"once"'}
    with pytest.raises((OSError, http.client.HTTPException)):
        server.post("/ledger", entry, **headers)
    assert server.wait() == -signal.SIGKILL, server.logged()
    server.start()
    ((before,),) = server.rows("SELECT count(*) FROM messages WHERE workload = 'ledger'")
    assert before == (1 if point == "after_commit_of_a_send" else 0)
    location = server.post("/ledger", entry, **headers).headers["location"]
    server.wait_until("processed", location)
    assert server.get("/ledger/accounts/1").json == {"entries": 1, "total": 3}


def test_killed_workers_lose_nothing(server: Server, seed: int) -> None:
    choose = random.Random(seed)
    server.start()
    with Load(server.port, seed) as load:
        for _ in range(WORKER_KILLS):
            _kill_a_worker(server, choose, load)
    _account_for_everything(server, load)


def _kill_a_worker(server: Server, choose: random.Random, load: Load) -> None:
    """And see that orders are accepted after that."""
    workers = wait_for(server.workers)
    before = len(load.accepted)
    with contextlib.suppress(ProcessLookupError):
        os.kill(choose.choice(workers), signal.SIGKILL)
    wait_for(lambda: len(load.accepted) > before)


def _kill_at_random(server: Server, choose: random.Random) -> None:
    server.spawn()
    if choose.random() < 0.8:
        server.wait_until_up()
    time.sleep(choose.uniform(0, 0.4))  # not a wait for anything: the moment is what is random
    server.kill()
    assert server.process is not None
    assert server.process.returncode == -signal.SIGKILL, server.logged()


def _kill_at(server: Server, point: str, nth: int) -> None:
    server.spawn(*LAUNCH, point, "1" if point == "after_release" else str(nth))
    status = server.wait()
    assert status == -signal.SIGKILL, f"{point}, {nth}th time: {status} {server.logged()}"


def _account_for_everything(server: Server, load: Load) -> None:
    server.wait_until_settled(seconds=60)
    assert server.stop() == 0, server.logged()
    assert server.rows("PRAGMA integrity_check") == [("ok",)]

    rows = server.rows("SELECT id, status, json_extract(result, '$.account', '$.amount') FROM messages")
    ledger = {message_id: json.loads(entry) for message_id, _, entry in rows if entry != "[null,null]"}
    lost = load.accepted.keys() - ledger.keys()
    assert not lost, f"{len(lost)} of {len(load.accepted)} accepted are lost"
    assert {status for _, status, _ in rows} == {"processed"}  # crashes are not a message's fault: none is dead
    for message_id, (account, amount) in load.accepted.items():
        assert ledger[message_id] == [account, amount]
    # What nobody was told about may be there or not, but only what somebody sent.
    assert len(ledger) - len(load.accepted) <= len(load.unanswered)
    assert len(rows) == 2 * len(ledger)  # each emitted one echo
    _check_sums(server, list(ledger.values()))


def _check_sums(server: Server, entries: list[list[int]]) -> None:
    """Each entry and its echo counted once, by what the accounts hold."""
    with contextlib.closing(Database(server.data / "decoupled.sqlite3", read_only=True)) as database:
        table = SqliteTable(database)
        for account, workload in itertools.product(range(ACCOUNTS), ("ledger", "echoes")):
            amounts = [amount for of, amount in entries if of == account]
            expected = {"entries": len(amounts), "total": sum(amounts)}
            assert table.item(f"{workload}/accounts/{account}") == expected
