"""Messages are found in a data directory: what is meant and nothing else, in time however large the file, beside a
server that writes; and one's story is told as it was."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from decoupled.core import limits
from decoupled.core.identifiers import event_id, keyed_id
from decoupled.core.outcomes import Commit, Failure, Reject
from decoupled.core.search import Found, Sought, Story
from decoupled.core.workload import Message
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.search import SqliteSearch
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline.settlement import Policy, settle
from tests.support import rows
from tests.support.dead_letters import dead_letters, fill
from tests.support.engines import ReceivingSqliteQueue
from tests.support.ledger import Load
from tests.support.model_engine import ManualClock
from tests.support.server import serving, wait_for

HISTORIES = int(os.environ.get("DECOUPLED_HISTORIES", "40"))


def search_of(directory: Path, **more: Any) -> contextlib.closing[SqliteSearch]:
    return contextlib.closing(SqliteSearch(DataDirectory(directory), **more))


def all_of(search: SqliteSearch, sought: Sought, most: int = 5_000) -> Iterator[Found]:
    """One answer after the other, until there is no more."""
    for _ in range(most):
        yield (found := search.find(sought))
        if found.cursor is None:
            return
        sought = msgspec.structs.replace(sought, cursor=found.cursor)
    raise AssertionError("there is no end of it")


def ids(answers: Iterator[Found]) -> list[str]:
    return [row.id for found in answers for row in found.rows]


# --- what is meant, and nothing else


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sorted_at_most", [limits.MAX_QUEUED_SORTED, 5])
def test_what_is_found_is_what_a_plain_look_at_each_row_finds(
    tmp_path: Path, seed: int, sorted_at_most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_QUEUED_SORTED", sorted_at_most)
    monkeypatch.setattr(limits, "LOOK_FIRST_ROWS", 7)  # many parts of a small file
    random = Random(seed)
    made = rows.by_chance(tmp_path / "data", random, 300)
    with search_of(tmp_path / "data") as search:
        for number in range(HISTORIES):
            sought = rows.sought(random, made)
            told = ids(all_of(search, sought))
            assert told == rows.expected(sought, made), f"seed {seed}, search {number}: {sought}"


def test_a_row_has_what_a_list_shows_and_no_long_texts(tmp_path: Path) -> None:
    (letter,) = dead_letters(1, [("KeyError", "x" * limits.MAX_ERROR_CHARS)])
    fill(tmp_path / "data", [letter])
    with search_of(tmp_path / "data") as search:
        (row,) = search.find(Sought()).rows
    assert (row.id, row.workload, row.status, row.caller) == (letter.id, "orders", "dead", "anonymous")
    assert (row.accepted_at, row.finished_at, row.attempts) == (letter.accepted_at, letter.dead_at, 5)
    assert (row.error_type, row.error) == ("KeyError", "x" * limits.MAX_SHOWN_CHARS)


def test_an_id_is_found_as_clients_of_a_stack_have_it(tmp_path: Path) -> None:
    (letter,) = fill(tmp_path / "data", dead_letters(1))
    with search_of(tmp_path / "data") as search:
        assert ids(all_of(search, Sought(id=f"{letter.id}.kN3fWcuT2h9rQ_w1XzB"))) == [letter.id]
        assert ids(all_of(search, Sought(id=letter.id, workload="payments"))) == []
        assert ids(all_of(search, Sought(id="nobody-has-this"))) == []
        assert search.story(f"{letter.id}.kN3fWcuT2h9rQ_w1XzB") is not None
        assert search.story("nobody-has-this") is None


@pytest.mark.parametrize("cursor", ["", "x", "1.2.3", "1.2", "9" * 40])
def test_a_cursor_of_another_search_is_refused(tmp_path: Path, cursor: str) -> None:
    rows.many(tmp_path / "data", 1)
    with search_of(tmp_path / "data") as search, pytest.raises(ValueError, match="cursor"):
        search.find(Sought(cursor=cursor))


# --- by key


def sent(directory: Path, *messages: Message) -> None:
    directory.mkdir(exist_ok=True)
    with contextlib.closing(Database(directory / FILE_NAME)) as database:
        assert ReceivingSqliteQueue(database).send(messages) == [None] * len(messages)


def test_a_key_names_what_was_sent_with_it_by_its_caller_and_workload(tmp_path: Path) -> None:
    told = {
        (workload, caller): keyed_id(workload, caller, "cart-1")
        for workload in ("orders", "payments")
        for caller in ("anonymous", "ada")
    }
    sent(tmp_path, *(Message(it, workload, "{}", caller, 1) for (workload, caller), it in told.items()))
    with search_of(tmp_path) as search:
        for (workload, caller), message_id in told.items():
            assert ids(all_of(search, Sought(key="cart-1", workload=workload, caller=caller))) == [message_id]
        both = [told["payments", "anonymous"], told["orders", "anonymous"]]  # the newest first
        assert ids(all_of(search, Sought(key="cart-1"))) == both
        assert ids(all_of(search, Sought(key="cart-1", caller="bob"))) == []
        assert search.find(Sought(key="cart-1", caller="bob")).note == "Looked for under orders, payments, of bob."


def test_a_key_names_each_entry_of_its_request_and_a_webhook(tmp_path: Path) -> None:
    entries = [keyed_id("orders", "anonymous", "cart-1", place) for place in (0, 1, 999)]
    webhook = event_id("orders", "acme", "evt_1")
    sent(tmp_path, *(Message(it, "orders", "{}", "anonymous", 1) for it in entries))
    sent(tmp_path, Message(webhook, "orders", "{}", "acme", 1))
    with search_of(tmp_path) as search:
        assert ids(all_of(search, Sought(key="cart-1"))) == entries[::-1]
        assert ids(all_of(search, Sought(key="evt_1", caller="acme"))) == [webhook]


def test_a_workload_that_few_messages_are_of_is_tried_where_it_is_known_to_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOOK_MOST_ROWS", 1)
    rare = keyed_id("payments", "anonymous", "k")
    sent(tmp_path, *(Message(it, "orders", "{}", "anonymous", 1) for it in "ab"))
    sent(tmp_path, Message(rare, "payments", "{}", "anonymous", 1), Message("c", "orders", "{}", "anonymous", 1))
    with search_of(tmp_path) as search:
        assert ids(all_of(search, Sought(key="k"))) == []
    with search_of(tmp_path, workloads=["payments"]) as search:
        assert ids(all_of(search, Sought(key="k"))) == [rare]


# --- in time

MILLION = 1_000_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A million processed messages, and among the oldest of them a few others."""
    directory: Path = tmp_path_factory.mktemp("large") / "data"
    rows.many(directory, MILLION)
    with contextlib.closing(Database(directory / FILE_NAME)) as database:
        database.execute("UPDATE messages SET caller = 'lonely' WHERE seq = 3")
        database.execute("UPDATE messages SET status = 'queued', finished_at = NULL WHERE seq = 4")
        database.execute("UPDATE messages SET status = 'dead' WHERE seq = 5")
        database.execute("UPDATE messages SET status = 'rejected' WHERE seq = 6")
    return directory


