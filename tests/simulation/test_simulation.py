"""Thousands of seeded histories with injected faults, on every engine. A failure names its seed; to replay that one:
`DECOUPLED_SEED=17 make test ARGS=tests/test_simulation.py`."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from unittest import mock

import msgspec
import pytest

from decoupled.core.outcomes import Commit, Delivery, NotStored, Record, Reject, Stored
from decoupled.core.workload import Message
from decoupled.engines.protocols import Table
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline import settlement
from tests.support import invariants
from tests.support.audited import sound
from tests.support.clients import SIMULATED
from tests.support.engines import AwsEngine, ReceivingSqliteQueue
from tests.support.faults import STEPS, Crash, Faults
from tests.support.model_engine import ManualClock, ModelQueue, ModelTable
from tests.support.simulation import Engine, History

SEED = os.environ.get("DECOUPLED_SEED")
HISTORIES = 1 if SEED else int(os.environ.get("DECOUPLED_HISTORIES", "2500"))
FIRST_SEED = int(SEED) if SEED else random.SystemRandom().randrange(10**9)
AUDITED = 8  # of so many histories one, where the engine has a file

MakeEngine = Callable[[ManualClock], Engine]


def sqlite_engine(clock: ManualClock) -> Engine:
    database = Database(":memory:")

    def waiting() -> int:
        (count,) = database.execute("SELECT count(*) FROM messages WHERE status = 'queued'").fetchone()
        return int(count)

    def dead_letters() -> list[Message]:
        dead = "SELECT id, workload, body, caller, accepted_at FROM messages WHERE status = 'dead' ORDER BY seq"
        return [Message(*row) for row in database.execute(dead)]

    def redrive(message: Message) -> None:
        """The receive count stands, so that no receipt comes back to life."""
        alive = "UPDATE messages SET status = 'queued', visible_at = ?, attempts = 0 WHERE id = ? AND status = 'dead'"
        database.execute(alive, (clock(), message.id))

    queue, table = ReceivingSqliteQueue(database, clock), SqliteTable(database, clock_ms=clock)
    return Engine(queue, table, waiting, dead_letters, redrive, database=database, close=database.close)


def model_engine(clock: ManualClock) -> Engine:
    table = ModelTable()

    def forget_attempts(message_id: str) -> None:
        table.records[message_id] = msgspec.structs.replace(table.records[message_id], attempts=0)
        del table.marks[message_id]

    engine = beside_model_queue(clock, table, table.dead_letters, forget_attempts)

    def arm(faults: Faults) -> None:
        table.half_buried = lambda: faults.at("halfway bury")

    engine.arm = arm
    return engine


def beside_model_queue(
    clock: ManualClock, table: Table, buried: dict[str, Record], forget_attempts: Callable[[str], None]
) -> Engine:
    """A table on a queue that obeys the manual clock, as SQS does not."""
    queue = ModelQueue(clock)

    def dead_letters() -> list[Message]:
        dead = buried.values()
        return [Message(r.id, r.workload, r.body or "", r.caller, r.accepted_at) for r in dead]

    def redrive(message: Message) -> None:
        """Its attempts start anew. One that was processed since, by a processor that was late, is sent all the same:
        what its record emits may still be unsent."""
        record = table.get(message.id)
        if record is not None and record.status == "dead":
            forget_attempts(message.id)
        queue.send([message])
        del buried[message.id]

    return Engine(queue, table, lambda: len(queue), dead_letters, redrive, queue.holds)


def run(make_engine: MakeEngine, histories: int, counts: Counter[str], first_seed: int = FIRST_SEED) -> None:
    """Run histories until one breaks an invariant; its seed is in the error."""
    for seed in range(first_seed, first_seed + histories):
        clock = ManualClock()
        engine = make_engine(clock)
        history = History(seed, engine, clock, counts)
        try:
            history.run()
            invariants.check(history)
            if engine.database is not None and seed % AUDITED == 0:
                sound(engine.database)
        except BaseException as error:
            error.add_note(f"DECOUPLED_SEED={seed} replays this history")
            raise
        finally:
            engine.close()
        counts["histories"] += 1


def report_and_check(capsys: pytest.CaptureFixture[str], engine: str, counts: Counter[str]) -> None:
    died = sum(number for what, number in counts.items() if what.startswith("crash "))
    with capsys.disabled():
        print(f"\n  {engine}: seeds from {FIRST_SEED}, {counts['histories']} histories, {died} crashes, ", end="")  # noqa: T201
        print(f"{counts['rival']} rivals, {counts['accepted']} requests accepted")  # noqa: T201
    if counts["histories"] >= 2_500:  # no invariant held for want of anything to hold for
        steps = STEPS - {"halfway bury"} if engine == "SQLite" else STEPS  # there, burying is one step
        assert {step for step in STEPS if counts[f"crash {step}"]} == steps
        happened = {what for what, number in counts.items() if number}
        assert happened >= {f"{name} processed" for name in SIMULATED}
        assert happened >= {"seats rejected", "not yet"}
        assert happened >= {"transactions rejected", "registrations rejected", "notifications rejected"}
        assert happened >= {"notifications dead", "redriven", "stored, unknown", "sent, unknown", "delivered, unknown"}


def test_no_history_on_sqlite_breaks_an_invariant(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    run(sqlite_engine, HISTORIES, counts)
    report_and_check(capsys, "SQLite", counts)


def test_no_history_with_emits_sent_after_the_record_breaks_an_invariant(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    run(model_engine, -(-HISTORIES // 4), counts)
    report_and_check(capsys, "model", counts)


def test_no_history_on_dynamodb_breaks_an_invariant(
    new_moto_engine: Callable[[], AwsEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    """Few: an emulated call takes milliseconds."""

    def dynamodb_engine(clock: ManualClock) -> Engine:
        buried: dict[str, Record] = {}
        aws = new_moto_engine()
        table = aws.table
        # moto undoes a failed transaction by restoring the whole table, so that threads lose each other's writes.
        table._threads = SimpleNamespace(map=map)  # type: ignore[assignment]  # all that is called of an executor

        def forget_attempts(message_id: str) -> None:
            aws.dynamodb.update_item(
                TableName=aws.table_name,
                Key={"pk": {"S": message_id}},
                UpdateExpression="SET attempts = :none REMOVE mark",
                ExpressionAttributeValues={":none": {"N": "0"}},
            )

        engine = beside_model_queue(clock, table, buried, forget_attempts)

        def arm(faults: Faults) -> None:
            def copy(message: Message, dead: Record) -> None:
                faults.at("halfway bury")
                buried[message.id] = dead

            table._send_dead_letter = copy

        engine.arm = arm
        return engine

    counts: Counter[str] = Counter()
    run(dynamodb_engine, -(-HISTORIES // 100), counts)
    report_and_check(capsys, "DynamoDB", counts)


# --- the simulation notices what is broken on purpose ---------------------------


def test_the_simulation_notices_a_processor_that_deletes_before_it_commits() -> None:
    as_lambda_does = History._as_lambda_does

    def deletes_first(history: History, deliveries: Sequence[Delivery]) -> None:
        history.queue.delete(deliveries)
        as_lambda_does(history, deliveries)

    with mock.patch.object(History, "_as_lambda_does", deletes_first):
        assert_noticed(model_engine, "lost|not ended")


def test_the_simulation_notices_a_table_that_applies_effects_and_stores_the_record_in_two_steps() -> None:
    def in_two_steps(table: ModelTable, message: Message, decision: Commit | Reject, now_ms: int) -> Stored:
        outcome = commit_one(table, message, decision, now_ms)
        if outcome.status == "processed" and not outcome.duplicate and now_ms % 7 == 0:
            del table.records[message.id]
            raise Crash("between the effects and the record")
        return outcome

    commit_one = ModelTable._commit_one

    def make_engine(clock: ManualClock) -> Engine:
        engine = model_engine(clock)
        table = engine.table
        assert isinstance(table, ModelTable)
        two_steps = mock.patch.object(table, "_commit_one", lambda *args: in_two_steps(table, *args))
        two_steps.start()
        engine.close = two_steps.stop
        return engine

    assert_noticed(make_engine, "EUR|KWD|readings/hourly|registered already")


def test_the_simulation_notices_a_processor_that_takes_a_failed_commit_for_a_stored_one() -> None:
    finish = settlement._finish

    def credulous(delivery: Delivery, outcome: Stored | NotStored, queue: ModelQueue) -> object:
        return None if isinstance(outcome, NotStored) else finish(delivery, outcome, queue)

    with mock.patch.object(settlement, "_finish", credulous):
        assert_noticed(model_engine, "lost|not ended|was never sent")


def test_the_simulation_notices_emits_that_a_redelivery_does_not_finish() -> None:
    commit_one, stored = ModelTable._commit_one, ModelTable.stored

    def forgets(table: ModelTable, message: Message, decision: Commit | Reject, now_ms: int) -> Stored:
        outcome = commit_one(table, message, decision, now_ms)
        return Stored(outcome.status, outcome.reason, True) if outcome.duplicate else outcome

    def forgets_too(table: ModelTable, message_id: str) -> Stored | None:
        outcome = stored(table, message_id)
        return None if outcome is None else Stored(outcome.status, outcome.reason, True)

    with mock.patch.object(ModelTable, "_commit_one", forgets), mock.patch.object(ModelTable, "stored", forgets_too):
        assert_noticed(model_engine, "was never sent")


def assert_noticed(make_engine: MakeEngine, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        run(make_engine, 500, Counter(), first_seed=1)
