"""A project with an ordered workload, deployed by `decoupled deploy`: from the request to the record in order, and what
is made for it and kept."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support import ministack
from tests.support.contract import wait_for
from tests.support.server import DECOUPLED

STEPS = """
from msgspec import Struct

from decoupled import Effects, Message, Workload


class Step(Struct):
    group: str
    number: int


def process(step: Step, message: Message) -> Effects:
    if step.number == 3 and "fails" in step.group:
        raise KeyError("poison")
    return Effects({"number": step.number})


WORKLOAD = Workload("steps", Step, process, group=lambda step: step.group, ordered=ORDERED)
"""
GROUPS, EACH = ("a", "b", "fails"), 8


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One file, and what it is called."""
    (tmp_path / "decoupled.toml").write_text('workloads = ["./steps.py"]\n')
    (tmp_path / "steps.py").write_text(STEPS.replace("ORDERED", "True"))
    return tmp_path


def deploy(project: Path, url: str, *parameters: str) -> dict[str, str]:
    done = subprocess.run(
        [DECOUPLED, "deploy", "ordered", "Authorization=NONE", *parameters],
        env=ministack.environment(url),
        cwd=project,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(re.findall(r"^(\w+)\t(.+)$", done.stdout, re.MULTILINE))


def test_an_ordered_workload_is_deployed_with_a_fifo_queue_and_processed_in_order(
    project: Path, ministack_url: str
) -> None:
    outputs = deploy(project, ministack_url, "MaxAttempts=2", "AttemptsSpanSeconds=2")
    assert outputs["OrderedWorkloads"] == "steps"
    assert outputs["OrderedQueueUrl"].endswith(".fifo")
    endpoint = urlsplit(outputs["Endpoint"])  # a name under localhost, which not every resolver knows
    url, headers = f"{ministack_url}{endpoint.path}", {"host": endpoint.netloc}

    def asked(path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{url}{path}", body, {"content-type": "application/json", **headers})
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())

    steps = [{"group": group, "number": number} for number in range(EACH) for group in GROUPS]
    accepted = asked("/steps", json.dumps(steps).encode())["accepted"]
    assert len(accepted) == len(steps)

    def records() -> list[Any]:
        return [asked(entry["status_url"]) for entry in accepted]

    def final() -> list[Any] | None:
        found = records()
        return None if any(record["status"] == "queued" for record in found) else found

    found = wait_for(final, until=lambda found: found is not None, seconds=60) or []
    by_group = {group: [r for r, s in zip(found, steps, strict=True) if s["group"] == group] for group in GROUPS}
    assert [record["status"] for record in by_group["fails"]] == ["processed"] * 3 + ["dead"] + ["processed"] * 4
    for records_ in by_group.values():
        ended = [record.get("processed_at") or record["dead_at"] for record in records_]
        assert ended == sorted(ended)
    (project / "steps.py").write_text(STEPS.replace("ORDERED", "False"))
    kept = deploy(project, ministack_url)
    assert kept["OrderedQueueUrl"] == outputs["OrderedQueueUrl"]  # messages may wait in it
    assert "OrderedQueueUrl" not in deploy(project, ministack_url, "OrderedWorkloads=")
