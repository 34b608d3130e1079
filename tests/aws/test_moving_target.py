"""A stack as the side that a move goes to: what is put and sent there, again and again, and what is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any
from unittest import mock

import msgspec
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from decoupled.core import limits
from decoupled.core.dead_letters import PURGED, Wanted
from decoupled.core.fingerprints import difference, item_difference
from decoupled.core.forgetting import NOTHING
from decoupled.core.moving import Carried, CarriedItem, Counts
from decoupled.core.outcomes import Commit, Delivery, Reject
from decoupled.core.shown import view
from decoupled.core.times import now_ms
from decoupled.core.workload import Unavailable
from decoupled.engines.aws.audit import AwsAudit
from decoupled.engines.aws.carried import record
from decoupled.engines.aws.dead_letter_queue import DeadLetterQueue
from decoupled.engines.aws.dead_letters import AwsDeadLetters
from decoupled.engines.aws.moving_target import AwsTarget
from decoupled.engines.aws.queues import SqsQueues
from tests.support.engines import AwsEngine, fifo_beside
from tests.support.moving import ANA, AT, ITEM, NOBODYS, dead, processed, queued, rejected

ALL = [processed(), rejected(), dead(), queued()]
DAY_S = 86_400


def target_of(engine: AwsEngine, queue: SqsQueues | None = None, **others: Any) -> AwsTarget:
    return AwsTarget(
        "boxes", engine.dynamodb, engine.table_name, queue or engine.queue, listed={"shop/things"}, **others
    )


def stored(engine: AwsEngine, key: str) -> dict[str, Any]:
    item: dict[str, Any] = engine.dynamodb.get_item(TableName=engine.table_name, Key={"pk": {"S": key}})["Item"]
    return item


def refusing(engine: AwsEngine, operation: str, code: str, times: int = 1) -> Any:
    """The next calls of DynamoDB's operation are refused."""
    call, refused = getattr(engine.dynamodb, operation), iter(range(times))

    def refuse(**request: Any) -> Any:
        if next(refused, None) is not None:
            raise ClientError({"Error": {"Code": code, "Message": "?"}}, operation)
        return call(**request)

    return mock.patch.object(engine.dynamodb, operation, refuse)


def all_received(engine: AwsEngine) -> list[Delivery]:
    found: list[Delivery] = []
    while some := engine.queue.receive(10, 600):
        found += some
    return found


def test_what_was_put_is_there_as_it_was(moto_engine: AwsEngine) -> None:
    target = target_of(moto_engine)
    assert target.put(ALL) == []
    there = target.get([it.id for it in ALL] + ["unknown"])
    assert there.keys() == {it.id for it in ALL}
    assert [difference(it, there[it.id]) for it in ALL] == [None] * len(ALL)


def test_get_says_the_same_of_it_as_before(moto_engine: AwsEngine) -> None:
    target_of(moto_engine).put(ALL)
    for it in ALL:
        found = moto_engine.table.get(it.id)
        assert found is not None
        before, after = (msgspec.json.decode(msgspec.json.encode(view(one))) for one in (record(it), found))
        assert before == after


def test_a_table_that_takes_less_at_once_than_there_is_takes_all_in_the_end(moto_engine: AwsEngine) -> None:
    many = [processed(f"done-{n}") for n in range(60)]
    target = target_of(moto_engine)
    put, left, tries = moto_engine.dynamodb.put_item, [0], iter(range(6))

    def throttled(**request: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "?"}}, "PutItem")
        return put(**request)

    with mock.patch.object(moto_engine.dynamodb, "put_item", throttled):
        for _ in tries:
            left[0] = 10
            with contextlib.suppress(Unavailable):
                assert target.put(many) == []
                break
    assert next(tries, None) is None  # each brought ten of them further
    assert target.get([it.id for it in many]).keys() == {it.id for it in many}


