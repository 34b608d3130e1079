"""What `ordered` promises of a group on SQLite, sentence by sentence; `test_order_stateful.py` has it in any order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from decoupled.core import limits
from decoupled.core.dead_letters import Wanted
from decoupled.core.outcomes import Commit, Delivery, Stored
from decoupled.core.workload import Effects, Message, Workload
from decoupled.engines.protocols import Share, StoreDamaged, whole
from decoupled.engines.sqlite import ordered
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline.settlement import Policy, settle
from tests.support.contract import dead_record, delivered, message
from tests.support.damage import Pages
from tests.support.model_engine import ManualClock

ORDERED = {"transfers": Workload("transfers", dict, lambda _, __: Effects({}), ordered=True)}  # type: ignore[arg-type]
UNORDERED = {"transfers": Workload("transfers", dict, lambda _, __: Effects({}))}  # type: ignore[arg-type]
TIMEOUT_S = 30


class Line:
    """One ordered workload, and the clock that its queue goes by."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.clock = ManualClock()
        self.database = Database(file)
        ordered.adopt(self.database, ORDERED)
        self.queue = SqliteQueue(self.database, self.clock)
        self.table = SqliteTable(self.database, clock_ms=self.clock)
        self.letters = SqliteDeadLetters(self.database, self.clock, self.clock)

    def send(self, *groups: str) -> list[Message]:
        """A message for each."""
        sent = [message(workload="transfers", group=group) for group in groups]
        assert self.queue.send(sent) == [None] * len(sent)
        return sent

    def claim(self, maximum: int = 10, share: Share = whole) -> list[Delivery]:
        return self.queue.claim("transfers", maximum, TIMEOUT_S, share)

    def claimed(self, maximum: int = 10) -> list[Message]:
        return [delivery.message for delivery in self.claim(maximum)]

    def process(self, sent: Message) -> Stored:
        (outcome,) = self.table.commit([(sent, Commit("{}"))], self.clock())
        assert isinstance(outcome, Stored)
        return outcome

    def bury(self, delivery: Delivery) -> None:
        assert self.table.bury(delivery, dead_record(delivery.message))

    def redrive(self) -> None:
        letters = list(self.letters.find(Wanted()))
        assert [outcome.done for outcome in self.letters.redrive(letters)] == ["redriven"] * len(letters)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path / "decoupled.sqlite3")
    yield line
    line.database.close()


def test_a_group_has_one_message_in_flight_and_goes_on_when_it_has_ended(line: Line) -> None:
    first, second, other = line.send("a", "a", "b")
    assert line.claimed() == [first, other]
    assert line.claimed() == []
    line.process(first)
    assert line.claimed() == [second]


def test_a_message_that_waits_to_be_tried_again_holds_its_group_back_and_no_other(line: Line) -> None:
    first, _, other, another = line.send("a", "a", "b", "b")
    line.queue.retry_later([(delivery, 60 if delivery.message == first else 0) for delivery in line.claim()])
    assert line.claimed() == [other]
    line.process(other)
    assert line.claimed() == [another]
    line.clock.advance(60)
    assert line.claimed()[0] == first


def test_a_message_whose_visibility_timeout_ends_comes_back_before_those_behind_it(line: Line) -> None:
    first, _ = line.send("a", "a")
    assert line.claimed() == [first]
    line.clock.advance(TIMEOUT_S)
    (again,) = line.claim()
    assert (again.message, again.receive_count) == (first, 2)


def test_a_dead_letter_holds_nobody_back(line: Line) -> None:
    _, second = line.send("a", "a")
    line.bury(line.claim()[0])
    assert line.claimed() == [second]


def test_a_redriven_message_has_its_old_place_and_waits_for_what_is_in_flight(line: Line) -> None:
    first, second, _ = line.send("a", "a", "a")
    line.bury(line.claim()[0])
    assert line.claimed() == [second]
    line.redrive()
    assert line.claimed() == []
    line.process(second)
    assert line.claimed() == [first]


def test_a_late_delivery_of_a_dead_message_changes_nothing(line: Line) -> None:
    """Those behind it may have been processed."""
    first, second = line.send("a", "a")
    line.bury(line.claim()[0])
    line.process(second)
    assert line.process(first) == Stored("dead", duplicate=True)
    assert line.table.stored(first.id) is None
    record = line.table.get(first.id)
    assert record is not None
    assert record.status == "dead"
    line.redrive()
    assert line.process(first) == Stored("processed")


