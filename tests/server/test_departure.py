"""A server whose messages move elsewhere: from one moment on it accepts nothing, and whatever it has said 202 to before
that is in its file. What is kept of it goes wherever the file goes."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from decoupled.core.dead_letters import Wanted as WantedLetters
from decoupled.core.departure import NotPossible, Wanted
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.departure import ARRIVAL
from decoupled.engines.sqlite.departure_tool import ToolDeparture
from decoupled.engines.sqlite.tool import ToolDeadLetters
from tests.support.server import Answer, Server, decoupled, serving, wait_for

STOPPED = Wanted("stopped", "stack shop", "https://shop.example")
DRAINING = Wanted("draining", "stack shop")
MOVED = Wanted("moved", "stack shop")
ACCEPTING = Wanted("accepting", "stack shop")
CLIENTS = 4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", "--workloads", "ledger,echoes,gates,hazards", "--max-attempts", "1") as server:
        yield server


def tool(server: Server) -> ToolDeparture:
    return ToolDeparture(DataDirectory(server.data))


def notes(server: Server) -> str:
    return " ".join(json.loads(decoupled("status", "--data", server.data, "--json"))["notes"])


def refused(answer: Answer, why: str = "move to stack shop") -> bool:
    return answer.status == 503 and answer.headers["retry-after"] == "30" and why in answer.json["detail"]


@pytest.mark.parametrize("fronts", ["0", "2"])
def test_under_load_every_request_after_the_stop_is_refused_and_what_was_accepted_is_there(
    tmp_path: Path, fronts: str
) -> None:
    with serving(tmp_path / "data", "--workloads", "ledger,echoes", "--fronts", fronts) as server:
        accepted: list[str] = []
        late: list[Answer] = []
        stopped, enough = threading.Event(), threading.Event()

        def send(client: int) -> None:
            number = 0
            while not enough.is_set():
                number += 1
                after = stopped.is_set()
                answer = server.post("/ledger", {"account": client, "amount": number})
                if after:
                    late.append(answer)
                elif answer.status == 202:
                    accepted.append(answer.json["id"])

        clients = [threading.Thread(target=send, args=(client,)) for client in range(CLIENTS)]
        for client in clients:
            client.start()
        wait_for(lambda: len(accepted), lambda it: it > 200)
        tool(server).change(STOPPED)
        stopped.set()
        there = {name for (name,) in server.rows("SELECT id FROM messages WHERE workload = 'ledger'")}
        wait_for(lambda: len(late), lambda it: it > 20)
        enough.set()
        for client in clients:
            client.join()
        assert set(accepted) == there  # what had its 202 before, or just then, was in the file when the tool was told
        assert all(refused(answer) for answer in late)
        assert "https://shop.example" in late[0].json["detail"]
        assert late[0].json["resend"] == "safe"
        batch = server.post("/ledger", [{"account": 1, "amount": 1}] * 2)
        assert batch.status == 503
        assert batch.headers["retry-after"] == "30"
        assert server.get(f"/ledger/{accepted[0]}").status == 200
        wait_for(lambda: tool(server).look().in_flight, lambda it: not it)


def test_what_is_in_flight_is_finished_and_what_waits_is_left_until_it_is_taken_back(
    server: Server, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    server.accept("/gates", *[{"file": str(gate)}] * 200)
    wait_for(lambda: server.rows("SELECT count(*) FROM messages WHERE in_flight = 1")[0][0])
    assert tool(server).change(STOPPED).in_flight
    gate.touch()
    wait_for(lambda: tool(server).look().in_flight, lambda it: not it)
    left = server.statuses()
    assert left["processed"] > 0
    assert left["queued"] > 0
    server.kill()
    server.start()
    wait_for(lambda: server.get("/health").json["workers"])
    assert all(refused(server.post("/gates", {"file": str(gate)})) for _ in range(20))
    assert server.statuses() == left
    tool(server).change(DRAINING)
    server.wait_until_settled()
    assert refused(server.post("/ledger", {"account": 1, "amount": 1}))
    tool(server).change(ACCEPTING)
    (name,) = server.accept("/ledger", {"account": 1, "amount": 1})
    server.wait_until("processed", f"/ledger/{name}")
    assert "move" not in notes(server)


def test_after_a_crash_it_is_as_it_was_and_every_place_says_so(server: Server) -> None:
    ended, dead = (
        server.accept(*it)[0] for it in (("/ledger", {"account": 1, "amount": 1}), ("/hazards", {"act": "raise"}))
    )
    server.wait_until("processed", f"/ledger/{ended}")
    server.wait_until("dead", f"/hazards/{dead}")
    tool(server).change(STOPPED)
    server.kill()
    assert "messages move to stack shop" in notes(server)
    server.start()
    wait_for(lambda: "the messages move to stack shop, at https://shop.example, since" in server.logged())
    assert refused(server.post("/ledger", {"account": 1, "amount": 1}))
    assert server.get(f"/ledger/{ended}").json["status"] == "processed"
    health = server.get("/health").json
    assert health["status"] == "degraded"
    assert "--back-out" in health["detail"]
    assert (health["upkeep"]["move"]["state"], health["upkeep"]["move"]["in_flight"]) == ("stopped", False)
    assert "messages move to stack shop" in notes(server)
    assert "messages that were sent here move to stack shop" in decoupled(
        "dead", "redrive", dead, "--data", server.data, status=1
    )
    assert server.statuses()["dead"] == 1
    with pytest.raises(NotPossible, match="move to stack shop"):
        tool(server).change(Wanted("stopped", "stack other"))
    with pytest.raises(NotPossible, match="move to stack shop"):
        tool(server).change(Wanted("accepting", "stack other"))
    tool(server).change(MOVED)
    server.kill()
    server.start()
    wait_for(lambda: "all messages have moved to stack shop" in server.logged())
    assert refused(server.post("/ledger", {"account": 1, "amount": 1}), "have moved to stack shop, at https://")
    with pytest.raises(NotPossible, match="move them back"):
        tool(server).change(ACCEPTING)


def letters(data: Path) -> ToolDeadLetters:
    return ToolDeadLetters(DataDirectory(data))


def test_without_a_server_the_file_is_asked_and_it_goes_wherever_the_file_goes(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--workloads", "hazards", "--max-attempts", "1")
    server.start()
    server.accept("/hazards", {"act": "raise"})
    wait_for(server.statuses, lambda it: it.get("dead") == 1)
    assert server.stop() == 0
    with pytest.raises(NotPossible, match="not stopped"):
        tool(server).change(MOVED)
    tool(server).change(DRAINING)
    tool(server).change(STOPPED)
    told = tool(server).change(MOVED).departure
    assert told is not None
    assert tool(server).look().departure == tool(server).change(MOVED).departure == told
    there = letters(server.data)
    found = list(there.find(WantedLetters(), bodies=True))
    for change in (there.redrive, there.purge, there.restore):
        with pytest.raises(Unavailable, match="have moved to stack shop"):
            change(found)
    there.close()
    decoupled("backup", "--data", server.data, tmp_path / "a.backup")
    assert "all messages have moved" in decoupled("restore", tmp_path / "a.backup", "--data", tmp_path / "restored")
    decoupled("compact", "--data", tmp_path / "restored")
    decoupled("recover", "--data", tmp_path / "restored", "--to", tmp_path / "saved")
    assert ToolDeparture(DataDirectory(tmp_path / "saved")).look().departure == told


def test_what_has_not_arrived_whole_is_not_served(tmp_path: Path) -> None:
    Database(_made(tmp_path / "data") / FILE_NAME).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / FILE_NAME)) as file, file:
        file.execute("INSERT INTO marks VALUES (?, 'stack shop')", (ARRIVAL,))
    server = Server(tmp_path / "data")
    server.spawn()
    try:
        assert server.wait() == 1
        assert "messages move into it from stack shop, and are not all there yet" in server.logged()
    finally:
        server.end()
    with pytest.raises(Unavailable, match="not all there yet"):
        letters(server.data).redrive([])


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700)
    return directory
