"""A stack that gets a queue for each workload while messages wait in the one that all shared: deployed by
`decoupled deploy`, from the request to the record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from decoupled.core import own_queues
from decoupled.engines.aws.stack import outputs, tool_client
from tests.support.contract import wait_for
from tests.support.deployed import BOXES, Stack, deployed

PALLETS = """
from msgspec import Struct

from decoupled import Effects, Emit, Message, Workload


class Pallet(Struct):
    boxes: int


def process(pallet: Pallet, message: Message) -> Effects:
    return Effects({}, emits=[Emit("boxes", {"weight": weight}) for weight in range(pallet.boxes)])


WORKLOAD = Workload("large_pallets", Pallet, process)
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with deployed(tmp_path_factory.mktemp("deployed"), f"OwnQueues={own_queues.NONE}") as made:
        yield made


def waiting() -> dict[str, int]:
    """How many messages wait in each queue of the stack, by its output."""
    depths = {}
    for name, url in outputs("boxes").items():
        if name.endswith("QueueUrl") or name.startswith("OwnQueueUrl"):
            answer = tool_client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            hidden = int(answer["ApproximateNumberOfMessagesNotVisible"])
            depths[name] = int(answer["ApproximateNumberOfMessages"]) + hidden
    return depths


def shown(stack: Stack, weight: int) -> str:
    return str(stack.post(weight).json()["id"])


def status(stack: Stack, message_id: str) -> str:
    return str(stack.ask(message_id)[1]["status"])


def test_messages_in_the_shared_queue_go_on_when_workloads_get_queues_of_their_own(stack: Stack) -> None:
    stack.process(False)
    before = [shown(stack, weight) for weight in range(3)]
    assert waiting() == {"QueueUrl": 3, "DeadLetterQueueUrl": 0}

    (stack.project / "large_pallets.py").write_text(PALLETS)
    (stack.project / "decoupled.toml").write_text('workloads = ["./boxes.py", "./large_pallets.py"]\n')
    printed = stack.deploy()
    assert "OwnQueueUrllargepallets" in printed
    stack.process(False)
    after = [shown(stack, weight) for weight in range(2)]
    stack.client.post("/large_pallets", json={"boxes": 4})
    expected = {"QueueUrl": 3, "DeadLetterQueueUrl": 0, "OwnQueueUrlboxes": 2, "OwnQueueUrllargepallets": 1}
    assert waiting() == expected
    assert re.search(r"6\s+queued|queued\s+6", stack.run("status", "--stack", "boxes"))

    stack.process(True)
    statuses = wait_for(
        lambda: {status(stack, message_id) for message_id in before + after},
        until=lambda found: "queued" not in found,
        seconds=60,
    )
    assert statuses == {"processed"}
    wait_for(lambda: sum(waiting().values()), until=lambda left: left == 0, seconds=60)


def test_what_a_workload_emits_and_what_is_redriven_goes_to_the_queue_of_its_own(stack: Stack) -> None:
    poison = shown(stack, 13)
    wait_for(lambda: status(stack, poison), until=lambda found: found == "dead", seconds=60)
    found = tool_client("cloudformation").describe_stack_resource(
        StackName="boxes", LogicalResourceId="OwnMappingboxes"
    )
    (stack.project / "mended.py").write_text(BOXES.replace("weight == 13", "weight == 14"))
    replayed = stack.run("replay", "--stack", "boxes", "--json", "--workloads", "./mended.py:WORKLOAD")
    assert json.loads(replayed)["id"] == poison.partition(".")[0]
    assert json.loads(replayed)["now"] == "processed"
    mapping = found["StackResourceDetail"]["PhysicalResourceId"]
    tool_client("lambda").update_event_source_mapping(UUID=mapping, Enabled=False)
    assert "redriven" in stack.run("dead", "redrive", "--stack", "boxes", poison)
    stack.client.post("/large_pallets", json={"boxes": 4})
    depths = wait_for(lambda: waiting(), until=lambda found: found["OwnQueueUrlboxes"] == 5, seconds=60)
    assert depths["QueueUrl"] == depths["DeadLetterQueueUrl"] == 0
    tool_client("lambda").update_event_source_mapping(UUID=mapping, Enabled=True)
    wait_for(lambda: waiting()["OwnQueueUrlboxes"], until=lambda left: left == 0, seconds=60)


def test_the_queue_of_a_workload_that_is_gone_stays(stack: Stack) -> None:
    (stack.project / "large_pallets.py").unlink()
    (stack.project / "boxes.py").write_text(BOXES.replace("weight: int", "weight: int\n    colour: str = ''"))
    (stack.project / "decoupled.toml").write_text('workloads = ["./boxes.py"]\n')
    assert "large_pallets  /  it is not served any more" in stack.deploy()
    assert "OwnQueueUrllargepallets" in stack.deploy("--accept-breaks")


OPTIONS = (
    *("XRay=on", "DetailedMetrics=on", "AccessLogs=off", "BatchSize=5", "BatchWindowSeconds=5", "TableWarmWrites=8000"),
    *("MinimumPollers=2", "ReserveConcurrency=yes", "ReceiverReserved=20"),
)


def test_a_queue_that_is_named_no_more_is_gone_and_a_stack_with_every_option_processes_too(stack: Stack) -> None:
    printed = stack.deploy("OwnQueues=boxes", *OPTIONS)
    assert "OwnQueueUrlboxes" in printed, printed
    assert "OwnQueueUrllargepallets" not in printed
    assert "ReservedProcessors=22" in printed  # two pollers of ten processors, and two on the shared queue
    answer = tool_client("sqs").get_queue_attributes(
        QueueUrl=outputs("boxes")["OwnQueueUrlboxes"], AttributeNames=["VisibilityTimeout"]
    )
    assert answer["Attributes"]["VisibilityTimeout"] == "240"
    message_id = shown(stack, 1)
    assert wait_for(lambda: status(stack, message_id), until=lambda found: found != "queued", seconds=60) == "processed"


def test_names_that_cloudformation_could_not_tell_apart_are_refused(stack: Stack) -> None:
    (stack.project / "box_es.py").write_text(BOXES.replace('"boxes"', '"box_es"'))
    (stack.project / "decoupled.toml").write_text('workloads = ["./boxes.py", "./box_es.py"]\n')
    assert "'boxes' and 'box_es' differ in underscores only" in stack.deploy()
