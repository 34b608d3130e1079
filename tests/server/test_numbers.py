"""What a server counts, held to what its own file says: asked as tools ask it, after traffic that is known."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decoupled.core.frames import HEADER, frame
from decoupled.core.metrics import METRICS, Counts, Numbers
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite import admin, admin_socket
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.tool import ServerNumbers
from tests.support.server import Server, decoupled, serving, wait_for

OPTIONS = ("--workloads", "hazards,ledger,echoes,calls", "--max-attempts", "1")


@pytest.fixture(params=["2", "0"], ids=["fronts", "inside"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", *OPTIONS, "--fronts", request.param) as server:
        yield server


def numbers(server: Server) -> Numbers:
    told = ServerNumbers(DataDirectory(server.data)).ask()
    assert told is not None
    return told[0]


def counted(server: Server, *metrics: str) -> dict[str, dict[str, int]]:
    """What there is to tell of these counters."""
    counters = numbers(server).counters
    return {metric: {label: n for label, n in counters[metric].items() if n} for metric in metrics}


MESSAGES = ("accepted", "processed", "rejected", "dead", "dead_ended", "redriven")


def test_each_message_is_counted_once_for_each_thing_that_happens_to_it(server: Server) -> None:
    assert counted(server, *MESSAGES) == {metric: {} for metric in MESSAGES}
    server.accept("/hazards", *[{}] * 7, *[{"act": "reject"}] * 3, *[{"act": "memory"}, {"act": "raise"}] * 2)
    server.accept("/ledger", {"account": 1, "amount": 1})  # which emits an echo
    server.accept("/calls", *[{}] * 5)
    for _ in range(3):
        server.post("/calls", {}, idempotency_key="k")
    server.wait_until_settled()
    assert wait_for(lambda: counted(server, *MESSAGES), lambda it: it["processed"].get("echoes") == 1) == {
        "accepted": {"hazards": 14, "ledger": 1, "echoes": 1, "calls": 6},
        "processed": {"hazards": 7, "ledger": 1, "echoes": 1, "calls": 6},
        "rejected": {"hazards": 3},
        "dead": {"hazards": 4},
        "dead_ended": {},
        "redriven": {},
    }


def test_what_people_do_to_dead_letters_is_counted(server: Server, tmp_path: Path) -> None:
    server.accept("/hazards", *[{"act": "raise"}, {"act": "memory"}] * 3)
    wait_for(server.statuses, lambda it: it == {"dead": 6})
    decoupled("dead", "export", "--data", server.data, "--output", tmp_path / "dead.jsonl")
    decoupled("dead", "purge", "--data", server.data, "--error", "MemoryError", "--yes")
    decoupled("dead", "import", "--data", server.data, tmp_path / "dead.jsonl")  # those that were purged are back
    decoupled("dead", "redrive", "--data", server.data, "--error", "RuntimeError")
    wait_for(server.statuses, lambda it: it == {"dead": 6})  # they fail again
    assert wait_for(lambda: counted(server, *MESSAGES), lambda it: it["dead"].get("hazards") == 12) == {
        "accepted": {"hazards": 9},
        "processed": {},
        "rejected": {"hazards": 3},
        "dead": {"hazards": 12},
        "dead_ended": {"hazards": 6},
        "redriven": {"hazards": 3},
    }


def test_a_metric_has_its_numbers_from_the_start_on(server: Server) -> None:
    told = numbers(server)
    for metric in METRICS.values():
        if metric.name in (
            "messages",
            "unfinished",
            "oldest_age_seconds",  # the engine's own counts, and not asked for
            "backup_age_seconds",  # where it makes any
            "replica_lag_seconds",  # where there is one
            "replica_lag_bytes",
        ):
            continue
        values: dict[str, Any] = getattr(told, f"{metric.kind}s")[metric.name]
        match metric.label:
            case "workload":
                assert values.keys() == {"hazards", "ledger", "echoes", "calls"}, metric
            case "":
                assert values.keys() == {""}, metric
    assert told.gauges["up"] == {"": 1.0}
    assert told.gauges["wal_bytes"][""] > 0
    assert told.gauges["file_bytes"][""] > 0
    assert 0 < told.gauges["disk_free_bytes"][""] < shutil.disk_usage(server.data).total
    assert {"retention", "audit", "backups", "disk"}.issubset(told.gauges["upkeep_trouble"])
    assert set(told.gauges["upkeep_trouble"].values()) == {0.0}


# --- how long it took -----------------------------------------------------------


def observations(server: Server, metric: str) -> dict[str, int]:
    """How many there are of a histogram."""
    told = numbers(server).histograms[metric].items()
    return {label: count for label, counts in told if (count := sum(counts.counts))}


def test_requests_are_measured_one_by_one_and_messages_too(server: Server) -> None:
    for _ in range(3):
        server.post("/hazards", {})
    server.accept("/ledger", *[{"account": 1, "amount": 1}] * 20)
    server.post("/calls", {"act": "sleep", "seconds": 0.3}, prefer="wait=20")  # it is accepted before it ends
    server.post("/calls", [{}, {"no": "call"}])
    server.wait_until_settled()
    wait_for(lambda: observations(server, "accept_seconds"), lambda it: it == {"hazards": 3, "ledger": 1, "calls": 2})
    expected = {"hazards": 3, "ledger": 20, "echoes": 20, "calls": 2}
    assert wait_for(lambda: observations(server, "processing_seconds"), lambda it: it == expected)
    assert observations(server, "waiting_seconds") == expected
    told = numbers(server)
    assert told.histograms["processing_seconds"]["calls"].sum >= 0.3
    assert told.histograms["accept_seconds"]["calls"].sum > 0
    assert told.histograms["commit_messages"][""].sum == sum(told.counters["accepted"].values()) == 45
    assert sum(told.histograms["commit_seconds"][""].counts) > sum(told.histograms["commit_messages"][""].counts)


def test_what_is_refused_is_counted_by_its_status(server: Server) -> None:
    expected = {"404": 2, "422": 3, "405": 1, "501": 1}
    for _ in range(3):
        assert server.post("/hazards", {"no": "hazard"}).status == 422
    assert server.get("/nothing/here/at/all").status == 404
    assert server.get("/hazards/nothing").status == 404
    assert server.ask("DELETE", "/hazards").status == 405
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert b" 501 " in client.recv(1_000)
    assert wait_for(lambda: counted(server, "refused"), lambda it: it == {"refused": expected})


def test_fronts_that_are_replaced_tell_what_they_have_counted(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *OPTIONS, "--fronts", "2") as server:
        wait_for(lambda: len(server.fronts()), lambda count: count == 2)
        before = {*server.fronts()}
        for _ in range(30):
            assert server.post("/calls", {}).status == 202
        os.kill(server.pid, signal.SIGHUP)
        wait_for(server.fronts, lambda fronts: not before & {*fronts})
        assert wait_for(lambda: observations(server, "accept_seconds"), lambda it: it == {"calls": 30})


def test_a_front_that_dies_takes_no_message_out_of_the_count(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *OPTIONS, "--fronts", "1") as server:
        server.accept("/calls", *[{}] * 50)
        (front,) = server.fronts()
        os.kill(front, signal.SIGKILL)
        wait_for(server.fronts, lambda fronts: bool(fronts) and front not in fronts)
        server.accept("/calls", *[{}] * 7)
        server.wait_until_settled()
        assert wait_for(lambda: counted(server, "processed"), lambda it: it == {"processed": {"calls": 57}})
        assert counted(server, "accepted") == {"accepted": {"calls": 57}}


# --- the sum --------------------------------------------------------------------


def held_to_the_file(server: Server) -> dict[str, Any]:
    """By workload, what is counted of each status, and what there is in the file: alike, at rest."""
    counters = numbers(server).counters
    ended = {metric: dict(Counter(counters[metric])) for metric in ("accepted", "processed", "rejected", "dead")}
    for name, count in counters["dead_ended"].items():
        ended["dead"][name] -= count
    ended = {metric: {name: count for name, count in values.items() if count} for metric, values in ended.items()}
    found: dict[str, dict[str, int]] = {metric: {} for metric in ended}
    rows = server.rows("SELECT workload, status, count(*) FROM messages GROUP BY 1, 2 ORDER BY 1, 2")
    for name, status, count in rows:
        if status != "queued":
            found[status][name] = count
        found["accepted"][name] = found["accepted"].get(name, 0) + count
    return {"counted": ended, "found": found}


class Traffic(threading.Thread):
    """Orders of all kinds, some sent again under the same key, while workers and fronts die and people change dead
    letters."""

    def __init__(self, server: Server, seed: int) -> None:
        super().__init__()
        self.server = server
        self.random = random.Random(seed)
        self.trouble: list[str] = []

    def run(self) -> None:
        for number in range(40):
            try:
                self._step(number)
            except (OSError, http.client.HTTPException):  # a front died with it: it may have been accepted
                pass
            except Exception as error:  # noqa: BLE001  for the test to show
                self.trouble.append(repr(error))

    def _step(self, number: int) -> None:
        acts = self.random.choices(["well", "reject", "raise", "memory", "os_exit", "kill"], [60, 12, 4, 4, 1, 1], k=20)
        match self.random.randrange(6):
            case 0:
                self.server.post("/ledger", [{"account": 1, "amount": number}] * self.random.randrange(1, 60))
            case 1:
                key = f"{self.random.randrange(5)}"
                self.server.post("/calls", [{}] * 3, idempotency_key=key)
            case 2:
                self.server.post("/calls", {}, delay="1")
            case 3:
                self.server.post("/calls", {}, callback_url="http://127.0.0.1:9/")  # refused
            case _:
                self.server.post("/hazards", [{"act": act} for act in acts])


@pytest.mark.parametrize("fronts", ["2", "0"])
def test_what_is_counted_is_what_there_is(tmp_path: Path, fronts: str) -> None:
    seed = random.randrange(2**32)
    with serving(tmp_path / "data", *OPTIONS, "--fronts", fronts) as server:
        traffic = [Traffic(server, seed + number) for number in range(3)]
        for thread in traffic:
            thread.start()
        for command in ("redrive", "purge", "redrive"):
            wait_for(lambda: server.statuses().get("dead", 0), lambda dead: dead > 5, seconds=60)
            decoupled("dead", command, "--data", server.data, "--all", *["--yes"] * (command == "purge"))
            if fronts == "2":
                os.kill(server.fronts()[0], signal.SIGKILL)
        for thread in traffic:
            thread.join()
        assert [thread.trouble for thread in traffic] == [[]] * 3
        server.wait_until_settled(120)
        both = wait_for(lambda: {"seed": seed} | held_to_the_file(server), lambda it: it["counted"] == it["found"])
        assert all(both["found"].values()), both
        assert numbers(server).counters["redriven"]["hazards"] > 0


# --- who asks -------------------------------------------------------------------


def test_without_a_server_there_is_nothing_to_tell(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *OPTIONS) as server:
        assert ServerNumbers(DataDirectory(server.data)).ask() is not None
    assert ServerNumbers(DataDirectory(tmp_path / "data")).ask() is None
    server.start()
    server.kill()
    assert ServerNumbers(DataDirectory(tmp_path / "data")).ask() is None


def test_health_is_told_with_the_numbers(server: Server) -> None:
    def told() -> dict[str, Any] | None:
        return (ServerNumbers(DataDirectory(server.data)).ask() or (None, None))[1]

    assert wait_for(told, lambda health: health == server.get("/health").json) is not None


def test_a_server_that_hangs_is_not_waited_for(server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    try:
        with pytest.raises(Unavailable, match="has not answered in time"):
            ServerNumbers(DataDirectory(server.data)).ask()
    finally:
        server.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]


@contextmanager
def server_that_says(directory: Path, answer: bytes) -> Iterator[DataDirectory]:
    """Not ours: whatever it is asked."""
    directory.mkdir()
    listener = admin_socket.listen(directory)
    listener.setblocking(True)
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            (size,) = HEADER.unpack(connection.recv(HEADER.size))
            connection.recv(size)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    DataDirectory(directory).publish("http://127.0.0.1:1")
    try:
        yield DataDirectory(directory)
    finally:
        thread.join()
        listener.close()


def test_a_server_of_an_earlier_version_says_that_it_does_not_understand(tmp_path: Path) -> None:
    refused = admin.Refused("it does not understand this tool; is it of the same version?")
    with (
        server_that_says(tmp_path / "data", frame(msgspec.msgpack.encode(refused))) as directory,
        pytest.raises(Unavailable, match="is it of the same version"),
    ):
        ServerNumbers(directory).ask()
    with (
        server_that_says(tmp_path / "other", frame(msgspec.msgpack.encode(admin.Done([])))) as directory,
        pytest.raises(Unavailable, match="what it was not asked"),
    ):
        ServerNumbers(directory).ask()


def test_a_server_that_counts_otherwise_is_asked_for_no_numbers(tmp_path: Path) -> None:
    """Of a later version, say: nobody could tell what is in its buckets, nor add them up."""
    numbers = Numbers(histograms={"accept_seconds": {"orders": Counts([1, 2, 3])}, "later": {"": Counts([1])}})
    told = frame(msgspec.msgpack.encode(admin.Told(numbers, {"status": "ok"})))
    with server_that_says(tmp_path / "data", told) as directory, pytest.raises(Unavailable, match="another version"):
        ServerNumbers(directory).ask()
    del numbers.histograms["accept_seconds"]
    told = frame(msgspec.msgpack.encode(admin.Told(numbers, {"status": "ok"})))
    with server_that_says(tmp_path / "other", told) as directory:
        assert ServerNumbers(directory).ask() is not None