@pytest.mark.parametrize("last", [1, 2, 3])
def test_an_edited_dead_letter_is_taken_back_whole_whoever_was_killed_on_the_way(
    moto_engine: AwsEngine, last: int
) -> None:
    target = target_of(moto_engine)
    target.put([dead()])
    delete, calls = moto_engine.dynamodb.delete_item, iter(range(1, 99))

    def killed(**request: Any) -> Any:
        if next(calls) >= last:
            raise ClientError({"Error": {"Code": "InternalServerError", "Message": "?"}}, "DeleteItem")
        return delete(**request)

    with mock.patch.object(moto_engine.dynamodb, "delete_item", killed), contextlib.suppress(Unavailable):
        target.take_back([dead()])
    target.take_back([dead()])
    assert moto_engine.dynamodb.scan(TableName=moto_engine.table_name)["Items"] == []


def test_a_time_that_is_to_come_is_told(moto_engine: AwsEngine) -> None:
    due_at = now_ms() + 3_600_000
    target_of(moto_engine).put([queued(due_at=due_at)])
    found = moto_engine.table.get("waits")
    assert found is not None
    assert (found.status, found.due_at, found.attempts) == ("queued", due_at, 2)


def test_to_put_all_again_changes_nothing(moto_engine: AwsEngine) -> None:
    target = target_of(moto_engine)
    target.put(ALL)
    before = [stored(moto_engine, it.id) for it in ALL]
    assert target.put(ALL) == []
    assert [stored(moto_engine, it.id) for it in ALL] == before


@pytest.mark.parametrize("later", [dead("purged"), queued("purged"), processed("purged")])
def test_what_was_purged_may_be_another_thing_later_and_nothing_else(moto_engine: AwsEngine, later: Carried) -> None:
    target = target_of(moto_engine)
    target.put([rejected("purged", reason=PURGED), rejected("refused")])
    (why,) = target.put([rejected("purged", reason=PURGED), dead("refused")])
    assert "refused" in why
    assert target.put([later]) == []
    assert {it.status for it in target.get(["purged"]).values()} == {later.status}


@pytest.mark.parametrize(
    "later",
    [
        processed(caller="", result=NOTHING, digest="", attempts=0, error=None),
        processed(accepted_at=AT + 10, digest="another", finished_at=AT + 20),
        queued("done", workload="shop", caller=ANA, accepted_at=AT + 10),
    ],
)
def test_what_was_forgotten_or_sent_again_since_it_was_copied_takes_its_place(
    moto_engine: AwsEngine, later: Carried
) -> None:
    target = target_of(moto_engine)
    target.put([processed()])
    assert target.put([later]) == []
    assert difference(later, target.get(["done"])["done"]) is None
    assert target.get(["done"])["done"].status == later.status


def test_nothing_takes_the_place_of_what_the_stack_itself_has_made(moto_engine: AwsEngine) -> None:
    own = msgspec.structs.replace(queued("done", caller=ANA), body="{}").message()
    moto_engine.table.commit([(own, Commit("{}"))], 1)
    (why,) = target_of(moto_engine).put([processed(accepted_at=AT + 10)])
    assert "done" in why


@pytest.mark.parametrize("decision", [Commit('{"total":80}'), Reject("elsewhere")])
def test_a_final_record_that_is_there_stays_and_is_told_of(moto_engine: AwsEngine, decision: Commit | Reject) -> None:
    own = queued("done").message()
    moto_engine.table.commit([(own, decision)], 1)
    before = stored(moto_engine, "done")
    (why,) = target_of(moto_engine).put([processed()])
    assert "done" in why
    assert stored(moto_engine, "done") == before


def test_what_was_put_and_ended_meanwhile_is_no_difference(moto_engine: AwsEngine) -> None:
    target = target_of(moto_engine)
    target.put([queued()])
    moto_engine.table.commit([(queued().message(), Commit("{}"))], 1)
    assert target.put([queued()]) == []
    target.send([queued()])
    assert all_received(moto_engine) == []


def test_a_message_comes_with_all_that_it_had(moto_engine: AwsEngine) -> None:
    waits = queued(digest="0f3a", callback="https://shop.example/hook")
    target = target_of(moto_engine)
    target.put([waits])
    assert all_received(moto_engine) == []
    target.send([waits])
    (delivery,) = all_received(moto_engine)
    assert delivery.message == waits.message()
    assert delivery.receive_count == 1
    assert moto_engine.table.begin_attempt(delivery).attempts == 3  # after the two that it had


