"""A data directory as either side of a move: whatever has happened to its messages, and wherever the move is killed,
all of them are on the other side, as they were, once."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decoupled.core.dead_letters import PURGED
from decoupled.core.fingerprints import difference, item_difference
from decoupled.core.forgetting import FORGOTTEN, NOTHING
from decoupled.core.moving import Carried, CarriedItem, Counts
from decoupled.engines.sqlite import moving_open
from decoupled.engines.sqlite.audit import SqliteAudit
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import Database, DataDirectoryError
from decoupled.engines.sqlite.departure import ARRIVAL
from decoupled.engines.sqlite.departure_tool import ToolMarks
from decoupled.engines.sqlite.moving_source import SqliteSource
from decoupled.engines.sqlite.moving_target import SqliteTarget
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline.moving import Move
from tests.support import moving, rows
from tests.support.histories import History
from tests.support.ledger import Load, account_for_everything
from tests.support.server import Server, serving, wait_for

NOWHERE = ("the other directory", "https://shop.example", False)


class Killed(BaseException):
    """Where the tool was."""


class Fate:
    """Kills whoever does the next thing but so many; before it is done, or after."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def on(self, thing: Any) -> Any:
        return _Fated(thing, self)


class _Fated:
    def __init__(self, thing: Any, fate: Fate) -> None:
        self._thing = thing
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        return self._doing(found) if callable(found) else found

    def _doing(self, do: Callable[..., Any]) -> Callable[..., Any]:
        def done(*given: Any) -> Any:
            self._fate.spend()
            result = do(*given)
            self._fate.spend()
            return result

        return done


NEVER = 10**9


@contextmanager
def a_move(place: Path, left: int = NEVER, marks_there: bool = False) -> Iterator[Move]:
    """From one directory to another, as a tool makes it anew each time that it is run."""
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr("decoupled.pipeline.moving.MOVE_PAGE", 4)  # so that there are some
        source = SqliteSource(DataDirectory(place / "from"))
        stack.callback(source.close)
        target = SqliteTarget(DataDirectory(place / "to"), source.name)
        stack.callback(target.close)
        fate = Fate(left)
        marks = target if marks_there else ToolMarks(DataDirectory(place / "from"))
        yield Move(
            fate.on(source), fate.on(target), fate.on(marks), 1e9, monotonic=lambda: 0.0, pause=lambda _seconds: None
        )


def lived(place: Path, random: Random, steps: int) -> None:
    """So much more happens to the messages of the directory that is left."""
    with contextlib.closing(History(place / "from" / "decoupled.sqlite3", random)) as history:
        history.sent = int(history.database.execute("SELECT coalesce(max(seq), 0) FROM messages").fetchone()[0])
        history.now += 1_000 * history.sent
        for _ in range(steps):
            history.step()


def all_of(file: Path) -> tuple[list[Any], list[Any], list[Any]]:
    """Records as GET shows them, the order of what waits, and items."""
    with contextlib.closing(Database(file, read_only=True)) as database:
        ids = [name for (name,) in database.execute("SELECT id FROM messages ORDER BY id")]
        waits = "SELECT workload, message_group, id FROM messages WHERE status = 'queued' ORDER BY 1, 2, seq"
        return (
            [SqliteTable(database).get(name) for name in ids],
            database.execute(waits).fetchall(),
            database.execute("SELECT key, item, owner FROM items ORDER BY key").fetchall(),
        )


def assert_the_same(place: Path) -> None:
    here, there = (place / side / "decoupled.sqlite3" for side in ("from", "to"))
    (records, waits, items), (copies, waits_there, items_there) = all_of(here), all_of(there)
    by_id = {record.id: record for record in copies}
    assert [by_id.get(record.id) for record in records] == records
    assert (waits_there, items_there) == (waits, items)
    with contextlib.closing(Database(there, read_only=True)) as database:
        report = SqliteAudit(database, "", live=False).run()
        assert report.faults == []
        assert sum(report.counts.values()) == report.accepted  # no number is missing
        edits = database.execute("SELECT id, at, body FROM edits ORDER BY id, at").fetchall()
    with contextlib.closing(Database(here, read_only=True)) as database:
        sql = "SELECT edits.* FROM edits JOIN messages USING (id) WHERE status IN ('queued', 'dead') ORDER BY id, at"
        assert set(database.execute(sql).fetchall()) <= set(edits)


@settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 60), max_size=4), st.booleans())
def test_whatever_happens_and_wherever_it_is_killed_all_is_there_once(
    random: Random, kills: list[int], marks_there: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "from").mkdir(mode=0o700)
        lived(place, random, 25)
        moved = False
        for left in [*kills, NEVER]:
            with contextlib.suppress(Killed), a_move(place, left, marks_there) as move:
                state = move.source.state()
                if state == "stopped" and random.random() < 0.5:
                    move.back_out()
                    state = "open"
                if state == "open" and random.random() < 0.7:
                    move.copy()
                if left == NEVER or random.random() < 0.5:
                    move.cut_over(*NOWHERE)
            with contextlib.closing(SqliteSource(DataDirectory(place / "from"))) as source:
                moved = source.state() == "moved"
                if source.state() == "open":
                    lived(place, random, 8)
        assert moved
        assert_the_same(place)


def test_it_is_continued_from_fifty_points(tmp_path: Path) -> None:
    """The tool is killed at a point that chance chooses, and run again."""
    random = Random(7)
    killed = 0
    for number in range(3):
        place = tmp_path / str(number)
        (place / "from").mkdir(mode=0o700, parents=True)
        lived(place, random, 80)
        while killed < 400:
            try:
                with a_move(place, random.randrange(25, 45), marks_there=True) as move:
                    move.cut_over(*NOWHERE)
                break
            except Killed:
                killed += 1
        assert_the_same(place)
    assert killed >= 50


def test_what_ends_out_of_order_is_found_again(tmp_path: Path) -> None:
    """Each part is read from its mark alone, as another process would."""
    (tmp_path / "from").mkdir(mode=0o700)
    history = History(tmp_path / "from" / "decoupled.sqlite3", Random(3))
    with contextlib.closing(history), contextlib.closing(SqliteSource(DataDirectory(tmp_path / "from"))) as source:
        seen: dict[str, Carried] = {}
        mark, parts = "", 0
        for _ in range(120):
            for _ in range(3):
                history.step()
            part = source.ended(mark, 3)
            mark, parts = part.mark, parts + 1
            seen |= {record.id: record for record in part.records}
        while (part := source.ended(mark, 3)).more or part.records:
            mark = part.mark
            seen |= {record.id: record for record in part.records}
        again = source.ended(part.mark, 3)  # a round that begins now
        while again.more or again.records:
            seen |= {record.id: record for record in again.records}
            again = source.ended(again.mark, 3)
        sql = "SELECT id FROM messages WHERE status IN ('processed', 'rejected')"
        ended = {name for (name,) in history.database.execute(sql)}
        assert ended
        assert ended <= seen.keys()


def test_what_waits_is_read_again_from_any_mark(tmp_path: Path) -> None:
    """A part that could not be written is asked for again; and a step from the beginning, in the middle of another."""
    (tmp_path / "from").mkdir(mode=0o700)
    lived(tmp_path, Random(11), 60)
    with contextlib.closing(SqliteSource(DataDirectory(tmp_path / "from"))) as source:
        source.stop(*NOWHERE)
        for read in (source.waiting, source.dead):
            first = read("", 3)
            second = read(first.mark, 3)
            assert first.more
            assert second.records
            assert read(first.mark, 3) == second
            assert read("", 3) == first


@given(st.sets(st.integers(1, 400), max_size=120), st.integers(1, 12), st.data())
def test_ranges_hold_all_numbers_and_are_no_more_than_so_many(
    numbers: set[int], most: int, data: st.DataObject
) -> None:
    ranges = moving_open.added([], sorted(numbers), most)
    assert len(ranges) <= most
    assert all(low <= high for low, high in ranges)
    assert all(one[1] < following[0] for one, following in itertools.pairwise(ranges))
    within = {number for low, high in ranges for number in range(low, high + 1)}
    assert numbers <= within
    first, last = sorted((data.draw(st.integers(1, 400)), data.draw(st.integers(1, 400))))
    left = sorted(number for number in numbers if first <= number <= last and number % 3)
    narrowed = moving_open.narrowed(ranges, first, last, left)
    still = {number for low, high in narrowed for number in range(low, high + 1)}
    assert {number for number in within if not first <= number <= last} <= still
    assert {number for number in still if first <= number <= last} == set(left)


# --- the side that it goes to ------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SqliteTarget]:
    with contextlib.closing(SqliteTarget(DataDirectory(tmp_path / "to"), "stack shop")) as target:
        yield target