def test_whoever_decides_too_late_is_told_of_in_the_log(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    line.send("a")
    (delivery,) = line.claim()
    line.bury(delivery)
    assert settle([(delivery, Commit("{}"))], line.queue, line.table, Policy(5, line.clock)) == []
    assert [record.getMessage() for record in caplog.records] == [
        "too late: it is dead, and stays so until somebody redrives it"
    ]


def test_a_fresh_message_is_handed_out_at_once_if_it_is_the_first_of_its_group(line: Line) -> None:
    a, aa, b = (message(workload="transfers", group=group) for group in "aab")
    assert [delivery.message for delivery in line.queue.send_claimed([a, aa, b], TIMEOUT_S)] == [a, b]
    line.process(a)
    aaa = message(workload="transfers", group="a")
    assert line.queue.send_claimed([aaa], TIMEOUT_S) == []
    assert line.claimed() == [aa]


def test_an_emitted_message_gets_in_line(line: Line) -> None:
    (before,) = line.send("a")
    emitted = message(workload="transfers", group="a")
    line.table.commit([(message(), Commit("{}", [], [emitted]))], line.clock())
    assert line.claimed() == [before]
    line.process(before)
    assert line.claimed() == [emitted]


def test_claims_go_from_group_to_group_and_around(line: Line) -> None:
    sent = line.send("a", "b", "c", "a", "b", "c")
    turns = []
    for _ in range(4):
        (delivery,) = line.claim(1)
        turns.append(delivery.message)
        line.process(delivery.message)
    assert turns == sent[:4]


def test_a_group_without_a_share_is_passed_by(line: Line) -> None:
    _, b = line.send("a", "b")
    assert [delivery.message for delivery in line.claim(share=lambda group: int(group == "b"))] == [b]


def test_a_claim_looks_at_so_many_groups_and_the_next_one_goes_on_from_there(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_HEADS_LOOKED", 3)
    *_, last = line.send("a", "b", "c", "d")
    line.queue.retry_later([(delivery, 60) for delivery in line.claim(3)])
    line.queue = SqliteQueue(line.database, line.clock)  # another server, which begins with the first group
    assert line.claimed() == []
    assert line.claimed() == [last]


# --- when a workload becomes ordered, or is it no more ----------------------------


def test_what_is_queued_gets_in_line_when_its_workload_becomes_ordered_and_is_let_go_when_not(line: Line) -> None:
    ordered.adopt(line.database, UNORDERED)
    sent = line.send("a", "a", "a")
    ordered.adopt(line.database, ORDERED)
    assert line.claimed() == sent[:1]
    ordered.adopt(line.database, UNORDERED)
    assert {delivery.message for delivery in line.queue.claim("transfers", 10, TIMEOUT_S)} == set(sent[1:])


def test_a_start_writes_nothing_where_nothing_has_changed(line: Line) -> None:
    line.send("a", "a", "b")
    before = line.database.connection.total_changes
    ordered.adopt(line.database, ORDERED)
    assert line.database.connection.total_changes == before


def test_what_a_tool_redrove_while_no_server_ran_is_in_its_place(line: Line) -> None:
    first, second = line.send("a", "a")
    line.bury(line.claim()[0])
    line.database.ordered = frozenset()  # a tool knows no workloads
    line.redrive()
    ordered.adopt(line.database, ORDERED)
    assert line.claimed() == [first]
    line.process(first)
    assert line.claimed() == [second]


def test_what_is_in_flight_elsewhere_holds_nobody_back(line: Line) -> None:
    ordered.adopt(line.database, UNORDERED)
    line.table.begin_attempt(delivered(message(workload="transfers", group="a")))
    (sent,) = line.send("a")
    ordered.adopt(line.database, ORDERED)
    assert line.claimed() == [sent]


# --- damage -------------------------------------------------------------------------


def test_a_message_that_cannot_be_read_holds_its_group_back_and_no_other(line: Line) -> None:
    """Until a person has saved what can be read: nobody knows yet whether it is lost."""
    groups = [f"g-{number}" for number in range(400)]
    line.send(*groups, *groups)
    line.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = Pages(line.file)
    page = pages.leaves("messages")[1]
    damaged = {f"g-{seq - 1}" for seq in pages.rows(page)}
    pages.overwrite(page)
    line.database.execute("PRAGMA shrink_memory")
    with pytest.raises(StoreDamaged), line.database.transaction():
        line.claim(640)
    set_aside = line.queue.set_aside_damaged()
    assert (
        len(damaged) <= set_aside < 100
    )  # also some that stand where SQLite would even pages out with the damaged one
    claimed = {sent.group for sent in line.claimed(640)}
    assert len(claimed) == 400 - set_aside
    assert not claimed & damaged
    assert line.claimed(640) == []