def test_what_is_sent_twice_has_its_effects_once(moto_engine: AwsEngine) -> None:
    target = target_of(moto_engine)
    target.put([queued()])
    target.send([queued()])
    target.send([queued()])
    first, second = all_received(moto_engine)
    outcomes = moto_engine.table.commit([(first.message, Commit("{}")), (second.message, Commit("{}"))], 1)
    assert [getattr(outcome, "duplicate", None) for outcome in outcomes] == [False, True]


def test_what_is_due_later_gets_a_schedule(moto_engine: AwsEngine) -> None:
    later = queued(due_at=now_ms() + 1000 * (limits.MAX_DELAY_S + 600))
    target = target_of(moto_engine)
    target.put([later])
    target.send([later])
    assert all_received(moto_engine) == []
    moto_engine.fire()
    assert [delivery.message.id for delivery in all_received(moto_engine)] == ["waits"]


def test_what_its_workload_put_off_and_no_schedule_takes_comes_sooner(moto_engine: AwsEngine) -> None:
    body = '{"n": "%s"}' % ("x" * 258_000)
    later = queued(due_at=now_ms() + 10**9, body=body)
    target = target_of(moto_engine)
    target.put([later])
    target.send([later])
    assert moto_engine.scheduled() == []
    sent = [call for _, operation, call in moto_engine.calls if operation == "SendMessageBatch"]
    assert sent[-1]["Entries"][0]["DelaySeconds"] == limits.MAX_DELAY_S
    with pytest.raises(ValueError, match="waits can never be sent"):
        target.send([msgspec.structs.replace(later, receive_count=0)])  # its sender said when


def test_a_dead_letter_is_redriven_there_like_any_other(moto_engine: AwsEngine) -> None:
    target = target_of(moto_engine)
    target.put([dead()])
    target.send([dead()])
    letters = AwsDeadLetters(
        moto_engine.dynamodb,
        moto_engine.table_name,
        moto_engine.queue,
        DeadLetterQueue(moto_engine.sqs, [moto_engine.dead_letter_queue_url], 0),
    )
    (letter,) = letters.find(Wanted(), bodies=True)
    assert (letter.id, letter.error, letter.traceback) == ("dead", "'n'", "Traceback: ...")
    assert letters.redrive([letter])[0].done == "redriven"
    letters.close()
    (delivery,) = all_received(moto_engine)
    assert delivery.message == dead().message()
    assert moto_engine.dead_letters() == []


def test_of_a_group_none_is_sent_before_those_ahead_of_it(moto_engine: AwsEngine) -> None:
    fifo = fifo_beside(moto_engine)
    waiting = [queued(f"{group}{n}", workload="steps", group=group) for n in range(3) for group in "ab"]
    target = target_of(moto_engine, SqsQueues(moto_engine.queue, fifo=fifo.queue, ordered={"steps"}), ordered={"steps"})
    target.put(waiting)
    with mock.patch.object(fifo.queue, "_sqs", Failing(moto_engine.sqs, "a1")), pytest.raises(Unavailable, match="a1"):
        target.send(waiting)
    target.send(waiting)
    came: dict[str, list[str]] = {"a": [], "b": []}
    while some := fifo.queue.receive(10, 600):
        for delivery in some:
            came[delivery.message.group].append(delivery.message.id)
        fifo.queue.delete(some)
    for group, ids in came.items():
        assert list(dict.fromkeys(ids)) == [f"{group}{n}" for n in range(3)]


class Failing:
    """SQS, which once fails the entry with this id."""

    def __init__(self, sqs: Any, message_id: str) -> None:
        self.sqs = sqs
        self.message_id: str | None = message_id

    def send_message_batch(self, QueueUrl: str, Entries: Sequence[Any]) -> Any:  # noqa: N803  botocore's names
        failed = [it for it in Entries if it["MessageAttributes"]["id"]["StringValue"] == self.message_id]
        answer = self.sqs.send_message_batch(QueueUrl=QueueUrl, Entries=[it for it in Entries if it not in failed])
        if failed:
            self.message_id = None
        told = [{"Id": it["Id"], "SenderFault": False, "Code": "InternalError", "Message": "?"} for it in failed]
        return {**answer, "Failed": [*answer.get("Failed", []), *told]}


