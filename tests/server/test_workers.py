"""What a workload does to its process stays there: the other messages are processed, the bad one alone is dead, with
its reason, and another worker takes over. And a server that ends takes its workers along, whatever they do."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server, alive, wait_for

OPTIONS = ("--workloads", "hazards", "--max-attempts", "2")

# What a message does, and what is known of it when it is dead.
FATAL = {
    "raise": ("RuntimeError", "the workload says no"),
    "memory": ("MemoryError", ""),
    "recurse": ("RecursionError", "maximum recursion depth"),
    "sys_exit": ("", "3"),
    "os_exit": ("Crashed", "exit status 4"),
    "segfault": ("Crashed", f"killed by signal {signal.SIGSEGV.value}"),
    "kill": ("Crashed", f"killed by signal {signal.SIGKILL.value}"),
    "close_everything": ("Crashed", ""),
    "garbage": ("Crashed", "what it says cannot be read"),
    "hang_in_python": ("TimeLimitExceeded", "it took longer"),
    "hang_in_c": ("Crashed", "function timeout of 4 s"),
    "swallow": ("", ""),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", *OPTIONS, "--function-timeout", "1", "--concurrency", "1")
    yield server
    server.end()


@pytest.fixture(scope="module")
def hazardous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, list[str]]]]:
    """A server with every kind of bad message at once, each amid good ones."""
    options = (*OPTIONS, "--function-timeout", "4", "--concurrency", "4")  # time enough for the good on a busy machine
    server = Server(tmp_path_factory.mktemp("hazards") / "data", *options)
    try:
        server.start()
        good = {"act": "well"}
        yield server, {act: server.accept("/hazards", good, {"act": act}, good, good) for act in FATAL}
        assert server.stop() == 0, server.logged()
    finally:
        server.end()


def error_of(server: Server, message_id: str) -> tuple[str | None, str | None, int]:
    ((error_type, error, attempts),) = server.rows(
        "SELECT error_type, error, attempts FROM messages WHERE id = ?", message_id
    )
    return error_type, error, attempts


@pytest.mark.parametrize("act", FATAL)
def test_a_bad_message_dies_alone_and_those_around_it_are_processed(
    hazardous: tuple[Server, dict[str, list[str]]], act: str
) -> None:
    server, sent = hazardous
    before, bad, *after = sent[act]
    for message_id in (before, *after):
        server.wait_until("processed", f"/hazards/{message_id}", seconds=60)
        assert error_of(server, message_id) == (None, None, 0)  # nothing is held against the others
    (record,) = server.wait_until("dead", f"/hazards/{bad}", seconds=60)
    error_type, error, attempts = error_of(server, bad)
    expected_type, expected_error = FATAL[act]
    assert expected_type in (error_type or "")
    assert expected_error in (error or "")
    assert record["attempts"] == attempts == 2


def test_a_server_that_lost_many_workers_has_them_all_again(
    hazardous: tuple[Server, dict[str, list[str]]],
) -> None:
    server, _ = hazardous
    server.wait_until_settled(seconds=60)
    wait_for(server.workers, lambda workers: len(workers) == 4)
    ids = server.accept("/hazards", *[{"act": "well"}] * 50)
    server.wait_until("processed", *[f"/hazards/{message_id}" for message_id in ids])


def test_two_poison_messages_in_a_batch_take_nobody_with_them(server: Server) -> None:
    server.start()
    entries = [{"act": act} for act in ("well", "os_exit", "well", "well", "segfault", "well")]
    first, exits, second, third, crashes, last = server.accept("/hazards", *entries)
    server.wait_until("processed", *[f"/hazards/{message_id}" for message_id in (first, second, third, last)])
    server.wait_until("dead", f"/hazards/{exits}", f"/hazards/{crashes}")


def test_a_message_that_killed_its_worker_once_is_processed_later(server: Server, tmp_path: Path) -> None:
    server.start()
    (message_id,) = server.accept("/hazards", {"act": "os_exit", "once": str(tmp_path / "done")})
    server.wait_until("processed", f"/hazards/{message_id}")


def test_what_a_workload_prints_is_harmless(server: Server) -> None:
    server.start()
    ids = server.accept("/hazards", *[{"act": "print"}] * 5)
    server.wait_until("processed", *[f"/hazards/{message_id}" for message_id in ids])
    assert "to standard error" in server.log.read_text()


@pytest.mark.parametrize("fork", ["fork", "fork_and_return"])
def test_a_child_of_a_workload_holds_up_nothing(server: Server, fork: str) -> None:
    server.start()
    ids = server.accept("/hazards", {"act": fork, "seconds": 30}, {"act": "os_exit"}, {"act": "well"})
    server.wait_until("processed", f"/hazards/{ids[0]}", f"/hazards/{ids[2]}")
    server.wait_until("dead", f"/hazards/{ids[1]}")
    assert server.stop() == 0, server.logged()


def test_a_child_that_python_does_not_know_of_holds_up_nothing_for_longer_than_the_timeout(server: Server) -> None:
    server.start()
    forks, well = server.accept("/hazards", {"act": "fork_in_c", "seconds": 30}, {"act": "well"})
    server.wait_until("processed", f"/hazards/{well}")
    server.wait_until("dead", f"/hazards/{forks}")


def test_a_business_rejection_is_final_and_costs_no_attempt(server: Server) -> None:
    server.start()
    (message_id,) = server.accept("/hazards", {"act": "reject"})
    (record,) = server.wait_until("rejected", f"/hazards/{message_id}")
    assert record["reason"] == "against the rules"


def test_a_sick_backend_kills_no_message(server: Server, tmp_path: Path) -> None:
    server.start()
    entries = [{"act": "unavailable", "once": str(tmp_path / f"once-{number}")} for number in range(5)]
    ids = server.accept("/hazards", *entries)
    server.wait_until("processed", *[f"/hazards/{message_id}" for message_id in ids])


def test_a_message_that_kills_its_server_again_and_again_is_dead_in_the_end(server: Server) -> None:
    server.options += ("--max-receive-count", "3")
    server.start()
    with contextlib.suppress(OSError, http.client.HTTPException):  # the server may end before it could answer
        server.post("/hazards", {"act": "kill_the_server"})
    for _ in range(3):
        assert server.wait() == -signal.SIGKILL
        server.spawn()
    server.wait_until_up()
    ((bad,),) = server.rows("SELECT id FROM messages")
    server.wait_until("dead", f"/hazards/{bad}")
    assert error_of(server, bad)[0] == "MaxReceiveCountExceeded"


# --- the end of a server ------------------------------------------------------


@pytest.mark.parametrize("act", ["well", "hang_in_python", "hang_in_c", "swallow"])
def test_workers_do_not_outlive_a_killed_server(server: Server, tmp_path: Path, act: str) -> None:
    server.options += ("--function-timeout", "15")
    server.start()
    workers = wait_for(server.workers)
    server.accept("/hazards", {"act": act, "touch": str(tmp_path / "began")})
    wait_for((tmp_path / "began").exists)
    server.kill()
    wait_for(lambda: [pid for pid in workers if alive(pid)], lambda left: not left)


def test_sigterm_finishes_what_is_in_flight(server: Server, tmp_path: Path) -> None:
    server.start()
    began = tmp_path / "began"
    server.accept("/hazards", {"act": "slow", "seconds": 0.7, "touch": str(began)})
    wait_for(began.exists)
    assert server.stop() == 0, server.logged()
    assert server.statuses() == {"processed": 1}


@pytest.mark.parametrize("act", ["hang_in_python", "hang_in_c"])
def test_sigterm_with_a_hung_worker_ends_by_the_deadline_and_keeps_the_message(
    server: Server, tmp_path: Path, act: str
) -> None:
    server.options += ("--function-timeout", "60", "--drain", "0.5")
    server.start()
    workers = wait_for(server.workers)
    began = tmp_path / "began"
    (message_id,) = server.accept("/hazards", {"act": act, "touch": str(began)})
    wait_for(began.exists)
    assert server.stop() == 0, server.logged()
    assert server.statuses() == {"queued": 1}
    assert error_of(server, message_id)[2] == 0  # the end of the server is not the message's fault
    wait_for(lambda: [pid for pid in workers if alive(pid)], lambda left: not left)
    visible = "SELECT count(*) FROM messages WHERE visible_at <= unixepoch() * 1000 + 1000"
    assert server.rows(visible) == [(1,)]  # at once for the next server, not after its visibility timeout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_finishes_what_is_in_flight(server: Server, tmp_path: Path, number: int) -> None:
    """As Ctrl-C sends it, and as systemd does, unless it is told otherwise."""
    (tmp_path / "noted").mkdir()
    server.start()
    server.accept("/hazards", {"act": "slow", "seconds": 0.7, "noted": str(tmp_path / "noted")})
    wait_for(lambda: list((tmp_path / "noted").iterdir()))
    os.killpg(server.pid, number)
    assert server.wait() == 0, server.logged()
    assert server.statuses() == {"processed": 1}
    assert len(list((tmp_path / "noted").iterdir())) == 1  # decided once


def test_what_a_workload_forks_can_be_asked_to_end(server: Server) -> None:
    server.start()
    (message_id,) = server.accept("/hazards", {"act": "end_a_fork"})
    server.wait_until("processed", f"/hazards/{message_id}")


def test_a_second_signal_does_not_break_the_drain(server: Server, tmp_path: Path) -> None:
    server.start()
    began = tmp_path / "began"
    server.accept("/hazards", {"act": "slow", "seconds": 0.7, "touch": str(began)})
    wait_for(began.exists)
    os.kill(server.pid, signal.SIGTERM)
    assert server.stop(signal.SIGINT) == 0, server.logged()
    assert server.statuses() == {"processed": 1}
