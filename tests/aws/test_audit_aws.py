"""The audit of a stack: nothing is wrong after load, deaths, redrives and purges, and each kind of fault that is
planted is found, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from decoupled.core.dead_letters import Wanted
from decoupled.core.outcomes import Commit, Reject
from decoupled.core.workload import Add, Message, Put, Unavailable
from tests.support.audited_stack import NOW, audit
from tests.support.dead_letters import bury, letters_of, receive_one
from tests.support.engines import AwsEngine

HOUR_MS = 3_600_000


@pytest.fixture
def stack(moto_engine: AwsEngine) -> AwsEngine:
    """After some load: messages of each status, items, one that was redriven and one that was purged."""
    table = moto_engine.table
    for number in range(30):
        sent = Message(f"m-{number}", "readings", "{}", "ana", NOW + number * 1000)
        hour = f"readings/hourly/boiler.{number % 3}"
        add = Add(hour, {"count": 1, "sum": number}, lowest={"min": number}, highest={"max": number})
        table.commit([(sent, Reject("no") if number % 10 == 9 else Commit('{"n":1}', [add]))], sent.accepted_at + 500)
    welcome = Message("m-welcome", "notifications", "{}", "ana", NOW)
    parent = Message("m-parent", "registrations", "{}", "ana", NOW)
    account = Put("registrations/accounts/m-parent", {"email": "ana@example.com"})
    address = Put("registrations/addresses/x", {"email": "ana@example.com", "account": "m-parent"})
    table.commit([(parent, Commit("{}", [account, address], [welcome]))], NOW + 100)
    table.commit([(welcome, Commit("{}"))], NOW + 200)
    letters = letters_of(moto_engine)
    for _ in range(3):
        bury(moto_engine)
    one, another, _ = letters.find(Wanted(), bodies=True)
    letters.redrive([one])
    letters.purge([another])
    delivery = receive_one(moto_engine)
    table.commit([(delivery.message, Commit("{}"))], NOW + 300)
    moto_engine.queue.delete([delivery])
    return moto_engine


def test_nothing_is_wrong_with_a_healthy_stack(stack: AwsEngine) -> None:
    report = audit(stack, [f"m-{number}" for number in range(30)])
    assert not [fault.says for fault in report.faults]
    assert not report.remarks
    assert report.counts == {"processed": 30, "rejected": 4, "dead": 1}
    assert report.accepted is None
    assert "records 35 = queued 0 + processed 30 + rejected 4 + dead 1" in report.balance
    assert sum(day.accepted for day in report.days) == 35
    assert "30 ids of the ledger: processed 27, rejected 3" in report.checked
    assert any("read units (USD 0.00 in us-east-1" in what for what in report.checked)
    assert "the invariant of readings: 3 items" in report.checked
    assert "the invariant of registrations: 2 items" in report.checked
    assert any("what waits in SQS, by id" in what for what in report.unchecked)


def nothing_waits(engine: AwsEngine) -> None:
    """Nor is anything dead."""
    letters = letters_of(engine)
    letters.purge(list(letters.find(Wanted(), bodies=True)))
    engine.sqs.purge_queue(QueueUrl=engine.dead_letter_queue_url)  # of copies that a tool before has hidden


def put(pk: str = "m-3", **changed: Any) -> Callable[[AwsEngine], None]:
    """A record as the table has it, with something else in it; None: without it."""

    def plant(engine: AwsEngine) -> None:
        key = {"pk": {"S": pk}}
        item = engine.dynamodb.get_item(TableName=engine.table_name, Key=key).get("Item", key)
        for name, value in changed.items():
            item.pop(name, None)
            if value is not None:
                item[name] = value
        engine.dynamodb.put_item(TableName=engine.table_name, Item=item)

    return plant


def delete(key: str) -> Callable[[AwsEngine], None]:
    return lambda engine: engine.dynamodb.delete_item(TableName=engine.table_name, Key={"pk": {"S": key}})


DEAD = {"S": "dead"}
LONG_AGO = {"S": "2026-01-01T00:00:00.000Z"}
PLANTED: dict[str, tuple[Callable[[AwsEngine], None], str, str]] = {
    "a status that there is not": (put(status={"S": "done"}), "record", "the status 'done'"),
    "no result": (put(result=None), "record", "a processed message without result: m-3"),
    "a result that is none": (put(result={"S": "x"}), "record", "its result is no JSON object: m-3"),
    "a reason too many": (put(reason={"S": "x"}), "record", "a processed message with reason: m-3"),
    "no reason": (put(pk="m-9", reason=None), "record", "a rejected message without reason: m-9"),
    "no end": (put(finished_at=None), "record", "a processed message without finished_at: m-3"),
    "a time that is none": (put(accepted_at={"S": "x"}), "record", "it cannot be read: ValueError: m-3"),
    "what no record has": (put(caller={"B": b"x"}), "record", "it cannot be read: TypeError: m-3"),
    "a key that is no id": (put(pk="m x", status={"S": "rejected"}), "record", "its id is none: m x"),
    "attempts that are none": (put(attempts={"S": "x"}), "record", "attempts is not a number from 0 on: m-3"),
    "a final one among the dead": (put(dead=DEAD, dead_at=LONG_AGO), "record", "in the index of dead records: m-3"),
    "a dead one that its index lacks": (
        put(status=DEAD, result=None, finished_at=LONG_AGO),
        "record",
        "a dead message that the index of dead records lacks: m-3",
    ),
    "an open one that waits nowhere": (
        put(status={"S": "queued"}, result=None, finished_at=None),
        "missing",
        "[queues and schedules]: m-3",
    ),
    "an emitted one that was never sent": (delete("m-welcome"), "missing", "[queues and schedules]: m-welcome"),
    "an item of another collection": (
        put(pk="readings/hourly/boiler.1", pk_collection={"S": "orders/x"}),
        "item",
        "not its own: readings/hourly/boiler.1",
    ),
    "a record among items": (
        put(pk="orders/x/1", status=DEAD, accepted_at=LONG_AGO, workload=DEAD),
        "item",
        "it looks like a record under the key of an item: orders/x/1",
    ),
    "what no workload writes": (put(pk="orders/x/1", seen={"B": b"x"}), "item", "what no workload writes: orders/x/1"),
    "a sum that is another one": (
        put(pk="readings/hourly/boiler.1", sum={"N": "1e9"}),
        "invariant",
        "readings/hourly/boiler.1",
    ),
    "an account that is lost": (delete("registrations/accounts/m-parent"), "invariant", "account m-parent"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_each_kind_of_fault_is_found(planted: str, stack: AwsEngine) -> None:
    plant, kind, said = PLANTED[planted]
    nothing_waits(stack)
    plant(stack)
    faults = [fault for fault in audit(stack).faults if fault.kind == kind]
    assert any(said in fault.says for fault in faults), [fault.says for fault in audit(stack).faults]


def test_what_may_wait_is_no_fault_and_is_said(stack: AwsEngine) -> None:
    """One dead letter has a copy on SQS: so one message that nobody knows of may be that."""
    put(status={"S": "queued"}, result=None, finished_at=None)(stack)
    report = audit(stack)
    assert not [fault.says for fault in report.faults]
    assert any("1 messages that have not ended" in what and "1 wait" in what for what in report.unchecked)
    delete("m-welcome")(stack)
    (fault,) = audit(stack).faults
    assert fault.count == 1  # of two
    assert not audit(stack, after_ms=0).faults  # all of it was a moment ago


def test_a_schedule_waits_as_well(stack: AwsEngine) -> None:
    nothing_waits(stack)
    delete("m-welcome")(stack)
    stack.scheduler.create_schedule(
        GroupName=stack.schedule_group,
        Name="later",
        ScheduleExpression="at(2040-01-01T00:00:00)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": "arn:aws:scheduler:::aws-sdk:sqs:sendMessage", "RoleArn": "arn:aws:iam::123456789012:role/x"},
    )
    assert audit(stack).faults
    assert not audit(stack, group=stack.schedule_group).faults


def test_ids_that_clients_have_are_known_or_may_wait_or_are_lost(stack: AwsEngine) -> None:
    report = audit(stack, ["m-1", "m-lost"])  # one waits: the copy of a dead letter
    assert not report.faults
    assert any("1 ids of the ledger have no record" in what for what in report.unchecked)
    (fault,) = audit(stack, ["m-1", "m-lost", "m-gone"]).faults
    assert (fault.kind, fault.ids) == ("unknown", ["m-lost", "m-gone"])


def test_items_that_move_are_no_fault_and_it_is_said(stack: AwsEngine) -> None:
    PLANTED["a sum that is another one"][0](stack)
    assert [fault.kind for fault in audit(stack).faults] == []  # a dead letter's copy waits
    nothing_waits(stack)
    assert [fault.kind for fault in audit(stack).faults] == ["invariant"]
    report = audit(stack, after_ms=20_000)
    assert not report.faults
    assert any("boiler.1" in what and "Audit again in a quiet one" in what for what in report.unchecked)


def test_a_throttled_table_is_told_of(stack: AwsEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slower"}}, "Scan")

    monkeypatch.setattr(stack.dynamodb, "scan", refused)
    with pytest.raises(Unavailable):
        audit(stack)
