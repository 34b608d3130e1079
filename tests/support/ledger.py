"""Clients that post ledger entries whatever happens to the server, and the account that is given of them: every entry
that was answered 202 is in the store and has its effects once, and the sums of the accounts say so. The workloads are
`trial/workloads/ledger.py` and what it emits, `echoes.py`."""

from __future__ import annotations

import collections
import contextlib
import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.table import SqliteTable
from tests.support.audited import sound
from tests.support.server import Server

CLIENTS = 6
ACCOUNTS = 7
PAUSE_S = 0.01  # before the next request to a server that is down, or takes nothing
ANSWER_S = 10.0

Entries = dict[str, tuple[int, int]]
"""Account and amount by id."""


@dataclass
class Load:
    """Clients that post ledger entries one after the other, through every crash. Those with a key send again what they
    got no answer for, until there is one; the others cannot know and go on. `told` hears of each 202 at once."""

    port: int
    seed: int
    told: Callable[[Mapping[str, tuple[int, int]]], None] = lambda _: None
    accepted: Entries = field(default_factory=dict)
    unanswered: list[tuple[int, int]] = field(default_factory=list)  # or refused, without a word that it is not there
    refused: collections.Counter[int] = field(default_factory=collections.Counter)
    newest_accepted: float = 0.0  # when the request was begun that was accepted and begun last, by time.monotonic
    trouble: list[str] = field(default_factory=list)  # what no fault explains
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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
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
        began = time.monotonic()
        try:
            connection.request("POST", "/ledger", body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except ConnectionRefusedError:
            connection.close()
            self.stopping.wait(PAUSE_S)  # it is down
            return False
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            with self.lock:
                self.unanswered += entries
                if isinstance(error, TimeoutError):
                    self.trouble.append(f"no answer within {ANSWER_S} s")
            return False
        if response.status != 202:
            self._refused(response.status, answer, entries)
            return False
        accepted = {it["id"]: entries[it["index"]] for it in answer["accepted"]}
        self.told(accepted)
        with self.lock:
            self.accepted |= accepted
            self.newest_accepted = max(self.newest_accepted, began)
        return True

    def _refused(self, status: int, problem: Mapping[str, Any], entries: list[tuple[int, int]]) -> None:
        with self.lock:
            self.refused[status] += 1
            if problem.get("resend") != "safe":
                self.unanswered += entries
            if status != 503:
                self.trouble.append(f"answered {status}: {problem}")
        self.stopping.wait(PAUSE_S)


def account_for_everything(server: Server, load: Load) -> None:
    """Once all is settled: stops the server, and looks for each entry in its file."""
    server.wait_until_settled(seconds=60)
    assert server.stop() == 0, server.logged()
    assert server.rows("PRAGMA integrity_check") == [("ok",)]
    with contextlib.closing(Database(server.data / "decoupled.sqlite3", read_only=True)) as database:
        ledger = accounted(database, load.accepted)
        assert set(statuses(database)) == {"processed"}
    # What nobody was told about may be there or not, but only what somebody sent.
    assert len(ledger) - len(load.accepted) <= len(load.unanswered)


def accounted(database: Database, accepted: Mapping[str, tuple[int, int]]) -> Entries:
    """What is in the ledger, at any moment: all that was accepted, as it was sent; each entry that is processed counts
    once, as does the echo that it emitted."""
    entries, done = _entries(database, "ledger"), processed(database, "ledger")
    lost = accepted.keys() - entries.keys()
    assert not lost, f"{len(lost)} of {len(accepted)} accepted are lost, {min(lost)} is one of them"
    wrong = {message_id for message_id, entry in accepted.items() if entries[message_id] != tuple(entry)}
    assert not wrong, f"not what was sent: {wrong}"
    assert set(statuses(database)) <= {"queued", "processed"}  # a fault is not a message's: none is dead
    echoes = _entries(database, "echoes")
    assert sorted(echoes.values()) == sorted(done.values()), "not one echo for each entry that was processed"
    _check_sums(database, "ledger", done)
    _check_sums(database, "echoes", processed(database, "echoes"))
    sound(database)
    return entries


def statuses(database: Database) -> dict[str, int]:
    """How many messages there are in each status."""
    return dict(database.execute("SELECT status, count(*) FROM messages GROUP BY status").fetchall())


def _entries(database: Database, workload: str) -> Entries:
    """All of a workload: of a queued one the body tells, of an entry's record its result."""
    rows = database.execute("SELECT id, coalesce(body, result) FROM messages WHERE workload = ?", (workload,))
    return {message_id: _entry(text) for message_id, text in rows}


def processed(database: Database, workload: str) -> Entries:
    """What is processed of a workload, by its results."""
    rows = database.execute("SELECT id, result FROM messages WHERE workload = ? AND status = 'processed'", (workload,))
    return {message_id: _entry(text) for message_id, text in rows}


def _entry(text: str) -> tuple[int, int]:
    entry = json.loads(text)
    return entry["account"], entry["amount"]


def _check_sums(database: Database, workload: str, entries: Entries) -> None:
    table = SqliteTable(database)
    for account in range(ACCOUNTS):
        amounts = [amount for of, amount in entries.values() if of == account]
        expected = {"entries": len(amounts), "total": sum(amounts)} if amounts else None
        item = table.item(f"{workload}/accounts/{account}")
        assert item == expected, f"{workload} of account {account}: {item}, but the entries come to {expected}"
