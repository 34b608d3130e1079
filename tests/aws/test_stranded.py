"""What `deploy` and `rollback` refuse because messages wait. SQS is moto's; the stack is told."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import moto
import pytest

from decoupled.cli.stranded import refuse_stranding
from decoupled.core import stack_limits
from decoupled.core.releases import Shift
from decoupled.engines.aws import deployment
from decoupled.engines.aws.stack import tool_client
from tests.support import ministack, template

FOURTEEN_DAYS, AT_ONCE = "1209600", Shift()


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str, str]]:
    with mock.patch.dict(os.environ, ministack.CREDENTIALS), moto.mock_aws():
        sqs = tool_client("sqs")
        kept = {"MessageRetentionPeriod": FOURTEEN_DAYS}
        names = {"QueueUrl": "shop-Queue", "OwnQueueUrlpallets": "shop-OwnQueuepallets"}
        made = {name: sqs.create_queue(QueueName=queue, Attributes=kept)["QueueUrl"] for name, queue in names.items()}
        monkeypatch.setattr(deployment, "outputs", lambda _: made)
        yield made


def send(url: str) -> None:
    tool_client("sqs").send_message(QueueUrl=url, MessageBody="{}")


def test_a_queue_with_messages_is_not_left_out(outputs: Mapping[str, str]) -> None:
    refuse_stranding("shop", {"OwnQueues": "0"}, AT_ONCE, accepted=True)
    send(outputs["OwnQueueUrlpallets"])
    refuse_stranding("shop", {"OwnQueues": "orders,pallets"}, AT_ONCE, accepted=True)
    with pytest.raises(ValueError, match=r"1 messages are on .*pallets, and nothing would take them"):
        refuse_stranding("shop", {"OwnQueues": "0"}, AT_ONCE, accepted=True)


def test_nor_while_the_release_before_sends_to_it(outputs: Mapping[str, str]) -> None:
    with pytest.raises(ValueError, match="change OwnQueues all at once"):
        refuse_stranding("shop", {"OwnQueues": "0"}, Shift.parse("canary", "10", 60.0), accepted=True)


def test_what_may_have_waited_for_more_than_ten_days_is_not_deleted_unasked(
    outputs: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    send(outputs["QueueUrl"])
    refuse_stranding("shop", {}, AT_ONCE, accepted=False)  # the queue is younger
    later = time.time() + 11 * 86_400
    monkeypatch.setattr(deployment, "time", mock.Mock(time=lambda: later))
    with pytest.raises(ValueError, match=r"1 messages are on .*what has waited longer is deleted"):
        refuse_stranding("shop", {}, AT_ONCE, accepted=False)
    refuse_stranding("shop", {}, AT_ONCE, accepted=True)
    kept = {"MessageRetentionPeriod": str(stack_limits.QUEUE_KEEPS_S)}
    tool_client("sqs").set_queue_attributes(QueueUrl=outputs["QueueUrl"], Attributes=kept)
    refuse_stranding("shop", {}, AT_ONCE, accepted=False)  # it keeps them no longer as it is


def test_the_template_s_queues_keep_as_long() -> None:
    queues = [it["Properties"] for it in template.load()["Resources"].values() if it["Type"] == "AWS::SQS::Queue"]
    assert {it["MessageRetentionPeriod"] for it in queues if "RedrivePolicy" in it} == {stack_limits.QUEUE_KEEPS_S}


class Lambda:
    """A receiver's version, with its environment."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables

    def get_function_configuration(self, **_: Any) -> Any:
        return {"Environment": {"Variables": self.variables}}


def test_a_version_tells_which_queues_it_sends_to(monkeypatch: pytest.MonkeyPatch) -> None:
    sends = {"QUEUE_URL": "q", "QUEUE0": "", "QUEUEorders": "a", "QUEUEpallets": "b"}
    sends |= {"ORDERED_QUEUE_URL": "f", "ORDERED_WORKLOADS": "steps"}
    has = {"OwnQueues": "orders"}
    monkeypatch.setattr(deployment, "versions", lambda *_: {"Receiver": "arn"})
    monkeypatch.setattr(deployment, "current", lambda _: None)
    monkeypatch.setattr(deployment, "parameters", lambda _: has)
    monkeypatch.setattr(deployment, "tool_client", lambda _: Lambda(sends))
    assert deployment.untaken("shop", "one") == ["pallets", "steps"]
    has |= {"OwnQueues": "orders,pallets", "OrderedWorkloads": "steps"}
    assert deployment.untaken("shop", "one") == []
