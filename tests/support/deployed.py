"""A project of a user's, deployed into MiniStack and called over HTTP. For tests only."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import httpx

from decoupled.engines.aws.stack import tool_client
from tests.support import ministack
from tests.support.server import DECOUPLED

BOXES = """
from msgspec import Struct

from decoupled import Effects, Message, Workload


class Box(Struct):
    weight: int


def process(box: Box, message: Message) -> Effects:
    if box.weight == 13:
        raise KeyError("poison")
    return Effects({"weight": box.weight})


WORKLOAD = Workload("boxes", Box, process)
"""


@dataclass
class Stack:
    """A stack of its own, in an emulator's account."""

    project: Path
    client: httpx.Client
    environment: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, told: str = "") -> str:
        """What `decoupled` says, which is told this on its standard input."""
        done = subprocess.run(
            [DECOUPLED, *command],
            env=self.environment,
            cwd=self.project,
            input=told,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        return done.stdout + done.stderr

    def deploy(self, *arguments: str) -> str:
        return self.run("deploy", "boxes", *arguments)

    def post(self, weight: int, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post("/boxes", json={"weight": weight}, headers=named)

    def ask(self, shown: str, **headers: str) -> tuple[int, Any]:
        found = self.client.get(f"/boxes/{shown}", headers=headers)
        return found.status_code, found.json()

    def process(self, going: bool) -> None:
        """Stop the processors, or let them go on."""
        found = tool_client("cloudformation").describe_stack_resources(StackName="boxes")["StackResources"]
        mappings = [it["PhysicalResourceId"] for it in found if it["ResourceType"] == "AWS::Lambda::EventSourceMapping"]
        for mapping in mappings:
            tool_client("lambda").update_event_source_mapping(UUID=mapping, Enabled=going)


@contextmanager
def deployed(directory: Path, *parameters: str, also: str = "") -> Iterator[Stack]:
    """The stack `boxes`, which lets anybody in and gives a message one try, with further parameters; it may serve also
    one of our workloads."""
    project = directory / "boxes"
    project.mkdir()
    served = ["./boxes.py", *filter(None, [also])]
    (project / "decoupled.toml").write_text(f"workloads = {json.dumps(served)}\n")
    (project / "boxes.py").write_text(BOXES)
    with ministack.running(directory) as url:
        environment = ministack.environment(url)
        made = Stack(project, httpx.Client(timeout=30), environment)
        printed = made.deploy("Authorization=NONE", "MaxAttempts=1", "AttemptsSpanSeconds=0", *parameters)
        made.outputs = dict(re.findall(r"^(\w+)\t(.+)$", printed.partition("== boxes\n")[2], re.MULTILINE))
        endpoint = urlsplit(made.outputs["Endpoint"])  # a name under localhost, which not every resolver knows
        made.client.base_url = httpx.URL(f"{url}{endpoint.path}")
        made.client.headers["host"] = endpoint.netloc
        aws = {name: environment[name] for name in (*ministack.CREDENTIALS, "AWS_ENDPOINT_URL")}
        with made.client, mock.patch.dict("os.environ", aws):
            yield made