def test_items_keep_numbers_owners_and_their_place_in_a_listing(moto_engine: AwsEngine) -> None:
    target = target_of(moto_engine)
    assert target.put_items([ITEM, NOBODYS]) == []
    there = target.get_items([ITEM.key, NOBODYS.key])
    assert item_difference(ITEM, there[ITEM.key]) is None
    assert item_difference(NOBODYS, there[NOBODYS.key]) is None
    assert [key for key, _ in moto_engine.table.page("shop/things/", "", 10).items] == [ITEM.key]
    assert moto_engine.table.item(ITEM.key, "somebody") is None


def test_an_item_that_is_there_stays_and_is_told_of(moto_engine: AwsEngine) -> None:
    target = target_of(moto_engine)
    target.put_items([CarriedItem(ITEM.key, '{"left":2}', ITEM.owner)])
    before = stored(moto_engine, ITEM.key)
    (why,) = target.put_items([ITEM])
    assert ITEM.key in why
    assert stored(moto_engine, ITEM.key) == before


def test_what_was_put_is_taken_back_and_nothing_else(moto_engine: AwsEngine) -> None:
    target = target_of(moto_engine)
    target.put(ALL)
    target.put_items([ITEM, NOBODYS])
    moto_engine.table.commit([(queued("gone-on").message(), Commit("{}"))], 1)
    target.take_back([dead(), queued(), queued("gone-on"), queued("never-put")])
    target.take_back_items([ITEM, CarriedItem(NOBODYS.key, '{"left":1}')])
    assert target.get(["done", "no", "dead", "waits", "gone-on"]).keys() == {"done", "no", "gone-on"}
    assert target.get_items([ITEM.key, NOBODYS.key]).keys() == {NOBODYS.key}


def test_records_end_as_the_stack_says_and_not_before_they_can_be_compared(moto_engine: AwsEngine) -> None:
    now = now_ms()
    target = target_of(moto_engine, record_ttl_days=30, clock_ms=lambda: now)
    young, old = processed("young", finished_at=now), processed("old", finished_at=now - 400 * DAY_S * 1000)
    target.put([young, old, queued()])
    assert int(stored(moto_engine, "young")["expires_at"]["N"]) == now // 1000 + 30 * DAY_S
    assert int(stored(moto_engine, "old")["expires_at"]["N"]) == now // 1000 + 7 * DAY_S
    assert "expires_at" not in stored(moto_engine, "waits")


@pytest.mark.parametrize("code", ["ThrottlingException", "ProvisionedThroughputExceededException"])
def test_throttled_is_unavailable_and_names_the_id(moto_engine: AwsEngine, code: str) -> None:
    target = target_of(moto_engine)
    with refusing(moto_engine, "put_item", code), pytest.raises(Unavailable, match=f"done was not put.*{code}"):
        target.put([processed()])
    assert target.put([processed()]) == []


def test_who_may_not_is_told_at_once(moto_engine: AwsEngine) -> None:
    target = target_of(moto_engine)
    with refusing(moto_engine, "put_item", "AccessDeniedException"), pytest.raises(ValueError, match="AccessDenied"):
        target.put([processed()])


def test_an_answer_that_is_lost_is_unavailable(moto_engine: AwsEngine) -> None:
    lost = mock.Mock(side_effect=ReadTimeoutError(endpoint_url="x"))
    with mock.patch.object(moto_engine.dynamodb, "put_item", lost), pytest.raises(Unavailable, match="done"):
        target_of(moto_engine).put([processed()])