@pytest.mark.parametrize(
    ("sought", "seq"),
    [
        (Sought(status="queued"), 4),
        (Sought(status="queued", workload="orders", group=""), 4),
        (Sought(status="dead"), 5),
        (Sought(status="rejected"), 6),
        (Sought(status="dead", accepted_after=rows.T0 + 5), 5),
        (Sought(id=f"{rows.T0 + 7:012x}{7:021x}"), 7),
        (Sought(accepted_after=rows.T0 + MILLION), MILLION),
    ],
    ids=str,
)
def test_what_an_index_finds_is_found_in_a_million_rows_without_reading_them(
    large: Path, sought: Sought, seq: int
) -> None:
    """SQLite's machine may take a hundredth of the steps that a walk through all rows takes."""
    steps = itertools.count()
    with search_of(large) as search:
        search.database.connection = Counting(search.database.connection, steps)  # type: ignore[assignment]
        found = search.find(sought)
    assert [row.id for row in found.rows] == [f"{rows.T0 + seq:012x}{seq:021x}"]
    assert found.cursor is None
    assert next(steps) < MILLION // 100


class Counting:
    """A connection whose machine's steps are counted, a hundred at a time."""

    def __init__(self, connection: Any, steps: Iterator[int]) -> None:
        self._connection = connection
        self._steps = steps

    def set_progress_handler(self, _handler: Any, _steps: int) -> None:
        def count() -> bool:
            for _ in range(100):
                next(self._steps)
            return False

        self._connection.set_progress_handler(count, 100)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_a_look_that_takes_too_long_says_how_far_it_got_and_is_gone_on_with(large: Path) -> None:
    with search_of(large, look_s=0.005) as search:
        first, *others = all_of(search, Sought(caller="lonely"))
    assert first.rows == []
    assert first.cursor is not None
    assert "This is as far as a look of 0.005 s got" in first.note
    assert ids(iter(others)) == [f"{rows.T0 + 3:012x}{3:021x}"]
    assert len(others) >= 2


