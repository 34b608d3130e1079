"""docs/operations.md keeps its word: every command is there, and the policy allows each call that the tools make of AWS
and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import click
import msgspec
import pytest
from botocore.stub import Stubber

from decoupled.cli.main import main
from decoupled.core import limits
from decoupled.core.dead_letters import PURGED, Edit, Wanted
from decoupled.engines.aws import stack as aws_stack
from decoupled.engines.aws.client import client
from decoupled.engines.aws.dead_letter_queue import HIDDEN_S
from decoupled.engines.aws.stats import AwsStats
from tests.support import engines
from tests.support.dead_letters import bury, let_sqs_move, letters_of, message

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()

# What IAM asks for, where that is not the call's own name. Batch calls are authorized as the calls that they bundle.
ACTIONS = {"SendMessageBatch": "SendMessage", "ChangeMessageVisibilityBatch": "ChangeMessageVisibility"}


def typed() -> Iterator[str]:
    for block in re.findall(r"^```\w*\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL):
        yield from (line for line in block.splitlines() if line.startswith("decoupled "))


@pytest.mark.parametrize("line", list(typed()))
def test_a_command_of_the_page_is_understood(line: str) -> None:
    """Every name and option is one that the command has."""
    words = line.split()[1:]
    context = click.Context(main)
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_the_page_tells_of_every_command() -> None:
    group = main.get_command(click.Context(main), "dead")
    assert isinstance(group, click.Group)
    assert {line.split()[2] for line in typed() if line.startswith("decoupled dead")} == set(group.commands)


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    assert f"at most {limits.MAX_PEEKED:,} messages" in PAGE
    assert HIDDEN_S == 5 * 60
    assert f'"{PURGED}"' in PAGE
    assert limits.BACKOFF_CAP_S == 15 * 60
    assert re.search(rf"of the \[{limits.MAX_RECEIVE_COUNT:,}\s+receives\]", PAGE)


def allowed() -> dict[str, set[str]]:
    (block,) = re.findall(r"^```json\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    grants: dict[str, set[str]] = {}
    for statement in json.loads(block)["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        targets = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        for target in targets:
            grants.setdefault(target, set()).update(actions)
    return grants


def test_the_policy_allows_what_the_tools_do_and_nothing_else(moto_engine: engines.AwsEngine) -> None:
    calls: engines.Calls = []

    def recorded(service: str, **_: Any) -> Any:
        made = client(service)
        engines.record_calls(made, calls)
        return made

    for _ in range(3):
        bury(moto_engine)
    let_sqs_move(moto_engine, message())
    moto_engine.calls.clear()
    tool = letters_of(moto_engine)
    exported = list(tool.find(Wanted(), bodies=True))
    tool.redrive(exported[2:])
    tool.purge(exported[:1])
    edited = msgspec.structs.replace(exported[0], edits=(Edit(1, "ana@desk", "{}"),))
    tool.restore([edited])
    tool.purge([edited])
    tool.close()
    outputs = {
        "QueueUrl": moto_engine.queue_url,
        "DeadLetterQueueUrl": moto_engine.dead_letter_queue_url,
        "TableName": moto_engine.table_name,
    }
    AwsStats("shop", outputs, recorded).look()
    cloudformation = recorded("cloudformation")
    described = {"StackName": "shop", "CreationTime": datetime.now(UTC), "StackStatus": "CREATE_COMPLETE"}
    described["Outputs"] = [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()]
    with mock.patch.object(aws_stack, "client", return_value=cloudformation), Stubber(cloudformation) as stub:
        stub.add_response("describe_stacks", {"Stacks": [described]})
        assert aws_stack.outputs("shop") == outputs

    names = {
        moto_engine.queue_url: "QUEUE-ARN",
        moto_engine.dead_letter_queue_url: "DEAD-LETTER-QUEUE-ARN",
        moto_engine.table_name: "TABLE-ARN",
    }
    needed: dict[str, set[str]] = {}
    for service, operation, parameters in [*moto_engine.calls, *calls]:
        target = names.get(parameters.get("QueueUrl") or parameters.get("TableName", ""), "*")
        if "IndexName" in parameters:
            target += f"/index/{parameters['IndexName']}"
        if service == "cloudformation":
            target = "arn:aws:cloudformation:REGION:ACCOUNT:stack/STACK/*"
        needed.setdefault(target, set()).add(f"{service}:{ACTIONS.get(operation, operation)}")
    grants = allowed()
    for name in ("QUEUE-ARN", "DEAD-LETTER-QUEUE-ARN"):  # the FIFO queues are asked what these are
        assert grants.pop(f"ORDERED-{name}") == grants[name]
    of_workloads = grants.pop("arn:aws:sqs:REGION:ACCOUNT:STACK-OwnQueue*")  # and these, what the shared one is
    assert of_workloads == grants["QUEUE-ARN"]
    assert needed == grants
