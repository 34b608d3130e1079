"""What is taken out of the file again, and how it is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from decoupled.core.outcomes import PROCESSED, Commit, Reject
from decoupled.core.retention import Found
from decoupled.core.upkeep_limits import BLOCK_MESSAGES
from decoupled.core.workload import Message
from decoupled.engines.sqlite import removal
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable

T0 = 1_800_000_000_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "decoupled.sqlite3")
    yield made
    made.close()


def send(database: Database, *names: str) -> list[Message]:
    messages = [Message(name, "orders", "{}", "ana", T0) for name in names]
    assert not any(SqliteQueue(database).send(messages))
    return messages


def finish(database: Database, message: Message, now_ms: int = T0 + 1, reject: bool = False) -> None:
    decision = Reject("out of stock") if reject else Commit("{}")
    SqliteTable(database).commit([(message, decision)], now_ms)


def found(database: Database, *names: str) -> list[Found]:
    rows = database.execute("SELECT id, seq, coalesce(finished_at, 0) FROM messages").fetchall()
    return [Found(seq, at) for name, seq, at in rows if name in names]


def there(database: Database) -> list[str]:
    return [name for (name,) in database.execute("SELECT id FROM messages ORDER BY seq")]


def ledger(database: Database) -> list[tuple[int, ...]]:
    return database.execute("SELECT block, processed, rejected, dead FROM removed ORDER BY block").fetchall()


def test_removed_rows_are_counted_by_block_and_by_what_they_had_come_to(database: Database) -> None:
    a, b, c, _ = send(database, "a", "b", "c", "last")
    database.execute("UPDATE messages SET seq = seq + ? WHERE id <> 'a'", (BLOCK_MESSAGES,))
    finish(database, a)
    finish(database, b)
    finish(database, c, reject=True)
    database.execute("UPDATE tallies SET n = (SELECT count(*) FROM messages WHERE status = 'rejected')")
    assert removal.remove(database, found(database, "a", "b", "c")) == {"processed": 2, "rejected": 1}
    assert there(database) == ["last"]
    assert ledger(database) == [(0, 1, 0, 0), (1, 1, 1, 0)]
    assert database.execute("SELECT n FROM tallies WHERE name = 'rejected'").fetchone() == (0,)


def test_what_is_unfinished_or_has_changed_since_it_was_read_stays(database: Database) -> None:
    a, b, c, _ = send(database, "a", "b", "c", "last")
    finish(database, a)
    read = found(database, "a", "b", "c")
    finish(database, b)
    finish(database, c)
    assert removal.remove(database, read) == {"processed": 1}
    assert there(database) == ["b", "c", "last"]


def test_the_newest_row_is_never_removed_so_that_no_number_is_given_twice(database: Database) -> None:
    a, b = send(database, "a", "b")
    finish(database, a)
    finish(database, b)
    (last,) = database.execute("SELECT max(seq) FROM messages").fetchone()
    removal.remove(database, found(database, "a", "b"))
    assert there(database) == ["b"]
    send(database, "c")
    assert database.execute("SELECT seq FROM messages WHERE id = 'c'").fetchone() == (last + 1,)


def test_a_removal_that_is_undone_is_not_counted(database: Database) -> None:
    a, _ = send(database, "a", "last")
    finish(database, a)
    database.begin()
    removal.remove(database, found(database, "a"))
    database.roll_back()
    assert (there(database), ledger(database)) == (["a", "last"], [])


def test_what_is_sent_again_after_its_record_was_removed_is_a_new_message(database: Database) -> None:
    a, _ = send(database, "a", "last")
    finish(database, a)
    removal.remove(database, found(database, "a"))
    (again,) = send(database, "a")
    assert there(database) == ["last", "a"]
    assert SqliteTable(database).commit([(again, Commit("{}"))], T0 + 9) == [PROCESSED]


def test_a_follower_who_has_not_come_so_far_begins_anew_and_one_who_has_goes_on(database: Database) -> None:
    ends = SqliteEnds(database)
    a, b, c, d, _ = send(database, "a", "b", "c", "d", "last")
    with database.transaction():
        ends.follow("orders", "ana")
    for part in ([a], [b, c], [d]):
        for message in part:
            finish(database, message)
        with database.transaction():
            ends.mark([message.id for message in part])
    start = ends.span("orders", "ana")
    assert start is not None
    begun = start[0]
    at = {record.id: position for position, record in ends.after("orders", "ana", begun, 9, 999)[0]}

    def goes_on(position: tuple[int, int]) -> bool:
        span = ends.span("orders", "ana")
        return span is not None and span[0] <= position <= span[1]

    removal.remove(database, found(database, "a"))
    assert not goes_on(begun)
    assert goes_on(at["a"])
    removal.remove(database, found(database, "c"))  # b, of the same number, is there still: a reader of b misses c
    assert [goes_on(at[name]) for name in "abcd"] == [False, False, False, True]
    removal.remove(database, found(database, "d"))
    assert goes_on(at["d"])


def test_kept_bodies_of_final_messages_are_removed_and_those_of_others_are_not(database: Database) -> None:
    a, b, _ = send(database, "a", "b", "c")
    finish(database, a)
    finish(database, b)
    database.execute("UPDATE messages SET body = 'kept'")
    database.execute("UPDATE messages SET status = 'dead', finished_at = ? WHERE id = 'c'", (T0,))
    assert removal.remove_bodies(database, found(database, "a", "c")) == 1
    assert database.execute("SELECT id, body FROM messages ORDER BY seq").fetchall() == [
        ("a", None),
        ("b", "kept"),
        ("c", "kept"),
    ]
