"""IAM: the template's roles grant each AWS call that the code makes, and nothing else. The calls are those that
botocore was asked to make while the engine worked."""

from __future__ import annotations

import re

from decoupled.core import own_queues
from decoupled.core.outcomes import Commit, Failure
from decoupled.core.times import now_ms
from decoupled.core.workload import Add, Delete, Put, Update, Write
from decoupled.engines.aws.queues import SqsQueues
from tests.support import engines, template
from tests.support.batches import come_back, entry, event
from tests.support.contract import NOW, commit_one, dead_record, delivered, emitted, message, receive_one

# What IAM asks for, call by call. Batch calls and transactions are authorized as the calls that they bundle.
ACTIONS = {
    "SendMessage": {"sqs:SendMessage"},
    "SendMessageBatch": {"sqs:SendMessage"},
    "ReceiveMessage": {"sqs:ReceiveMessage"},
    "ChangeMessageVisibilityBatch": {"sqs:ChangeMessageVisibility"},
    "GetItem": {"dynamodb:GetItem"},
    "PutItem": {"dynamodb:PutItem"},
    "UpdateItem": {"dynamodb:UpdateItem"},
    "Query": {"dynamodb:Query"},
}
TRANSACTION = {
    "Put": "dynamodb:PutItem",
    "Update": "dynamodb:UpdateItem",
    "Delete": "dynamodb:DeleteItem",
    "ConditionCheck": "dynamodb:ConditionCheckItem",
}
LATER = {"Schedules": {"scheduler:CreateSchedule"}, "ScheduleRole": {"iam:PassRole"}}
OWN_QUEUES = {
    "Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${AWS::StackName}-OwnQueue*",
}
POLLING = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}  # by the event source mapping


def granted(role: str, ordered: bool = False) -> dict[str, set[str]]:
    """The actions that a role allows, by the resource that it allows them on, in a stack with `ordered` workloads or
    without. X-Ray, logs and key are apart."""
    grants: dict[str, set[str]] = {}
    for statement in template.properties(role)["Policies"][0]["PolicyDocument"]["Statement"]:
        if "Fn::If" in statement or statement["Sid"] in ("Log", "Trace"):
            continue
        assert statement["Effect"] == "Allow"
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        targets = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        for target in targets:
            if "Fn::If" in target:
                condition, target, otherwise = target["Fn::If"]
                assert (condition, otherwise) == ("WithOrderedWorkloads", {"Ref": "AWS::NoValue"})
                if not ordered:
                    continue
            if target == OWN_QUEUES:
                continue  # as the shared queue: see the test below
            if ".Arn}" in target.get("Fn::Sub", ""):  # an index of the table
                resource = re.sub(r"\$\{(\w+)\.Arn\}", r"\1", target["Fn::Sub"])
            elif "Fn::Sub" in target:  # the schedules of the stack's own group
                (resource,) = re.findall(r":schedule/\$\{(\w+)\}/\*$", target["Fn::Sub"])
            else:
                resource, attribute = target["Fn::GetAtt"]
                assert attribute == "Arn"
            grants.setdefault(resource, set()).update(actions)
    return grants


def needed(engine: engines.AwsEngine, fifo: engines.OrderedQueues | None = None) -> dict[str, set[str]]:
    """The actions that the recorded calls need, by resource."""
    needs: dict[str, set[str]] = {}
    names = {engine.queue_url: "Queue", engine.dead_letter_queue_url: "DeadLetterQueue", engine.table_name: "Table"}
    if fifo is not None:
        names[fifo.queue_url] = "OrderedQueue"
    for _, operation, parameters in engine.calls:
        if operation == "TransactWriteItems":
            for action in parameters["TransactItems"]:
                ((kind, request),) = action.items()
                needs.setdefault(names[request["TableName"]], set()).add(TRANSACTION[kind])
            continue
        if operation == "CreateSchedule":
            assert parameters["GroupName"] == engine.schedule_group
            assert parameters["Target"]["RoleArn"] == engines.ROLE_ARN
            needs |= LATER
            continue
        target = names[parameters.get("QueueUrl") or parameters["TableName"]]
        if "IndexName" in parameters:
            target += f"/index/{parameters['IndexName']}"
        needs.setdefault(target, set()).update(ACTIONS[operation])
    return needs


def test_the_receiver_may_send_and_read_a_record_and_nothing_else(moto_engine: engines.AwsEngine) -> None:
    moto_engine.queue.send([*[message() for _ in range(25)], message(due_at=now_ms() + 86_400_000)])
    moto_engine.table.get("some-id")  # for a client that waits
    may = {"Queue": {"sqs:SendMessage"}, "Table": {"dynamodb:GetItem"}, **LATER}
    assert granted("ReceiverRole") == needed(moto_engine) == may