def test_all_that_a_stack_has_arrives_and_comes_back_the_same(target: SqliteTarget, tmp_path: Path) -> None:
    records = [moving.processed(), moving.rejected(), moving.queued(), moving.dead()]
    items = [moving.ITEM, moving.NOBODYS]
    assert target.check(Counts(processed=1, rejected=1, queued=1, dead=1, items=2))
    for _ in range(2):  # it is done again, as after a crash
        assert target.put(records) == target.put_items(items) == []
    target.send(records[2:])
    there, items_there = target.get([it.id for it in records]), target.get_items([it.key for it in items])
    assert [difference(it, there.get(it.id)) for it in records] == [None] * 4
    assert [item_difference(it, items_there.get(it.key)) for it in items] == [None] * 2
    target.finish()
    target.finish()
    for refused in (lambda: target.put(records), lambda: target.take_back(records)):
        with pytest.raises(ValueError, match="may have been served since"):
            refused()
    with contextlib.closing(Database(tmp_path / "to" / "decoupled.sqlite3", read_only=True)) as database:
        assert SqliteAudit(database, "", live=False).run().faults == []


def test_what_is_there_is_told_and_never_changed_for_what_is_older(target: SqliteTarget) -> None:
    target.put([moving.processed(), moving.queued()])
    assert target.put([moving.queued("done", caller=moving.ANA, digest="0f3a")]) == []
    assert target.get(["done"])["done"].status == "processed"
    (why,) = target.put([moving.processed(result="{}")])
    assert "done is processed, and not the same there" in why
    (why,) = target.put([moving.queued(caller="key:other")])
    assert "waits is another message" in why
    (why,) = target.put_items([moving.ITEM]) or target.put_items(
        [CarriedItem(moving.ITEM.key, '{"left":4}', moving.ITEM.owner)]
    )
    assert "is not the same there" in why
    with pytest.raises(ValueError, match="nothing was not put"):
        target.send([moving.queued("nothing")])
    with pytest.raises(ValueError, match="bare is queued, and has no body"):
        target.put([moving.queued("bare", body=None)])


@pytest.mark.parametrize(
    "later",
    [
        moving.dead("purged"),
        moving.queued("purged"),
        moving.processed("purged", caller="key:shop", digest=""),
        moving.rejected("purged", caller="key:shop", reason=PURGED, finished_at=moving.AT + 99),
    ],
    ids=lambda it: it.status,
)
def test_what_was_purged_may_be_another_thing_later(target: SqliteTarget, later: Carried) -> None:
    target.put([moving.rejected("purged", caller="key:shop", reason=PURGED)])
    assert target.put([later]) == target.put([later]) == []
    assert difference(later, target.get(["purged"])["purged"]) is None
    assert target.get(["purged"])["purged"].status == later.status


def test_what_was_forgotten_since_it_was_copied_is_forgotten_here_too(target: SqliteTarget) -> None:
    target.put([moving.processed(), moving.rejected()])
    target.finish()
    empty: dict[str, Any] = {"caller": "", "digest": "", "attempts": 0, "error": None}
    gone = [moving.processed(result=NOTHING, **empty), moving.rejected(reason=FORGOTTEN, **empty)]
    assert target.put(gone) == target.put(gone) == []
    assert [difference(it, target.get([it.id])[it.id]) for it in gone] == [None, None]
    with pytest.raises(ValueError, match="may have been served since"):
        target.put([*gone, moving.rejected("another")])


def test_what_is_taken_back_leaves_no_trace_and_no_number(target: SqliteTarget, tmp_path: Path) -> None:
    target.put([moving.queued("a"), moving.dead("b"), moving.processed("c"), moving.queued("d"), moving.rejected("e")])
    target.put_items([moving.ITEM, moving.NOBODYS])
    target.take_back([moving.queued("a"), moving.dead("b"), moving.processed("c")])
    target.take_back_items([moving.ITEM, CarriedItem(moving.NOBODYS.key, '{"left":1}')])
    assert target.get(["a", "b", "c", "d", "e"]).keys() == {"c", "d", "e"}
    assert target.get_items([moving.ITEM.key, moving.NOBODYS.key]).keys() == {moving.NOBODYS.key}
    target.finish()
    with contextlib.closing(Database(tmp_path / "to" / "decoupled.sqlite3", read_only=True)) as database:
        assert database.execute("SELECT seq, id FROM messages").fetchall() == [(1, "c"), (2, "d"), (3, "e")]
        assert SqliteAudit(database, "", live=False).run().faults == []


