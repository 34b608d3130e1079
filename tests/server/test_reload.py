"""SIGHUP has a server read decoupled.toml again: paces, limits and the number of workers change while it works, and
nothing is lost or done twice for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from decoupled.engines.sqlite.database import FILE_NAME
from tests.support.fronts import Clients, ready
from tests.support.server import DECOUPLED, Server, alive, command, wait_for

BEFORE = 'workloads = ["{checks}", "{pages}"]\nfronts = 1\ncaller_waiting = 100000\n'
PAGES = """
import asyncio
import msgspec
from decoupled import Effects, Message, Workload

class Page(msgspec.Struct, forbid_unknown_fields=True):
    number: int = 0

async def process(page: Page, message: Message) -> Effects:
    await asyncio.sleep(0.01)
    return Effects(result={"number": page.number})

WORKLOAD = Workload("pages", Page, process)
"""
SLOW = """
import time
import msgspec
from decoupled import Effects, Message, Workload

class Check(msgspec.Struct, forbid_unknown_fields=True):
    takes_s: float = 0.0

def process(check: Check, message: Message) -> Effects:
    time.sleep(check.takes_s)
    return Effects(result={})

WORKLOAD = Workload("checks", Check, process)
"""


class Configured(Server):
    """Its options are in its project's decoupled.toml, but for its port and its directory."""

    before = ""

    def says(self, more: str, concurrency: int = 1) -> None:
        (self.directory / "decoupled.toml").write_text(f"{self.before}concurrency = {concurrency}\n{more}")

    def reload(self, more: str, concurrency: int = 1) -> dict[str, Any]:
        """The line of its log about it."""
        told = len(self.told())
        self.says(more, concurrency)
        os.kill(self.pid, signal.SIGHUP)
        return wait_for(self.told, lambda lines: len(lines) > told)[-1]

    def told(self) -> list[dict[str, Any]]:
        return [line for line in self.log_lines() if str(line["message"]).startswith("the options are ")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    directory = tmp_path_factory.mktemp("reload")
    server = Configured(directory / "data", program=(str(DECOUPLED),))
    for name, text in (("checks", SLOW), ("pages", PAGES)):
        (directory / f"{name}.py").write_text(text)
    server.before = BEFORE.format(checks="./checks.py", pages="./pages.py")
    server.says("")
    server.start()
    ready(server, 1)
    yield server
    assert server.stop() == 0, server.logged()
    server.end()


def health(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/health").json
    return found


def test_more_workers_and_fewer_and_nothing_is_lost(server: Configured) -> None:
    """Of each of the two kinds."""
    wait_for(lambda: len(server.workers()) == 2)
    with Clients(server, threads=3) as clients:
        clients.go_on(20)
        assert server.reload("", concurrency=3)["changed"] == ["concurrency"]
        wait_for(lambda: len(server.workers()) == 6)
        pages = server.accept("/pages", *[{"number": number} for number in range(500)])
        slow = server.accept("/checks", *[{"takes_s": 0.2}] * 12)
        before = server.workers()
        server.reload('log_level = "DEBUG"\n')  # which replaces all, also the one that has something to do
        wait_for(lambda: len(server.workers()) == 2 and not set(before).intersection(server.workers()))
        clients.go_on(20)
    assert clients.trouble == []
    statuses = server.wait_until_settled()
    assert statuses == {"processed": len(clients.accepted) + len(pages) + len(slow)}
    assert server.rows("SELECT max(attempts) FROM messages")[0][0] <= 1
    assert not any(line["message"] == "worker lost" for line in server.log_lines())
    server.reload("")


def test_a_rate_holds_from_now_on_and_no_longer_than_it_is_there(server: Configured) -> None:
    assert server.reload("rate = 0.01\n")["changed"] == ["rate"]
    ids = server.accept("/checks", *[{}] * 30)
    other = server.accept("/pages", {})
    assert server.statuses()["queued"] >= len(ids) - 1
    server.reload("")
    server.wait_until("processed", *[f"/checks/{it}" for it in ids], *[f"/pages/{it}" for it in other])


def test_a_callers_limits_hold_from_now_on(server: Configured) -> None:
    assert server.reload("caller_rate = 0.01\n")["changed"] == ["caller_rate"]
    wait_for(lambda: server.post("/checks", {}).status, lambda status: status == 429)
    server.reload("")
    wait_for(lambda: server.post("/checks", {}).status, lambda status: status == 202)


def test_the_log_says_more_or_less_in_every_process(server: Configured) -> None:
    before = server.workers()
    assert server.reload('log_level = "DEBUG"\n')["changed"] == ["log_level"]
    wait_for(lambda: [pid for pid in before if alive(pid)], lambda left: not left)
    wait_for(
        lambda: [" ".join(command(pid)) for pid in [*server.workers(), *server.fronts()]],
        lambda commands: len(commands) == 3 and all('"DEBUG"' in line for line in commands),
    )
    server.reload("")


def test_what_is_kept_and_for_how_long_counts_from_now_on(server: Configured) -> None:
    old = server.accept("/pages", *[{"number": number} for number in range(10)])
    server.wait_until("processed", *[f"/pages/{it}" for it in old])
    with contextlib.closing(sqlite3.connect(server.data / FILE_NAME, timeout=20)) as file, file:
        ago = "accepted_at = accepted_at - 40 * 86400000, finished_at = finished_at - 40 * 86400000"
        file.execute(f"UPDATE messages SET {ago}")  # noqa: S608  of them all
    server.wait_until("processed", *[f"/pages/{it}" for it in server.accept("/pages", {})])

    told = server.reload('record_ttl = ["30d", "pages=365d"]\nbody_ttl = ["1d"]\n')
    assert told["changed"] == ["record_ttl", "body_ttl"]
    assert (told["before"]["record_ttl"], told["after"]["record_ttl"]) == ("", "30d, pages=365d")
    assert health(server)["upkeep"]["retention"]["kept"] == "records 30d, pages=365d; bodies 1d"
    kept = server.accept("/pages", {"number": 7})
    server.wait_until("processed", *[f"/pages/{it}" for it in kept])
    assert [server.get(f"/pages/{it}").status for it in old] == [200] * len(old)
    assert json.loads(server.rows("SELECT body FROM messages WHERE id = ?", *kept)[0][0]) == {"number": 7}

    assert server.reload('record_ttl = ["30d"]\n')["before"]["record_ttl"] == "30d, pages=365d"
    wait_for(lambda: [server.get(f"/pages/{it}").status for it in old], lambda found: set(found) == {404})
    assert server.get(f"/pages/{kept[0]}").status == 200
    server.reload("")
    assert "retention" not in health(server)["upkeep"]
    none = server.accept("/pages", {"number": 8})
    server.wait_until("processed", *[f"/pages/{it}" for it in none])
    assert server.rows("SELECT body FROM messages WHERE id = ?", *none) == [(None,)]


def made_in(place: Path) -> list[Path]:
    return list(place.glob("decoupled-*.sqlite3"))


def test_backups_are_made_where_and_as_long_as_it_says_so(server: Configured) -> None:
    places = [server.directory / name for name in ("first", "second")]
    for place in places:
        place.mkdir()
        told = server.reload(f'backup_dir = "{place}"\nbackup_keep = 2\n')
        assert told["after"]["backup_dir"] == str(place)
        wait_for(partial(made_in, place))
        wait_for(lambda: health(server)["upkeep"]["backups"]["last"])
    told = server.reload(f'backup_dir = "{places[1]}"\nbackup_every = 3600\n')
    assert told["before"] == {"backup_every": 86_400.0, "backup_keep": 2}
    assert len(made_in(places[0])) == 1
    server.reload("")
    assert "backups" not in health(server)["upkeep"]


@pytest.mark.parametrize(
    "wrong", ["rate = 0\n", "rats = 5\n", "rate = \n", 'drain = "two"\n', 'record_ttl = ["90"]\n', "backup_keep = 0\n"]
)
def test_a_file_that_is_wrong_is_refused_as_a_whole(server: Configured, wrong: str) -> None:
    told = server.reload(f"caller_rate = 0.01\n{wrong}")
    assert told["level"] == "ERROR"
    found = health(server)
    assert found["status"] == "degraded"
    assert found["detail"] == f"the options are not read again, and those of before count: {told['error']}"
    assert [server.post("/checks", {}).status for _ in range(5)] == [202] * 5
    server.reload("")
    assert health(server)["status"] == "ok"


def test_what_only_a_restart_changes_is_named(server: Configured) -> None:
    told = server.reload('drain = 3\npage = "off"\nmax_attempts = 9\nrate = 5000\n')
    assert (told["changed"], told["changed_by_a_restart"]) == (["rate"], ["drain", "max_attempts", "page"])
    assert "after a restart only: drain, max_attempts, page" in health(server)["detail"]
    server.reload("")
    assert health(server)["status"] == "ok"


def test_whether_what_waits_is_counted_only_a_restart_changes(server: Configured) -> None:
    before = server.before
    server.before = before.replace("caller_waiting = 100000\n", "")
    assert server.reload("")["changed_by_a_restart"] == ["caller_waiting"]
    server.before = before
    assert server.reload("")["changed_by_a_restart"] == []