def test_what_is_left_unprocessed_is_read_again(moto_engine: AwsEngine) -> None:
    target, call = target_of(moto_engine), moto_engine.dynamodb.batch_get_item
    target.put(ALL)

    def one_at_a_time(RequestItems: Any) -> Any:  # noqa: N803  botocore's name
        ((table, wanted),) = RequestItems.items()
        some = {**wanted, "Keys": wanted["Keys"][:1]}
        left = {**wanted, "Keys": wanted["Keys"][1:]}
        return {**call(RequestItems={table: some}), "UnprocessedKeys": {table: left} if left["Keys"] else {}}

    with mock.patch.object(moto_engine.dynamodb, "batch_get_item", one_at_a_time):
        assert target.get([it.id for it in ALL]).keys() == {it.id for it in ALL}
    throttled = {"Responses": {}, "UnprocessedKeys": {moto_engine.table_name: {"Keys": [{"pk": {"S": "done"}}]}}}
    with (
        mock.patch.object(moto_engine.dynamodb, "batch_get_item", return_value=throttled),
        pytest.raises(Unavailable, match="done"),
    ):
        target.get(["done"])


def test_a_result_that_no_map_of_dynamodb_holds_is_kept_as_it_is(moto_engine: AwsEngine) -> None:
    refused = '{"n":1' + "0" * 60 + ',"m":1.0}'
    call = moto_engine.dynamodb.put_item

    def as_aws(**request: Any) -> Any:  # which takes numbers of 38 digits
        if "result" in request["Item"]:
            raise ClientError({"Error": {"Code": "ValidationException", "Message": "38 digits"}}, "PutItem")
        return call(**request)

    target, large = target_of(moto_engine), processed(result=refused)
    with mock.patch.object(moto_engine.dynamodb, "put_item", as_aws):
        assert target.put([large]) == []
    found = moto_engine.table.get("done")
    assert found is not None
    assert found.result == refused
    assert difference(large, target.get(["done"])["done"]) is None
    again = processed(result=refused, accepted_at=AT + 10, finished_at=AT + 20)  # sent again after its time was over
    with mock.patch.object(moto_engine.dynamodb, "put_item", as_aws):
        assert target.put([again]) == []
    assert difference(again, target.get(["done"])["done"]) is None


def test_an_audit_of_the_stack_finds_nothing_wrong_with_what_was_put(moto_engine: AwsEngine) -> None:
    target = target_of(moto_engine)
    target.put(ALL)
    target.put_items([ITEM, NOBODYS])
    target.send(ALL)
    made = {"pk": {"S": "large"}, "result_text": {"S": "{}"}}
    moto_engine.dynamodb.put_item(TableName=moto_engine.table_name, Item={**stored(moto_engine, "done"), **made})
    moto_engine.dynamodb.update_item(
        TableName=moto_engine.table_name,
        Key={"pk": {"S": "large"}},
        UpdateExpression="REMOVE #result",
        ExpressionAttributeNames={"#result": "result"},
    )
    found = {
        "TableName": moto_engine.table_name,
        "QueueUrl": moto_engine.queue_url,
        "DeadLetterQueueUrl": moto_engine.dead_letter_queue_url,
    }
    clients = {"dynamodb": moto_engine.dynamodb, "sqs": moto_engine.sqs}
    audit = AwsAudit("boxes", found, None, 10**6, clients.__getitem__)
    report = audit.run(lambda _what, _done, _of: None, [it.id for it in ALL], lambda _key, _item: None)
    assert report.faults == []
    assert report.counts == {"processed": 2, "rejected": 1, "dead": 1, "queued": 1}


def test_what_does_not_fit_at_all_is_named(moto_engine: AwsEngine) -> None:
    with pytest.raises(ValueError, match="much does not fit the table of boxes"):
        target_of(moto_engine).put([processed(), rejected("much", reason="x" * 500_000)])


def test_the_bill_is_told(moto_engine: AwsEngine) -> None:
    notes = target_of(moto_engine, record_ttl_days=30).check(Counts(processed=3, queued=2, later=1, items=1))
    assert "6 writes" in notes[0]
    assert "30 days" in notes[-1]


def test_more_than_one_batch_is_read(moto_engine: AwsEngine) -> None:
    many: list[Carried] = [processed(f"many-{n}") for n in range(250)]
    target = target_of(moto_engine)
    target.put(many)
    assert len(target.get([it.id for it in many])) == 250
