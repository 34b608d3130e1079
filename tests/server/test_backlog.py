"""The processor sets its own pace: a backlog waits on the disk and is drained completely, under the ceilings that the
operator chose, and the front answers meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import time
from pathlib import Path

import pytest

from decoupled.core.workload import Message
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.messages import SqliteQueue
from tests.support.server import serving, wait_for

BACKLOG = 20_000
ACCEPTED_AT = 1_795_430_130_123


def fill(data: Path, count: int, workload: str, body: str) -> list[str]:
    """Messages that were accepted while no server ran. Their ids."""
    data.mkdir(exist_ok=True)
    messages = [Message(f"{number:08d}-waits", workload, body, "anonymous", ACCEPTED_AT) for number in range(count)]
    with contextlib.closing(Database(data / "decoupled.sqlite3")) as database:
        assert SqliteQueue(database).send(messages) == [None] * count
    return [message.id for message in messages]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_backlog_is_drained_completely_and_once(data: Path) -> None:
    fill(data, BACKLOG, "ledger", '{"account": 3, "amount": 2}')
    with serving(data, "--workloads", "ledger,echoes") as server:
        assert server.wait_until_settled(seconds=120) == {"processed": 2 * BACKLOG}
        expected = {"entries": BACKLOG, "total": 2 * BACKLOG}
        assert server.get("/ledger/accounts/3").json == expected
        assert server.get("/echoes/accounts/3").json == expected
        assert server.rows("SELECT max(receive_count) FROM messages") == [(1,)]


def test_the_front_answers_while_a_backlog_waits(data: Path) -> None:
    waiting = fill(data, BACKLOG, "hazards", '{"act": "slow", "seconds": 30}')
    with serving(data, "--workloads", "hazards,ledger,echoes", "--drain", "0") as server:
        ids = [server.post("/hazards", {}).json["id"] for _ in range(50)]
        for path in (f"/hazards/{waiting[-1]}", *[f"/hazards/{message_id}" for message_id in ids]):
            assert server.get(path).json["status"] == "queued"
        assert server.get("/health").status == 200


def test_a_backlog_of_one_workload_does_not_hold_up_another(data: Path) -> None:
    fill(data, BACKLOG, "hazards", '{"act": "slow", "seconds": 0.01}')
    with serving(data, "--workloads", "hazards,ledger,echoes", "--drain", "5") as server:
        wait_for(lambda: server.statuses().get("processed"))
        ids = server.accept("/ledger", *[{"account": 1, "amount": 1}] * 20)
        server.wait_until("processed", *[f"/ledger/{message_id}" for message_id in ids])
        assert server.statuses()["queued"] > BACKLOG / 2


def test_messages_of_a_workload_that_is_not_served_wait_for_a_server_that_serves_it(data: Path) -> None:
    fill(data, 20, "hazards", "{}")
    with serving(data, "--workloads", "ledger,echoes") as server:
        server.accept("/ledger", {"account": 1, "amount": 1})
        wait_for(server.statuses, lambda it: it.get("processed") == 2)  # the entry, and the echo that it emits
        assert server.statuses()["queued"] == 20
    with serving(data, "--workloads", "hazards") as server:
        assert server.wait_until_settled() == {"processed": 22}


@pytest.mark.parametrize("waiting", [True, False], ids=["a backlog", "what comes in"])
def test_no_more_messages_are_processed_than_the_rate_allows(data: Path, waiting: bool) -> None:
    rate, count = 50, 200
    if waiting:
        fill(data, count, "hazards", "{}")
    began_ms = time.time_ns() // 1_000_000
    with serving(data, "--workloads", "hazards", "--rate", str(rate)) as server:
        if not waiting:
            for _ in range(count // 20):
                server.accept("/hazards", *[{}] * 20)
        assert server.wait_until_settled(seconds=60) == {"processed": count}
        ((ended_ms,),) = server.rows("SELECT max(finished_at) FROM messages")
    # It starts with one second's messages in hand; all others must have been earned since.
    assert count <= rate + rate * (ended_ms - began_ms) / 1000


def test_no_more_messages_are_processed_at_once_than_there_are_workers(data: Path, tmp_path: Path) -> None:
    spans = tmp_path / "spans"
    spans.mkdir()
    body = f'{{"act": "span", "seconds": 0.02, "spans": "{spans}"}}'
    fill(data, 100, "hazards", body)
    with serving(data, "--workloads", "hazards", "--concurrency", "3") as server:
        server.wait_until_settled()
    moments = sorted(
        moment
        for file in spans.iterdir()
        for begin, end in [map(int, file.read_text().split())]
        for moment in ((begin, 1), (end, -1))
    )
    assert len(moments) == 200
    assert max(itertools.accumulate(step for _, step in moments)) == 3


def test_delays_of_messages_outlive_a_restart(data: Path) -> None:
    with contextlib.closing(_database(data)) as database:
        queue = SqliteQueue(database)
        late, soon = (Message(name, "hazards", "{}", "anonymous", ACCEPTED_AT) for name in ("late", "soon"))
        deliveries = queue.send_claimed([late, soon], 60)
        queue.retry_later(list(zip(deliveries, (600, 0.5), strict=True)))
    with serving(data, "--workloads", "hazards") as server:
        server.wait_until("processed", "/hazards/soon")
        assert server.get("/hazards/late").json["status"] == "queued"


def _database(data: Path) -> Database:
    data.mkdir()
    return Database(data / "decoupled.sqlite3")