def test_a_look_that_sees_nothing_in_time_says_so_and_begins_there_again(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOOK_STEPS", 100)
    with search_of(large, look_s=0) as search:
        found = search.find(Sought(caller="lonely"))
        assert (found.rows, found.cursor) == ([], "9" * 18)  # above all rows
        search.look_s = limits.LOOK_S
        (*_, last) = all_of(search, Sought(caller="lonely", cursor=found.cursor))
    assert last.cursor is None


def test_a_look_leaves_nothing_behind_that_ends_other_statements(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOOK_STEPS", 100)
    with search_of(large, look_s=0) as search:
        search.find(Sought(caller="lonely"))
        assert search.database.execute("SELECT count(*) FROM messages").fetchone() == (MILLION,)


def test_messages_are_found_beside_a_server_that_writes(tmp_path: Path) -> None:
    """Nothing is found twice, or missed that was there when the look began."""
    with serving(tmp_path / "data", "--workloads", "ledger,echoes") as server, contextlib.ExitStack() as stack:
        accepted = set(server.accept("/ledger", *[{"account": 1, "amount": n} for n in range(200)]))
        search = stack.enter_context(search_of(tmp_path / "data"))
        load = stack.enter_context(Load(server.port, seed=7))
        wait_for(lambda: len(load.accepted), lambda it: it > 50)
        for _ in range(20):
            found = ids(all_of(search, Sought(workload="ledger", limit=limits.MAX_FOUND)))
            assert len(found) == len(set(found))
            assert accepted <= set(found)
            accepted |= set(load.accepted)
        assert all(ids(all_of(search, Sought(id=it))) == [it] for it in accepted)
        assert load.trouble == []


# --- the story of one


@dataclass
class Told:
    """An engine whose clocks a test moves, and the story as it is told then."""

    directory: Path
    clock: ManualClock = field(default_factory=ManualClock)
    behind_ms: int = 0  # by which the time of day is behind the queue's clock

    def __post_init__(self) -> None:
        self.database = Database(self.directory / FILE_NAME)
        self.queue = ReceivingSqliteQueue(self.database, self.clock)
        self.table = SqliteTable(self.database, clock_ms=self.clock)

    def settle(self, decision: Commit | Reject | Failure, max_attempts: int = 5) -> None:
        (delivery,) = self.queue.receive(1, 60)
        settle([(delivery, decision)], self.queue, self.table, Policy(max_attempts, self.now))

    def now(self) -> int:
        return self.clock() - self.behind_ms

    def story(self, message_id: str = "m-1") -> Story:
        with search_of(self.directory, clock_ms=self.now, queue_clock_ms=self.clock) as search:
            story = search.story(message_id)
        assert story is not None
        return story

    def steps(self, message_id: str = "m-1") -> list[tuple[str, int | None, str]]:
        return [(step.what, step.at, step.detail) for step in self.story(message_id).steps]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    told = Told(tmp_path)
    told.queue.send([Message("m-1", "orders", '{"n":1}', "ada", told.now(), "shop.example", digest="0f" * 12)])
    return told


def test_a_message_that_waits_is_told_with_its_body(told: Told) -> None:
    story = told.story()
    assert told.steps() == [
        ("accepted", told.now(), "of ada, under a key"),
        ("waits", None, "to be handed out: there is nothing else that it waits for"),
    ]
    assert (story.row.group, story.body, story.receive_count, story.note) == ("shop.example", '{"n":1}', 0, "")


def test_a_message_that_is_in_flight_says_until_when(told: Told) -> None:
    told.queue.receive(1, 60)
    told.clock.advance(20)
    assert told.steps()[1:] == [
        ("received", None, "handed out once, and is with a worker now"),
        ("waits", told.now() + 40_000, "for its worker, for 40 s at most; then it is handed out again"),
    ]


def test_a_wait_is_told_by_the_time_of_day_whatever_the_queues_clock_says(told: Told) -> None:
    """Somebody has set the system's clock back by an hour since the server set the queue's."""
    told.queue.retry_later([(delivery, 30.0) for delivery in told.queue.receive(1, 60)])
    told.behind_ms = 3_600_000
    assert told.steps()[-1] == ("waits", told.clock() - 3_600_000 + 30_000, "to be handed out in 30 s")


def test_a_message_that_is_due_later_says_when(told: Told) -> None:
    due_at = told.now() + 90_000
    told.queue.send([Message("m-2", "orders", "{}", "ada", told.now(), due_at=due_at)])
    assert told.steps("m-2")[1:] == [
        ("due", due_at, "not before this time"),
        ("waits", due_at, "to be handed out in 90 s"),
    ]


def test_failures_are_told_as_far_as_they_are_kept(told: Told) -> None:
    first = told.now()
    for text in ("no such product 1", "no such product 2", "no such product 3"):
        told.settle(Failure("failed", "KeyError", text, traceback=f"Traceback: {text}"), max_attempts=3)
        told.clock.advance(3_600)
    last = first + 2 * 3_600_000
    story = told.story()
    assert told.steps()[1:] == [
        ("received", None, "handed out 3 times"),
        ("failed", first, "for the first time"),
        ("failed", last, "KeyError: no such product 3"),
        ("dead", last, "after 3 attempts that failed"),
    ]
    assert [step.traceback for step in story.steps if step.traceback] == ["Traceback: no such product 3"]
    assert "the times of the first and the last are kept" in story.note
    assert (story.body, story.row.attempts, story.row.error) == ('{"n":1}', 3, "no such product 3")


def test_what_was_put_off_and_is_nobodys_fault_is_noted(told: Told) -> None:
    for _ in range(2):
        told.settle(Failure("unavailable", "Unavailable", "the backend is ill"))
        told.clock.advance(3_600)
    assert "handed out more often than it failed" in told.story().note


def test_a_processed_message_has_its_result_as_it_is_stored_and_what_it_emitted(told: Told) -> None:
    sender = Message("m-1", "orders", "", "ada", told.now())
    emits = [Message(sender.emitted_id(n), "notifications", "{}", "ada", told.now()) for n in range(2)]
    told.clock.advance(1)
    told.settle(Commit('{"total":12.3000000000000000001}', [], emits))
    story = told.story()
    assert msgspec.json.encode(story.result) == b'{"total":12.3000000000000000001}'
    assert (story.body, story.record.status) == (None, "processed")
    assert told.steps()[-3:] == [
        ("processed", told.now(), ""),
        ("emitted", told.now(), "to notifications: queued"),
        ("emitted", told.now(), "to notifications: queued"),
    ]
    assert [step.id for step in story.steps if step.id] == [emitted.id for emitted in emits]
    assert msgspec.json.decode(msgspec.json.encode(story))["result"] == {"total": 12.3}


def test_a_rejection_has_its_reason_and_its_callback(told: Told) -> None:
    sent = Message("m-2", "orders", "{}", "ada", told.now(), callback="https://shop.example:8443/hook?key=s3cret")
    told.settle(Commit("{}"))  # of m-1
    told.queue.send([sent])
    told.settle(Reject("not in stock"))
    story = told.story("m-2")
    assert told.steps("m-2")[-2:] == [
        ("rejected", told.now(), "not in stock"),
        ("emitted", told.now(), "to notifications, which tells shop.example of the end: queued"),
    ]
    assert (story.steps[-1].id, story.row.reason) == (sent.callback_id(), "not in stock")
    assert b"s3cret" not in msgspec.json.encode(story)


def test_a_story_is_told_of_a_message_that_a_real_server_gave_up(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workloads", "hazards", "--max-attempts", "1") as server:
        (message_id,) = server.accept("/hazards", {"act": "raise"})
        server.wait_until("dead", f"/hazards/{message_id}")
        with search_of(tmp_path / "data") as search:
            story = search.story(message_id)
    assert story is not None
    assert [step.what for step in story.steps] == ["accepted", "received", "failed", "dead"]
    assert story.steps[2].detail == "RuntimeError: the workload says no"
    assert "hazards.py" in story.steps[2].traceback
    assert story.body == '{"act": "raise"}'
