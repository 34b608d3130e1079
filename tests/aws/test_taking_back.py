"""A stack's bad days, by the README's commands, on MiniStack: a create that fails and is tried again, and a stack that
is destroyed and made again with all that it had. The tests of this file run in order and share one emulator."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import httpx
import pytest

from decoupled.engines.aws.stack import tool_client
from tests.support import ministack
from tests.support.contract import wait_for
from tests.support.dead_letters import AN_ORDER
from tests.support.deployed import BOXES
from tests.support.server import DECOUPLED, ROOT


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with ministack.running(tmp_path_factory.mktemp("taking-back")) as endpoint:
        made = ministack.environment(endpoint)
        with mock.patch.dict(os.environ, made):
            yield made


def typed(environment: Mapping[str, str], *command: str, cwd: Path = ROOT) -> tuple[int, str]:
    """The status with which it ends, and all that it prints."""
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=400, check=False)
    return done.returncode, done.stdout + done.stderr


class Stack:
    """The stack `shop` as a client sees it."""

    def __init__(self, printed: str, url: str) -> None:
        self.outputs = dict(re.findall(r"^(\w+)\t(.+)$", printed.partition("== shop\n")[2], re.MULTILINE))
        endpoint = urlsplit(self.outputs["Endpoint"])  # a name under localhost, which not every resolver knows
        headers = {"host": endpoint.netloc}
        self.client = httpx.Client(base_url=f"{url}{endpoint.path}", headers=headers, timeout=30)

    def post(self) -> str:
        answer = self.client.post("/orders", content=AN_ORDER, headers={"content-type": "application/json"})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["status_url"])

    def is_processed(self, path: str) -> bool:
        answer = self.client.get(path)
        return answer.status_code == 200 and answer.json()["status"] == "processed"


@dataclass
class Day:
    """What one test leaves to the next."""

    stack: Stack | None = None
    processed: str = ""
    waiting: str = ""


@pytest.fixture(scope="module")
def day() -> Day:
    return Day()


def policy_of(queue: str) -> Any:
    answer = tool_client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])
    return json.loads(answer["Attributes"]["Policy"])


def test_a_create_that_fails_is_told_with_its_reason_and_leaves_nothing(environment: dict[str, str]) -> None:
    missing = "MailFrom={{resolve:ssm:/shop/mail-from}}"
    code, printed = typed(environment, "scripts/deploy.sh", "shop", "Authorization=NONE", "CustomerKey=yes", missing)
    assert code == 1
    told = printed.partition("\nError: ")[2]
    assert re.match(r"the deployment of shop failed \(ROLLBACK_COMPLETE\): \w+: .*/shop/mail-from", told)
    assert "type the same again" in told
    assert tool_client("sqs").list_queues().get("QueueUrls", []) == []
    assert tool_client("dynamodb").list_tables()["TableNames"] == []


def test_the_same_mended_makes_it(environment: dict[str, str], day: Day) -> None:
    parameters = ("Authorization=NONE", "CustomerKey=yes", "MailFrom=shop@example.com", "MaximumConcurrency=3")
    code, printed = typed(environment, "scripts/deploy.sh", "shop", *parameters)
    assert code == 0, printed
    assert "shop is ROLLBACK_COMPLETE; it was never made whole" in printed
    day.stack = stack = Stack(printed, environment["AWS_ENDPOINT_URL"])
    day.processed = stack.post()
    wait_for(lambda: stack.is_processed(day.processed), until=bool, seconds=60)


def test_destroying_keeps_what_waits_and_what_protects_it(environment: dict[str, str], day: Day) -> None:
    assert day.stack is not None
    found = tool_client("cloudformation").describe_stack_resources(StackName="shop")["StackResources"]
    for each in found:
        if each["ResourceType"] == "AWS::Lambda::EventSourceMapping":
            tool_client("lambda").update_event_source_mapping(UUID=each["PhysicalResourceId"], Enabled=False)
    queues = [each["PhysicalResourceId"] for each in found if each["ResourceType"] == "AWS::SQS::Queue"]
    policies = [policy_of(queue) for queue in queues]
    day.waiting = day.stack.post()
    code, printed = typed(environment, "scripts/destroy.sh", "shop", "--yes")
    assert code == 0, printed
    assert "(1 waiting, 0 in flight)" in printed
    assert "`decoupled deploy shop` takes back what it kept" in printed
    assert [policy_of(queue) for queue in queues] == policies
    assert len({json.dumps(policy) for policy in policies}) == len(queues)  # each names its own
    role = next(each["PhysicalResourceId"] for each in found if each["LogicalResourceId"] == "ScheduleRole")
    key = next(each["PhysicalResourceId"] for each in found if each["LogicalResourceId"] == "Key")
    assert tool_client("iam").get_role(RoleName=role)
    assert tool_client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"


def test_the_next_deployment_takes_it_back_with_its_parameters_and_processes_what_waited(
    environment: dict[str, str], day: Day
) -> None:
    code, printed = typed(environment, "scripts/deploy.sh", "shop")
    assert code == 0, printed
    before, now = day.stack, Stack(printed, environment["AWS_ENDPOINT_URL"])
    assert before is not None
    names = ("QueueUrl", "DeadLetterQueueUrl", "TableName", "Authorization")
    assert [now.outputs[name] for name in names] == [before.outputs[name] for name in names]
    assert now.client.get(day.waiting).status_code == 200  # its id is good from the first moment, processed or not
    wait_for(lambda: now.is_processed(day.waiting), until=bool, seconds=60)
    assert now.is_processed(day.processed)
    described = tool_client("cloudformation").describe_stacks(StackName="shop")["Stacks"][0]
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in described["Parameters"]}
    assert (parameters["MaximumConcurrency"], parameters["CustomerKey"]) == ("3", "yes")


def test_what_loads_here_and_not_there_is_found_out_and_the_release_before_serves_again(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A library that this machine has, and the zip has not."""
    (tmp_path / "decoupled.toml").write_text('workloads = ["./boxes.py"]\n')
    (tmp_path / "boxes.py").write_text(BOXES)
    code, printed = typed(environment, str(DECOUPLED), "deploy", "boxes", "Authorization=NONE", cwd=tmp_path)
    assert code == 0, printed
    endpoint = urlsplit(dict(re.findall(r"^(\w+)\t(.+)$", printed, re.MULTILINE))["Endpoint"])
    (tmp_path / "boxes.py").write_text(f"import hypothesis\n{BOXES}")
    code, printed = typed(environment, str(DECOUPLED), "deploy", "boxes", cwd=tmp_path)
    assert code == 1
    told = printed.partition("\nError: ")[2]
    for kind in ("Processor", "Status", "Receiver"):
        assert re.search(rf"^(  )?{kind} \(arn:.* answers .*hypothesis", told.strip(), re.MULTILINE), told
    assert re.search(r"went back from \w+ to \w+$", told.strip())
    url = f"{environment['AWS_ENDPOINT_URL']}{endpoint.path}/boxes"
    assert httpx.post(url, json={"weight": 1}, headers={"host": endpoint.netloc}, timeout=30).status_code == 202


@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize("parameter", ["Workloads=order", "Authorization=JWT", "Authorizaton=NONE"])
def test_what_cannot_work_is_refused_before_anything_is_built(
    environment: dict[str, str], tmp_path: Path, parameter: str, config: bool
) -> None:
    if config:
        (tmp_path / "decoupled.toml").write_text('workloads = ["orders"]\n')
    for stack in ("shop", "another"):
        code, printed = typed(environment, str(DECOUPLED), "deploy", stack, parameter, cwd=tmp_path)
        assert code == 1
        assert "Error: " in printed
        assert "== Build" not in printed
