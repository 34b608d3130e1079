"""Bodies of dead letters that somebody changes: one contract on both engines."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decoupled.core import dead_letters as dead
from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter, Edit, Wanted
from decoupled.core.outcomes import Commit, Delivery, Failure, Record, Stored
from decoupled.core.retention import Found
from decoupled.core.upkeep_limits import MAX_EDITED_BYTES, MAX_EDITS
from decoupled.core.workload import Message
from decoupled.engines.aws.search import AwsSearch
from decoupled.engines.protocols import DeadLetters
from decoupled.engines.sqlite import removal, story
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.recovery import recover
from decoupled.pipeline.settlement import Policy, settle
from tests.support import engines
from tests.support.dead_letters import POISON, let_sqs_move, letters_of, message, receive_one

BETTER = '{"good":true}'


@pytest.fixture(params=["embedded", "moto"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> engines.Engine:
    """Both kinds, empty."""
    if request.param == "embedded":
        return engines.embedded(tmp_path)
    new: Callable[[], engines.Engine] = request.getfixturevalue("new_moto_engine")
    return new()


@pytest.fixture
def letters(engine: engines.Engine) -> DeadLetters:
    return letters_of(engine)


def bury(engine: engines.Engine, **fields: Any) -> Message:
    """Send a message with these fields that fails once, and is given up at once."""
    sent = msgspec.structs.replace(message(), **fields)
    engine.queue.send([sent])
    delivery = receive_one(engine)
    settle([(delivery, POISON)], engine.queue, engine.table, Policy(max_attempts=1))
    engine.queue.delete([delivery])
    return sent


def changed(
    letter: DeadLetter | None, body: str = BETTER, group: str | None = None, by: str = "ana@desk"
) -> DeadLetter:
    """The letter as an edit asks for it."""
    assert letter is not None
    assert letter.body is not None
    group = letter.group if group is None else group
    return msgspec.structs.replace(letter, body=body, group=group, edits=[Edit(0, by, letter.body)])


def edit(letters: DeadLetters, letter: DeadLetter) -> str:
    (outcome,) = letters.edit([letter])
    return outcome.done or outcome.why_not


def test_a_redrive_sends_the_new_body_with_all_else_as_it_was(engine: engines.Engine, letters: DeadLetters) -> None:
    callback = "https://client.example/told"
    sent = bury(engine, group="shop.example", digest="0f" * 12, callback=callback)
    assert edit(letters, changed(letters.get(sent.id))) == "edited"
    letters.redrive(list(letters.find(Wanted())))
    again = receive_one(engine).message
    assert again.body == BETTER
    if isinstance(engine, engines.EmbeddedEngine):  # hands out no digest; its row has it
        again = msgspec.structs.replace(again, digest=sent.digest)
    assert msgspec.structs.replace(again, body=sent.body) == sent


def test_what_it_was_before_is_kept_with_who_and_when(engine: engines.Engine, letters: DeadLetters) -> None:
    sent = bury(engine)
    for body in (BETTER, '{"best":true}'):
        assert edit(letters, changed(letters.get(sent.id), body)) == "edited"
    letter = letters_of(engine).get(sent.id)
    assert letter is not None
    assert letter.body == '{"best":true}'
    assert [(it.by, it.body) for it in letter.edits] == [("ana@desk", sent.body), ("ana@desk", BETTER)]
    first, second = (it.at for it in letter.edits)
    assert letter.dead_at <= first < second
    assert list(letters.find(Wanted(), bodies=True)) == [letter]
    assert [it.edits for it in letters.find(Wanted())] == [()]
    steps = steps_of(engine, sent.id)
    assert [step for step in steps if step[0] == "edited"] == [
        ("edited", first, "its body, by ana@desk"),
        ("edited", second, "its body, by ana@desk"),
    ]
    assert steps[-3][0] == "dead"


def steps_of(engine: Any, message_id: str) -> list[tuple[str, int | None, str]]:
    if isinstance(engine, engines.EmbeddedEngine):
        told = story.read(engine.table.database, message_id, 0, 0)
    else:
        told = AwsSearch(engine.dynamodb, engine.table_name).story(message_id)
    assert told is not None
    return [(step.what, step.at, step.detail) for step in told.steps]


def test_it_is_kept_through_a_redrive_another_death_and_another_change(
    engine: engines.Engine, letters: DeadLetters
) -> None:
    sent = bury(engine)
    edit(letters, changed(letters.get(sent.id)))
    letters.redrive(list(letters.find(Wanted())))
    settle([(receive_one(engine), POISON)], engine.queue, engine.table, Policy(max_attempts=1))
    again = letters_of(engine)
    letter = again.get(sent.id)
    assert letter is not None
    assert (letter.body, [it.body for it in letter.edits]) == (BETTER, [sent.body])
    assert edit(again, changed(letter, "{}")) == "edited"
    again.redrive(list(again.find(Wanted())))
    delivery = receive_one(engine)
    assert delivery.message.body == "{}"
    engine.table.commit([(delivery.message, Commit("{}"))], 0)
    assert [step[0] for step in steps_of(engine, sent.id)].count("edited") == 2


def test_who_edits_what_is_another_by_now_is_told(engine: engines.Engine, letters: DeadLetters) -> None:
    sent = bury(engine)
    mine = changed(letters.get(sent.id))
    assert edit(letters_of(engine), changed(letters.get(sent.id), '{"theirs":1}')) == "edited"
    assert edit(letters, mine) == "it changed at this moment"
    letter = letters.get(sent.id)
    assert letter is not None
    assert (letter.body, len(letter.edits)) == ('{"theirs":1}', 1)


@pytest.mark.parametrize(("act", "becomes"), [("redrive", "queued"), ("purge", "rejected")])
def test_who_comes_after_a_redrive_or_purge_is_told(
    engine: engines.Engine, letters: DeadLetters, act: str, becomes: str
) -> None:
    sent = bury(engine)
    mine = changed(letters.get(sent.id))
    getattr(letters_of(engine), act)(list(letters.find(Wanted())))
    assert edit(letters, mine) == f"it is {becomes}"
    assert steps_of(engine, sent.id)[-1][0] != "edited"


def test_a_redrive_that_began_before_an_edit_sends_no_body_of_before(
    moto_engine: engines.AwsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = bury(moto_engine)
    slow: Any = letters_of(moto_engine)
    (letter,) = slow.find(Wanted())
    read = slow._records.read

    def read_and_be_overtaken(message_id: str) -> Any:
        item = read(message_id)
        other = letters_of(moto_engine)
        assert edit(other, changed(other.get(message_id))) == "edited"
        return item

    monkeypatch.setattr(slow._records, "read", read_and_be_overtaken)
    assert [it.why_not for it in slow.redrive([letter])] == ["it changed at this moment"]
    assert moto_engine.queue.receive(10, 0) == []
    again = letters_of(moto_engine).get(sent.id)
    assert again is not None
    assert again.body == BETTER


def test_a_late_delivery_of_the_body_before_changes_nothing(engine: engines.Engine, letters: DeadLetters) -> None:
    sent = bury(engine)
    edit(letters, changed(letters.get(sent.id)))
    (stored,) = engine.table.commit([(sent, Commit('{"of":"the body before"}'))], 0)
    assert isinstance(stored, Stored)
    assert (stored.status, stored.duplicate) == ("dead", True)
    late = Delivery(sent, "late", 9)
    again = Record(sent.id, "orders", "dead", sent.accepted_at, finished_at=0, body=sent.body, error="again")
    engine.table.bury(late, again)
    settle([(late, Failure("failed", "KeyError", "again"))], engine.queue, engine.table, Policy(max_attempts=1))
    letter = letters_of(engine).get(sent.id)
    assert letter is not None
    assert letter.body == BETTER
    letters_of(engine).redrive([letter])
    delivery = receive_one(engine)
    assert delivery.message.body == BETTER
    (stored,) = engine.table.commit([(delivery.message, Commit("{}"))], 0)
    assert isinstance(stored, Stored)
    assert not stored.duplicate


def test_a_purge_leaves_none_of_its_bodies(engine: Any, letters: DeadLetters) -> None:
    sent = bury(engine)
    edit(letters, changed(letters.get(sent.id)))
    assert [it.done for it in letters.purge(list(letters.find(Wanted())))] == ["purged"]
    if isinstance(engine, engines.EmbeddedEngine):
        assert engine.table.database.execute("SELECT count(*) FROM edits").fetchone() == (0,)
    else:
        items = engine.dynamodb.scan(TableName=engine.table_name)["Items"]
        assert [item["pk"]["S"] for item in items] == [sent.id]
        assert "edited_at" not in items[0]


def test_an_export_has_them_and_an_import_brings_them_elsewhere(
    engine: engines.Engine, letters: DeadLetters, tmp_path: Path
) -> None:
    sent = bury(engine)
    edit(letters, changed(letters.get(sent.id)))
    (letter,) = letters.find(Wanted(), bodies=True)
    (read,) = dead.read(io.BytesIO(dead.encode(letter).encode()))
    assert read == letter
    (tmp_path / "elsewhere").mkdir()
    for there in (engine, engines.embedded(tmp_path / "elsewhere")):
        letters_of(there).purge([letter])
        assert [it.done for it in letters_of(there).restore([read])] == ["imported"]
        found = letters_of(there).get(sent.id)
        assert found is not None
        assert (found.body, found.edits) == (letter.body, letter.edits)


def test_a_letter_that_was_never_changed_is_exported_as_before(engine: engines.Engine, letters: DeadLetters) -> None:
    bury(engine)
    (letter,) = letters.find(Wanted(), bodies=True)
    assert '"edits"' not in dead.encode(letter)


def test_what_is_too_much_is_refused_with_why(engine: engines.Engine, letters: DeadLetters) -> None:
    sent = bury(engine)
    letter = letters.get(sent.id)
    huge = '{"a":"' + "x" * limits.MAX_ENTRY_BYTES + '"}'
    assert "its body would be over" in edit(letters, changed(letter, huge))
    assert "too long a name" in edit(letters, changed(letter, by="x" * 1_000))
    for number in range(MAX_EDITS):
        assert edit(letters, changed(letters.get(sent.id), f'{{"n":{number}}}')) == "edited"
    assert f"changed {MAX_EDITS} times already" in edit(letters, changed(letters.get(sent.id)))


def test_large_bodies_are_kept_up_to_a_limit(engine: engines.Engine, letters: DeadLetters) -> None:
    size = 150_000  # of larger ones moto adds the body before to that of the record, which DynamoDB does not
    sent = bury(engine)
    for number in range(5):
        assert edit(letters, changed(letters.get(sent.id), f'{{"{number}":"{"x" * size}"}}')) == "edited"
    assert f"over {MAX_EDITED_BYTES:,} bytes" in edit(letters, changed(letters.get(sent.id)))


def test_it_gets_the_group_of_its_new_body_or_none(engine: engines.Engine, letters: DeadLetters) -> None:
    sent = bury(engine, group="a.example")
    assert edit(letters, changed(letters.get(sent.id), group="b.example")) == "edited"
    found = letters.get(sent.id)
    assert found is not None
    assert found.group == "b.example"
    assert edit(letters, changed(found, "{}", group="")) == "edited"
    letters.redrive(list(letters.find(Wanted())))
    assert receive_one(engine).message.group == ""


def test_what_sqs_gave_up_gets_a_record_with_the_new_body(moto_engine: engines.AwsEngine) -> None:
    sent = message()
    let_sqs_move(moto_engine, sent)
    letters = letters_of(moto_engine)
    assert edit(letters, changed(letters.get(sent.id))) == "edited"
    letters.close()
    again = letters_of(moto_engine)
    (letter,) = again.find(Wanted(), bodies=True)
    assert (letter.body, letter.recorded, letter.buried_by) == (BETTER, True, "queue")
    assert [it.body for it in letter.edits] == [sent.body]
    assert [it.done for it in again.redrive([letter])] == ["redriven"]
    again.close()
    assert receive_one(moto_engine).message.body == BETTER
    assert moto_engine.dead_letters() == []


def test_a_resend_of_the_entry_that_was_accepted_still_finds_its_id(
    engine: engines.Engine, letters: DeadLetters
) -> None:
    sent = bury(engine, digest="0f" * 12)
    edit(letters, changed(letters.get(sent.id)))
    assert engine.queue.send([sent]) == [None]
    letters_of(engine).redrive(list(letters.find(Wanted())))
    assert engine.queue.send([sent]) == [None]
    if isinstance(engine, engines.EmbeddedEngine):
        (refused,) = engine.queue.send([msgspec.structs.replace(sent, digest="11" * 12)])
        assert refused is not None
        assert not refused.transient
        assert [it.message.body for it in engine.queue.receive(10, 60)] == [BETTER]


# --- on SQLite ----------------------------------------------------------------------


def edited(directory: Path) -> tuple[Database, Message]:
    """A database with one that is dead and was changed, and another that follows it."""
    engine = engines.embedded(directory)
    sent = bury(engine)
    assert edit(letters_of(engine), changed(letters_of(engine).get(sent.id))) == "edited"
    engine.queue.send([message()])
    return engine.table.database, sent


def test_retention_removes_them_with_the_record_or_with_the_body(tmp_path: Path) -> None:
    database, sent = edited(tmp_path)
    database.execute(
        "UPDATE messages SET status = 'processed', finished_at = 5, result = '{}' WHERE id = ?", (sent.id,)
    )
    (seq,) = database.execute("SELECT seq FROM messages WHERE id = ?", (sent.id,)).fetchone()
    assert removal.remove_bodies(database, [Found(seq, 5)]) == 1
    assert database.execute("SELECT count(*) FROM edits").fetchone() == (0,)
    (tmp_path / "other").mkdir()
    database, sent = edited(tmp_path / "other")
    (seq, at) = database.execute("SELECT seq, finished_at FROM messages WHERE id = ?", (sent.id,)).fetchone()
    assert removal.remove(database, [Found(seq, at)]) == {"dead": 1}
    assert database.execute("SELECT count(*) FROM edits").fetchone() == (0,)


def test_what_is_recovered_of_a_damaged_file_has_them(tmp_path: Path) -> None:
    database, sent = edited(tmp_path)
    (tmp_path / "whole").mkdir()
    whole = Database(tmp_path / "whole" / "decoupled.sqlite3")
    recover(tmp_path / "decoupled.sqlite3", whole)
    letter = SqliteDeadLetters(whole).get(sent.id)
    assert letter is not None
    assert (letter.body, [it.body for it in letter.edits]) == (BETTER, [sent.body])
    for it in (database, whole):
        it.close()
