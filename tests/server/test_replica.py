"""A replica of a server's data, made by Litestream itself: what is in it when the machine dies, at which moment, and
what the server says meanwhile. Real processes, real kills; a directory here, object storage in MiniStack."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from decoupled.core.times import now_ms, rfc3339
from tests.support import ministack
from tests.support.litestream import Litestream, audited, told, wait_until_there
from tests.support.server import Server, decoupled, serving, wait_for

ENTRY = {"account": 1, "amount": 5}
WORKLOADS = ("--workloads", "ledger,echoes")


@contextlib.contextmanager
def replicated(
    directory: Path, target: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[Server, Litestream]]:
    """A server, and Litestream beside it."""
    data = directory / "data"
    litestream = Litestream(data, target, environment)
    try:
        with serving(data, *WORKLOADS, "--replica", target, environment=environment) as server:
            litestream.start()
            yield server, litestream
    finally:
        litestream.kill()


def known(data: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(f"file:{data / 'decoupled.sqlite3'}?mode=ro", uri=True)) as file:
        return {row[0] for row in file.execute("SELECT id FROM messages")}


def test_a_replica_is_restored_as_it_was_at_a_moment_and_goes_on(tmp_path: Path) -> None:
    target = str(tmp_path / "replica")
    with replicated(tmp_path, target) as (server, litestream):
        key = decoupled("keys", "add", "shop", "--data", server.data)
        first = server.accept("/ledger", *[ENTRY] * 50)
        wait_until_there(server)
        moment = rfc3339(now_ms())
        time.sleep(1)  # Litestream tells moments to the second
        second = server.accept("/ledger", *[ENTRY] * 50)
        wait_until_there(server)
        notes = json.loads(decoupled("status", "--json", "--data", server.data))["notes"]
        assert "replica: all is there" in notes
        assert b"decoupled_replica_lag_bytes 0" in server.get("/metrics").body
        for path in (server.data / ".decoupled.sqlite3-litestream").rglob("*"):
            assert not path.stat().st_mode & 0o077, path
        server.wait_until_settled()
        wait_until_there(server)

        said = decoupled("restore", "--at", moment, "--replica", target, "--data", tmp_path / "then")
        assert said.startswith(f"restored {target} to {tmp_path / 'then'}, as of {moment[:15]}"), said
        assert "audited: accepted " in said
        assert known(tmp_path / "then").issuperset(first)
        assert not known(tmp_path / "then").intersection(second)
        assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".then")]

        server.kill()  # the machine dies
        litestream.kill()
        shutil.rmtree(server.data)
        said = decoupled("restore", "--at", "now", "--replica", target, "--data", server.data)
        ledger = tmp_path / "ids"
        ledger.write_text("\n".join([*first, *second]))
        assert audited(server.data, ledger)["faults"] == []
        assert (server.data / "keys").exists(), "what keys are valid came along"
        assert key.split()[-1]

        server.start()  # and goes on with the same replica
        litestream.start()
        third = server.accept("/ledger", *[ENTRY] * 5)
        wait_until_there(server)
        decoupled("restore", "--at", "now", "--replica", target, "--data", tmp_path / "again")
        assert known(tmp_path / "again").issuperset([*first, *second, *third])


def test_nothing_accepted_is_missing_from_a_replica_but_what_is_within_its_lag(tmp_path: Path) -> None:
    """Both are killed again and again while requests come; then the machine dies at some moment."""
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    target = str(tmp_path / "replica")
    accepted: list[tuple[float, str]] = []
    stop = threading.Event()

    def send(server: Server) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, HTTPException, AssertionError, ValueError):
                ids = server.accept("/ledger", *[{"account": 1, "amount": 1}] * 20)
                accepted.extend((time.monotonic(), an_id) for an_id in ids)

    with replicated(tmp_path, target) as (server, litestream):
        first = server.accept("/ledger", *[ENTRY] * 20)
        wait_until_there(server)
        sending = threading.Thread(target=send, args=(server,))
        sending.start()
        try:
            for number in range(3):
                time.sleep(choose.uniform(0.5, 1.5))  # how far they have got is left to chance
                litestream.kill()
                if number == 0 or choose.random() < 0.5:  # it folds what Litestream has not read, and begins anew
                    server.kill()
                    server.start()
                litestream.start()
            wait_for(lambda: told(server), lambda it: it["looks"] > 2 and it["lag_seconds"] < 5, 60)
            said, at = told(server), time.monotonic()
        finally:
            stop.set()
            sending.join()
        litestream.kill()
        server.kill()
        safe = first + [an_id for when, an_id in accepted if when < at - said["lag_seconds"] - 1]
        decoupled("restore", "--at", "now", "--replica", target, "--data", tmp_path / "restored")
        (tmp_path / "ids").write_text("\n".join(safe))
        report = audited(tmp_path / "restored", tmp_path / "ids")
        assert accepted
        assert report["faults"] == [], (seed, said)
        server.start()
        (tmp_path / "all").write_text("\n".join(an_id for _, an_id in accepted))
        assert audited(server.data, tmp_path / "all")["faults"] == [], seed


def test_a_backup_is_made_beside_litestream_as_ever(tmp_path: Path) -> None:
    with replicated(tmp_path, str(tmp_path / "replica")) as (server, _):
        wait_until_there(server)
        ids = server.accept("/ledger", *[ENTRY] * 100)
        said = decoupled("backup", "--data", server.data, tmp_path / "backup.sqlite3")
        assert said.startswith("verified, ")
        decoupled("restore", tmp_path / "backup.sqlite3", "--data", tmp_path / "restored")
        assert known(tmp_path / "restored").issuperset(ids)


def test_keys_are_in_the_file_as_they_are_now_or_not_at_all(tmp_path: Path) -> None:
    """Whoever restores it does not make those valid again that were revoked."""

    def mirrored(server: Server) -> str | None:
        rows = server.rows("SELECT value FROM marks WHERE name = 'backup keys'")
        return rows[0][0] if rows else None

    data = tmp_path / "data"
    with serving(data, *WORKLOADS, "--replica", str(tmp_path / "replica")) as server:
        decoupled("keys", "add", "ana", "--data", data)
        decoupled("keys", "add", "ben", "--data", data)
        decoupled("keys", "revoke", "ana", "--data", data)
        keys = data / "keys"
        wait_for(lambda: mirrored(server), lambda it: it == keys.read_text())
        keys.rename(tmp_path / "keys")
        wait_for(lambda: mirrored(server), lambda it: it is None)
        (tmp_path / "keys").rename(keys)
        wait_for(lambda: mirrored(server), lambda it: it == keys.read_text())
    keys.unlink()
    decoupled("backup", "--data", data, tmp_path / "backup.sqlite3")
    decoupled("restore", tmp_path / "backup.sqlite3", "--data", tmp_path / "restored")
    assert not (tmp_path / "restored" / "keys").exists()
    with serving(data, *WORKLOADS) as server:
        assert mirrored(server) is None


def test_a_litestream_that_is_gone_and_a_second_one_are_seen(tmp_path: Path) -> None:
    target = str(tmp_path / "replica")
    with replicated(tmp_path, target) as (server, litestream):
        wait_until_there(server)
        litestream.kill()
        server.accept("/ledger", *[ENTRY] * 20)
        behind = wait_for(lambda: told(server), lambda it: it["lag_bytes"] > 0 and it["lag_seconds"] > 0)
        assert "are not there" in behind["says"]
        litestream.start()
        wait_until_there(server)

        other = Litestream(tmp_path / "other", target)  # of another server, by a mistake in its configuration
        with serving(tmp_path / "other", *WORKLOADS) as second:
            other.start()
            try:

                def both() -> str:
                    second.accept("/ledger", *[ENTRY] * 50)
                    server.accept("/ledger", ENTRY)
                    said: str = told(server)["says"]
                    return said

                wait_for(both, lambda says: "another Litestream writes" in says, 60)
                assert server.get("/health").json["status"] == "degraded"
            finally:
                other.kill()


def test_a_replica_in_object_storage_is_watched_and_restored(tmp_path: Path) -> None:
    (tmp_path / "aws").mkdir()
    with ministack.running(tmp_path / "aws") as endpoint:
        environment = ministack.environment(endpoint)
        make = ["aws", "s3", "mb", "s3://replicas"]
        subprocess.run(make, env=environment, check=True, capture_output=True, timeout=60)
        environment["AWS_CA_BUNDLE"] = ""  # which Litestream would add to its own
        target = f"s3://replicas/shop?endpoint={endpoint}&region=us-east-1&forcePathStyle=true"
        with replicated(tmp_path, target, environment) as (server, _):
            ids = server.accept("/ledger", *[ENTRY] * 30)
            wait_until_there(server, 90)
            said = decoupled(
                "restore", "--at", "now", "--replica", target, "--data", tmp_path / "restored", env=environment
            )
            assert "audited: " in said
            assert known(tmp_path / "restored").issuperset(ids)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--at", "yesterday"), "is no moment like"),
        (("--at", "2026-11-30T10:15:00"), "in which zone"),
        (("--at", "2999-01-01T00:00:00Z"), "still to come"),
        (("--at", "now"), "no replica in"),
    ],
)
def test_a_moment_or_a_place_that_is_none_is_refused(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    said = decoupled("restore", *arguments, "--replica", tmp_path / "none", "--data", tmp_path / "data", status=1)
    assert says in said
    assert not (tmp_path / "data").exists()


def test_a_moment_before_there_was_a_replica_is_told_from_when_on_there_is_one(tmp_path: Path) -> None:
    target = str(tmp_path / "replica")
    with replicated(tmp_path, target) as (server, _):
        wait_until_there(server)
    said = decoupled("restore", "--at", "30d ago", "--replica", target, "--data", tmp_path / "then", status=1)
    assert f"the replica in {target} goes back to 20" in said


def test_a_clock_that_is_behind_that_of_the_machine_that_died_costs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "replica"
    with replicated(tmp_path, str(target)) as (server, _):
        ids = server.accept("/ledger", *[ENTRY] * 20)
        wait_until_there(server)
    for part in target.rglob("*.ltx"):
        later = part.stat().st_mtime + 3_600
        os.utime(part, (later, later))
    decoupled("restore", "--at", "now", "--replica", target, "--data", tmp_path / "restored")
    assert known(tmp_path / "restored").issuperset(ids)