def test_a_directory_that_is_anothers_is_refused(tmp_path: Path) -> None:
    rows.many(tmp_path / "used", 3)
    with pytest.raises(DataDirectoryError, match="has messages of its own"):
        SqliteTarget(DataDirectory(tmp_path / "used"), "stack shop")
    SqliteTarget(DataDirectory(tmp_path / "begun"), "stack other").close()  # who only looked has begun nothing
    with contextlib.closing(SqliteTarget(DataDirectory(tmp_path / "begun"), "stack shop")) as target:
        with pytest.raises(ValueError, match="has no body"):
            target.put([moving.queued("bare", body=None)])
        assert target.marked(ARRIVAL) is None
        target.put([moving.processed()])
    with pytest.raises(DataDirectoryError, match="is where stack shop moves to, and not stack other"):
        SqliteTarget(DataDirectory(tmp_path / "begun"), "stack other")
    SqliteTarget(DataDirectory(tmp_path / "begun"), "stack shop").close()


# --- with a server -------------------------------------------------------------------


def test_a_server_moves_under_load_and_each_entry_counts_once(tmp_path: Path) -> None:
    """It is killed in the middle of the cut-over: what it was at work on goes over, too."""
    there = Server(tmp_path / "to", "--workloads", "ledger,echoes")
    server = Server(tmp_path / "from", "--workloads", "ledger,echoes", "--concurrency", "1")
    server.start()
    steps: list[str] = []

    def tell(what: str, _done: int, _of: int) -> None:
        steps.append(what)
        if what == "items":
            server.kill()

    try:
        with Load(server.port, 5) as load:
            wait_for(lambda: len(load.accepted), lambda it: it > 300)
            with contextlib.ExitStack() as stack:
                source = SqliteSource(DataDirectory(server.data))
                stack.callback(source.close)
                target = SqliteTarget(DataDirectory(there.data), source.name)
                stack.callback(target.close)
                move = Move(source, target, ToolMarks(DataDirectory(server.data)), 1e9, tell)
                move.copy()
                assert source.state() == "open"
                before = len(load.accepted)
                wait_for(lambda: len(load.accepted), lambda it: it > before + 50)  # while it is copied
                move.cut_over(*NOWHERE)
            refused = load.refused[503]
            server.start()
            wait_for(lambda: load.refused[503], lambda it: it > refused + 10)
        assert load.trouble == []
        assert "what waits, verified" in steps
        there.start()
        account_for_everything(there, load)
        again = server.post("/ledger", {"account": 1, "amount": 1})
        assert (again.status, again.headers["retry-after"]) == (503, "30")
        assert "have moved to the other directory, at https://shop.example" in again.json["detail"]
        assert server.stop() == 0
    finally:
        server.end()
        there.end()


def test_a_server_that_drains_processes_what_is_due_and_stops_then(tmp_path: Path) -> None:
    with serving(tmp_path / "from", "--workloads", "ledger,echoes") as server:
        later = server.post("/ledger", {"account": 1, "amount": 1}, delay="3600").json["id"]
        server.accept("/ledger", *[{"account": 1, "amount": 1}] * 300)
        with contextlib.closing(SqliteSource(DataDirectory(server.data))) as source:
            with pytest.raises(ValueError, match="accepts messages"):
                source.give_over()
            source.stop("shop", "", drain=True)
            wait_for(source.busy, lambda left: left == 0)
            assert server.statuses() == {"queued": 1, "processed": 600}
            health = server.get("/health").json
            assert health["upkeep"]["move"]["state"] == "stopped"  # so what comes due now waits
            assert [record.id for record in source.waiting("", 10).records] == [later]
            counts = source.counts()
            assert (counts.processed, counts.queued, counts.later, counts.items) == (600, 1, 1, 2)
            source.go_on()
            source.go_on()
            server.accept("/ledger", {"account": 1, "amount": 1})
    with contextlib.closing(SqliteSource(DataDirectory(tmp_path / "from"))) as source:
        source.stop("shop", "", drain=True)
        assert source.busy() == 0  # nobody is there who could
        source.give_over()
        assert source.state() == "moved"
        with pytest.raises(ValueError, match="move them back"):
            source.go_on()
