"""What a server counts, held to what its own file says: asked as tools ask it, after traffic that is known."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decoupled.core.frames import HEADER, frame
from decoupled.core.metrics import METRICS, Numbers
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
            "oldest_age_seconds",
        ):  # the engine's own counts, and not asked for
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
