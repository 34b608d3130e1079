"""A customer is forgotten in a stack: nothing is left in its table, its dead-letter queues and its schedules, and what
is others' is as it was."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import msgspec
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from moto.sqs.models import sqs_backends

from decoupled.cli import forget_target
from decoupled.cli.forget import forget
from decoupled.core.dead_letters import DeadLetter, Edit, Wanted
from decoupled.core.forgetting import Asked, Report
from decoupled.core.outcomes import Commit, Failure, Reject
from decoupled.core.problem import Problem
from decoupled.core.workload import Add, Message, Put, Write
from decoupled.engines.aws.carried import carried
from decoupled.engines.aws.forgetting import AwsForgetting
from decoupled.engines.sqlite.forgetting import unheard
from decoupled.pipeline.call import Call
from decoupled.pipeline.settlement import Policy, settle
from decoupled.pipeline.status import read
from decoupled.workloads import orders
from tests.support.audited_stack import audit
from tests.support.dead_letters import let_sqs_move, letters_of, receive_one
from tests.support.engines import AwsEngine

ANA, BEN = "iam:123456789012:ANASTASIA", "iam:123456789012:ANASTASIA2"  # whose names begin alike
SECRET = "Anastasia Forgetmenot"
NOW = time.time_ns() // 1_000_000
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TOLD = {"RecordTtlDays": "30", "LogRetentionDays": "14", "XRay": "on"}


def message(name: str, caller: str = ANA, workload: str = "orders", **more: Any) -> Message:
    body = json.dumps({"customer": f"{SECRET if caller == ANA else 'Benedikt Keepmealways'}, of {name}"})
    return Message(name, workload, body, caller, NOW, **more)


def poison(sent: Message) -> Failure:
    return Failure("failed", "KeyError", f"no account: {sent.body}", traceback=f"in line 1: {sent.body}")


def die(engine: AwsEngine, sent: Message) -> None:
    engine.queue.send([sent])
    delivery = receive_one(engine)
    assert settle([(delivery, poison(sent))], engine.queue, engine.table, Policy(max_attempts=1)) == []
    engine.queue.delete([delivery])


@pytest.fixture
def stack(moto_engine: AwsEngine) -> AwsEngine:
    """Of two callers, each kind of what may be kept."""
    for caller, prefix in ((ANA, "ana"), (BEN, "ben")):
        child = message(f"{prefix}-child", caller, "notifications", trace=TRACE)
        parent = message(f"{prefix}-parent", caller, digest="d" * 32)
        result = json.dumps({"for": json.loads(parent.body)["customer"]})
        writes: list[Write] = [
            Put(f"shop/things/{prefix}", {"of": json.loads(parent.body)["customer"]}),
            Put(f"shop/stock/{prefix}", {"count": 3}),
            Add("shop/shared/all", {"count": 1}),
        ]
        moto_engine.table.commit([(parent, Commit(result, writes, [child]))], NOW + 100)
        moto_engine.table.commit([(child, Commit('{"sent":1}'))], NOW + 200)
        moto_engine.table.commit([(message(f"{prefix}-no", caller), Reject(f"not for {parent.body}"))], NOW + 300)
        hook = f"https://{prefix}.example/hook"
        die(moto_engine, message(f"{prefix}-dead", caller, group=f"{prefix}.example", callback=hook))
        let_sqs_move(moto_engine, message(f"{prefix}-moved", caller))
    letters = letters_of(moto_engine)
    edited = [it for it in letters.find(Wanted(), bodies=True) if it.id in ("ana-dead", "ben-dead")]
    letters.edit([_edited(letter) for letter in edited])
    letters.close()
    return moto_engine


def _edited(letter: DeadLetter) -> DeadLetter:
    assert letter.body is not None
    edit = Edit(NOW, "ops@desk", letter.body)
    return msgspec.structs.replace(letter, body='{"customer": "nobody in particular"}', edits=(edit,))


def forgetting(engine: AwsEngine, clock_ms: Callable[[], int] = lambda: NOW + 10_000) -> AwsForgetting:
    found = {
        "QueueUrl": engine.queue_url,
        "DeadLetterQueueUrl": engine.dead_letter_queue_url,
        "TableName": engine.table_name,
    }
    clients = {"dynamodb": engine.dynamodb, "sqs": engine.sqs, "scheduler": engine.scheduler}
    one = AwsForgetting("shop", found, engine.schedule_group, TOLD, 1e9, clients.__getitem__, clock_ms, lambda _: None)
    one._look.keywords["receive_wait_s"] = 0
    return one


def forgotten(engine: AwsEngine, **asked: Any) -> Report:
    return forgetting(engine).forget(Asked(**{"caller": ANA} | asked), unheard)


def everything(engine: AwsEngine) -> dict[str, Any]:
    found = engine.dynamodb.scan(TableName=engine.table_name, ConsistentRead=True)["Items"]
    return {it["pk"]["S"]: it for it in found}


def everywhere(engine: AwsEngine) -> str:
    """All that is kept, as text."""
    copies = [repr(it) for it in engine.dead_letters() or []]
    listed = engine.dynamodb.scan(TableName=engine.table_name, IndexName="listed")["Items"]
    return json.dumps([everything(engine), copies, engine.scheduled(), listed], default=str)


def bens(engine: AwsEngine) -> dict[str, Any]:
    return {key: it for key, it in everything(engine).items() if "ana" not in key}


def test_nothing_is_left_of_a_caller_and_its_neighbour_is_as_it_was(stack: AwsEngine) -> None:
    before = bens(stack)
    report = forgotten(stack, keep=("shop/stock",))
    assert report.proven, report
    assert (report.left, report.unfinished) == (0, 0)
    assert report.erased == {
        "processed": 2,
        "rejected": 1,
        "dead": 2,
        "results": 2,
        "reasons": 1,
        "bodies": 1,
        "errors": 1,
        "tracebacks": 1,
        "callbacks": 1,
        "emits": 1,
        "items of shop/things": 1,
        "items of shop/shared": 1,
        "kept items of shop/stock": 1,
        "copies of dead letters": 2,
        "edits": 1,
    }
    text = everywhere(stack)
    assert SECRET not in text
    assert f'"{ANA}"' not in text
    assert f"'{ANA}'" not in text
    assert "ana.example" not in text
    assert bens(stack) == {key: it for key, it in before.items() if key != "shop/shared/all"}  # hers, who began it
    assert everything(stack)["shop/stock/ana"]["pk_owner"] == {"NULL": True}
    assert {it.id for it in stack.dead_letters() or []} == {"ben-dead", "ben-moved"}


def test_a_tombstone_has_its_times_and_goes_when_records_go(stack: AwsEngine) -> None:
    was = everything(stack)
    forgotten(stack)
    now = everything(stack)
    for key in ("ana-parent", "ana-no", "ana-dead"):
        for name in ("workload", "accepted_at", "finished_at"):
            assert now[key][name] == was[key][name]
    assert set(now["ana-parent"]) == {"pk", "workload", "status", "accepted_at", "finished_at", "result"}
    assert {key: now[f"ana-{key}"]["status"]["S"] for key in ("parent", "no", "dead", "moved")} == {
        "parent": "processed",
        "no": "rejected",
        "dead": "rejected",
        "moved": "rejected",
    }
    assert now["ana-dead"]["expires_at"] == {"N": str((NOW + 10_000) // 1000 + 30 * 86_400)}
    assert "dead_at" not in now["ana-dead"]


def test_what_is_sent_again_has_no_effect_and_get_says_410(stack: AwsEngine) -> None:
    forgotten(stack)
    before = everything(stack)
    again = message("ana-parent")
    (stored,) = stack.table.commit([(again, Commit('{"n":2}', [Put("shop/things/ana", {"n": 1})]))], NOW + 20_000)
    assert stored.duplicate  # type: ignore[union-attr]
    assert everything(stack) == before
    call = Call(("orders", "ana-parent"), "", {}, b"", ANA)
    with pytest.raises(Problem) as refused:
        read(call, stack.table, {"orders": orders.WORKLOAD})
    assert refused.value.status == 410


def test_the_audit_finds_nothing_wrong_and_a_move_takes_what_is_left(stack: AwsEngine) -> None:
    forgotten(stack)
    assert not [fault.says for fault in audit(stack).faults]
    moved = carried(everything(stack)["ana-parent"])
    assert (moved.caller, moved.result, moved.body) == ("", '{"forgotten":true}', None)
    tombstone = everything(stack)["ana-no"]
    stack.dynamodb.put_item(TableName=stack.table_name, Item=tombstone | {"group": {"S": "ana"}, "trace": {"S": "x"}})
    said = [fault.says for fault in audit(stack).faults]
    assert any("it was forgotten, and has message_group still" in it for it in said)
    assert any("it was forgotten, and has trace still" in it for it in said)


def test_what_is_not_finished_is_named_and_given_up_only_if_asked(stack: AwsEngine) -> None:
    later = message("ana-later", due_at=NOW + 3 * 3_600_000)
    tried, emitted = message("ana-tried"), message("ana-emitted", workload="notifications")
    stack.queue.send([later, tried])
    delivery = receive_one(stack)
    stack.table.record_failure(delivery, poison(tried), NOW)
    stack.table.commit([(message("ana-second"), Commit("{}", [], [emitted]))], NOW + 400)
    before = everything(stack)
    with pytest.raises(ValueError, match="3 messages of caller") as refused:
        forgotten(stack)
    assert all(name in str(refused.value) for name in ("ana-later", "ana-tried", "ana-emitted"))
    assert everything(stack) == before
    report = forgotten(stack, unfinished=True)
    assert report.proven
    assert report.erased["given up"] == 3
    assert report.erased["schedules"] == 1
    assert stack.scheduled() == []
    assert SECRET not in everywhere(stack)
    for sent in (later, tried, emitted):
        (stored,) = stack.table.commit([(sent, Commit('{"n":2}'))], NOW + 20_000)
        assert (stored.duplicate, stored.status) == (True, "rejected")  # type: ignore[union-attr]


def test_with_an_id_goes_all_that_came_of_it_and_nothing_else(stack: AwsEngine) -> None:
    parent = message("0" * 33)
    children = [Message(parent.emitted_id(n), "notifications", parent.body, ANA, NOW) for n in range(2)]
    grandchild = Message(children[0].emitted_id(0), "notifications", parent.body, ANA, NOW)
    stack.table.commit([(parent, Commit("{}", [], children))], NOW)
    stack.table.commit([(children[0], Commit(parent.body, [], [grandchild]))], NOW)
    quote = Put("shop/things/quote", {"of": json.loads(parent.body)["customer"]})
    stack.table.commit([(message("ben-quotes", BEN), Commit("{}", [quote]))], NOW)
    before = everything(stack)
    with pytest.raises(ValueError, match="2 messages of message"):
        forgotten(stack, caller=None, id=parent.id)
    report = forgotten(stack, caller=None, id=parent.id, unfinished=True)
    assert report.proven
    assert (report.erased["processed"], report.erased["given up"]) == (2, 2)
    family = {parent.id, grandchild.id, *(it.id for it in children)}
    now = everything(stack)
    assert {key for key, it in now.items() if it != before.get(key)} == family
    assert SECRET not in json.dumps([now[key] for key in family])
    assert report.elsewhere == 1  # what Ben says of it
    stack.dynamodb.put_item(TableName=stack.table_name, Item=before[children[0].id])  # as if it was killed before
    again = forgotten(stack, caller=None, id=parent.id)
    assert again.proven
    assert again.erased["processed"] == 1
    assert everything(stack)[children[0].id] == now[children[0].id]


@pytest.mark.parametrize(
    "asked", [{"caller": ANA}, {"caller": None, "id": "ana-dead"}, {"caller": None, "id": "ana-moved"}]
)
def test_killed_at_any_call_and_asked_again_it_comes_to_its_end(stack: AwsEngine, asked: dict[str, Any]) -> None:
    class Killed(BaseException):
        pass

    writes = ("PutItem", "DeleteItem", "UpdateItem", "DeleteMessage", "DeleteSchedule")
    clients, made, most = (stack.dynamodb, stack.sqs, stack.scheduler), [0], [0]

    def killing(call: Callable[..., Any]) -> Callable[..., Any]:
        def made_or_killed(name: str, request: Any) -> Any:
            if name in writes:
                made[0] += 1
                if made[0] > most[0]:
                    raise Killed
            return call(name, request)

        return made_or_killed

    killed = 0
    with contextlib.ExitStack() as patches:
        for client in clients:
            patches.enter_context(mock.patch.object(client, "_make_api_call", killing(client._make_api_call)))
        while True:
            made[0] = 0
            most[0] = 1 if killed % 2 == 0 else 2
            try:
                report = forgotten(stack, **asked)
            except Killed:
                killed += 1
                _show_hidden(stack)
                assert killed < 60
            else:
                break
    assert killed >= 1
    assert report.proven
    left = json.dumps([it for key, it in everything(stack).items() if asked.get("id", "ana") in key])
    assert SECRET not in left
    assert not [it.id for it in stack.dead_letters() or [] if asked.get("id", "ana") in it.id]


def _show_hidden(engine: AwsEngine) -> None:
    """What a look has hidden comes back after five minutes."""
    for account in sqs_backends.values():
        for queue in account["us-east-1"].queues.values():
            for held in queue._messages:
                held.visible_at = 0


def test_what_is_written_at_this_moment_is_not_written_over(stack: AwsEngine) -> None:
    """A dead letter that is redriven between the look at it and its end."""
    one, put = forgetting(stack), stack.dynamodb.put_item
    one.survey(Asked(caller=ANA), unheard)

    def late(**request: Any) -> Any:
        if request["Item"]["pk"]["S"] == "ana-dead" and "reason" in request["Item"]:
            with mock.patch.object(stack.dynamodb, "put_item", put):
                letters = letters_of(stack)
                letters.redrive([it for it in letters.find(Wanted()) if it.id == "ana-dead"])
                letters.close()
        return put(**request)

    with mock.patch.object(stack.dynamodb, "put_item", late):
        report = one.forget(Asked(caller=ANA), unheard)
    assert everything(stack)["ana-dead"]["status"] == {"S": "queued"}
    assert (report.proven, report.left) == (False, 1)
    assert any("ask again" in note for note in report.notes)


def test_anonymous_are_all_and_own_nothing(stack: AwsEngine) -> None:
    stack.table.commit([(message("some", "anonymous"), Commit("{}", [Put("shop/things/some", {"n": 1})]))], NOW)
    report = forgotten(stack, caller="anonymous")
    assert (report.proven, report.erased) == (True, {"processed": 1, "results": 1})
    assert "shop/things/some" in everything(stack)


def test_nothing_is_erased_while_the_stack_moves(stack: AwsEngine) -> None:
    state = {"pk": {"S": "-/move"}, "state": {"S": "stopped"}, "to": {"S": "data"}}
    stack.dynamodb.put_item(TableName=stack.table_name, Item=state)
    with pytest.raises(ValueError, match="moves to data"):
        forgotten(stack)


def test_the_command_says_the_cost_first_and_what_has_it_still(
    stack: AwsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.queue.send([message("ben-waits", BEN)])
    monkeypatch.setattr(forget_target, "forgetting_of", lambda *_: forgetting(stack))
    arguments = ["--stack", "shop", "--caller", ANA]
    said = CliRunner().invoke(forget, [*arguments, "--dry-run"])
    assert said.exit_code == 0, said.output
    assert "read three times" in said.stderr
    assert all(kind in said.stdout for kind in ("2 processed", "1 rejected", "2 dead", "1 edits"))
    assert SECRET in everywhere(stack)
    said = CliRunner().invoke(forget, [*arguments, "--yes"])
    assert said.exit_code == 0, said.output
    assert "the whole table: nothing is left" in said.stdout
    assert "1 messages wait on SQS" in said.stdout
    assert "for 14 days" in said.stdout
    assert "X-Ray has traces" in said.stdout
    assert "exports of the table" in said.stdout
    assert SECRET not in said.output
    said = CliRunner().invoke(forget, [*arguments, "--yes"])
    assert "nothing that could be erased is here" in said.output
    assert said.exit_code == 1


def test_what_aws_does_not_tell_is_said(stack: AwsEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListBackups")

    monkeypatch.setattr(stack.dynamodb, "list_backups", refused)
    notes = forgetting(stack).copies()
    assert any("Of backups of the table nothing is known: " in note for note in notes)