def test_what_a_role_may_do_with_the_shared_queue_it_may_with_those_of_workloads() -> None:
    for role in ("ReceiverRole", "ProcessorRole", "ScheduleRole"):
        statements = template.properties(role)["Policies"][0]["PolicyDocument"]["Statement"]
        resources = [it["Resource"] for it in statements if isinstance(it.get("Resource"), list)]
        shared = {"Fn::GetAtt": ["Queue", "Arn"]}
        assert [OWN_QUEUES in it for it in resources] == [shared in it for it in resources]
        assert any(OWN_QUEUES in it for it in resources)
    assert OWN_QUEUES["Fn::Sub"].endswith(f"-{own_queues.RESOURCE}*")


def test_a_role_is_passed_to_the_scheduler_only_and_taken_by_the_stack_s_own_schedules() -> None:
    for function in ("Receiver", "Processor"):
        statements = template.properties(f"{function}Role")["Policies"][0]["PolicyDocument"]["Statement"]
        (passing,) = [it for it in statements if it.get("Action") == "iam:PassRole"]
        assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}}
    (trust,) = template.properties("ScheduleRole")["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"]["StringEquals"]["aws:SourceArn"] == {"Fn::GetAtt": ["Schedules", "Arn"]}
    assert granted("ScheduleRole") == {"Queue": {"sqs:SendMessage"}, "DeadLetterQueue": {"sqs:SendMessage"}}


def test_with_ordered_workloads_the_receiver_may_send_to_both_queues(moto_engine: engines.AwsEngine) -> None:
    fifo = engines.fifo_beside(moto_engine)
    later = message(workload="steps", due_at=now_ms() + 86_400_000)
    SqsQueues(moto_engine.queue, fifo=fifo.queue, ordered={"steps"}).send([message(), message(workload="steps"), later])
    moto_engine.table.get("some-id")
    assert granted("ReceiverRole", ordered=True) == needed(moto_engine, fifo)


def test_the_status_function_may_read_and_nothing_else(moto_engine: engines.AwsEngine) -> None:
    moto_engine.table.get("some-id")
    moto_engine.table.item("some/item")
    moto_engine.table.page("some/collection/", "", 10)
    may = {"Table": {"dynamodb:GetItem"}, "Table/index/listed": {"dynamodb:Query"}}
    assert granted("StatusRole") == needed(moto_engine) == may


def test_with_ordered_workloads_the_processor_may_use_both_queues_and_bury_on_one(
    moto_engine: engines.AwsEngine,
) -> None:
    fifo = engines.fifo_beside(moto_engine)
    pair = SqsQueues(moto_engine.queue, fifo=fifo.queue, ordered={"steps"})
    pair.send([message(), message(workload="steps"), message(due_at=now_ms() + 86_400_000)])
    pair.retry_later([(receive_one(moto_engine), 1), (fifo.queue.receive(1, 60)[0], 1)])
    for workload in ("orders", "steps"):
        pair.send_dead_letter(sent := message(workload=workload), dead_record(sent))
    needs = needed(moto_engine, fifo)
    assert needs["DeadLetterQueue"] == {"sqs:SendMessage"}
    may = granted("ProcessorRole", ordered=True)
    assert may.pop("Table")
    assert may == {
        **LATER,
        "Queue": needs["Queue"] | POLLING,
        "OrderedQueue": needs["OrderedQueue"] | POLLING,
        "DeadLetterQueue": needs["DeadLetterQueue"],
    }


def test_the_processor_may_do_what_it_does_and_nothing_else(moto_engine: engines.AwsEngine) -> None:
    sent = [entry(do) for do in ("one", "fail", "wait", "reject", "write")]
    moto_engine.queue.send(sent)
    moto_engine.sqs.send_message(QueueUrl=moto_engine.queue_url, MessageBody="a stranger's, which is dead at once")
    happened = event(moto_engine)
    moto_engine.calls.clear()
    come_back(moto_engine, happened)
    for record in happened["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = "2"
    come_back(moto_engine, happened)
    every_write: list[Write] = [
        Put("a/b", {}),
        Add("c/d", {"n": 1}, lowest={"low": 1}),
        Update("a/d", {"n": 1}),
        Delete("a/e"),
        Add("a/c", {}, if_present="absent"),
    ]
    commit_one(moto_engine, message(), Commit("{}", every_write))
    moto_engine.table.record_failure(delivered(message()), Failure("failed", "E", "e"), NOW)
    moto_engine.queue.send([emitted(sent[0], 0), message(due_at=now_ms() + 86_400_000)])
    needs = needed(moto_engine)
    needs["Queue"] |= POLLING
    assert granted("ProcessorRole") == needs
    assert not {action for actions in needs.values() for action in actions} & {"dynamodb:Scan", "dynamodb:Query"}
