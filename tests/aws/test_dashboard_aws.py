"""The page of a stack, by `decoupled dashboard --stack` beside an emulator: what it shows, what it finds, who may
change something; and what the functions log where they measure. The tests of this file share one stack."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from decoupled.core.signed_ids import record_id
from decoupled.engines.aws.stack import tool_client
from decoupled.engines.aws.stats import PART_OF, part_of
from tests.support import ministack, template
from tests.support.contract import wait_for
from tests.support.deployed import Stack, deployed
from tests.support.page import ask, dashboard, post, signed_in


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with deployed(tmp_path_factory.mktemp("deployed"), "Metrics=on") as made:
        yield made


@pytest.fixture(scope="module")
def page(stack: Stack) -> Iterator[Any]:
    with dashboard("--stack", "boxes", environment=stack.environment) as beside:
        beside.cookie = signed_in(beside, code=beside.code)
        yield beside


def change(page: Any, doing: str, body: Any, *headers: str) -> Any:
    return post(page, f"/-/dead/{doing}", body, "content-type: application/json", *headers)


def ended(stack: Stack, shown: str, status: str) -> None:
    wait_for(lambda: stack.ask(shown)[1], until=lambda it: it["status"] == status, seconds=60)


def test_nobody_sees_a_stack_who_has_not_signed_in(page: Any) -> None:
    for path in ("/-/live", "/-/history", "/-/messages", "/-/dead"):
        assert ask(page, path).status == 401


def test_the_whole_is_shown_with_what_the_functions_have_measured(stack: Stack, page: Any) -> None:
    ended(stack, stack.post(1).json()["id"], "processed")
    now = datetime.now(UTC)
    measured = {"accepted": 600.0, "processed": 300.0, "dead": 3.0, "waiting_seconds": 1.5}
    data = [  # as CloudWatch extracts it of the lines, which no emulator does; nor does one tell dimensions from none
        {
            "MetricName": name,
            "Value": value,
            "Dimensions": [{"Name": "Workload", "Value": "boxes"}],
            "Timestamp": now.timestamp() - 120,
        }
        for name, value in measured.items()
    ]
    tool_client("cloudwatch").put_metric_data(Namespace="Decoupled/boxes", MetricData=data)
    live = ask(page, "/-/live", page.cookie).json
    assert (live["system"], live["engine"], live["status"]) == ("stack boxes", "aws", "ok")
    assert live["access"]["change"] is True
    (workload,) = live["workloads"]
    assert (workload["name"], workload["accepted_per_s"], workload["processed_per_s"]) == ("boxes", 2.0, 1.0)
    assert live["overview"]["accepted_per_s"] == 2.0
    assert live["boxes"].keys() == {"clients", "front", "queue", "processor", "table", "dead"}
    history = ask(page, "/-/history?seconds=600", page.cookie).json
    assert (history["step_s"], len(history["times"])) == (60, 10)
    assert [value for value in history["series"]["accepted_per_s"] if value] == [10.0]


def test_an_audit_of_the_stack_finds_nothing_wrong_and_knows_the_ids_that_clients_have(stack: Stack) -> None:
    shown = stack.post(4).json()["id"]
    ended(stack, shown, "processed")
    (stack.project / "ids").write_text(f"{shown}\n")
    report = json.loads(
        stack.run("audit", "--stack", "boxes", "--workloads", "./boxes.py", "--ledger", "ids", "--json")
    )
    assert report["faults"] == []
    assert report["counts"]["processed"] >= 1
    assert "1 ids of the ledger: processed 1" in report["checked"]


def test_a_message_is_found_and_its_story_told(stack: Stack, page: Any) -> None:
    shown = stack.post(2, idempotency_key="cart-8417").json()["id"]
    ended(stack, shown, "processed")
    for asked in (f"id={shown}", "key=cart-8417"):
        (row,) = ask(page, f"/-/messages?{asked}", page.cookie).json["rows"]
        assert (row["id"], row["status"]) == (record_id(shown), "processed")
    story = ask(page, f"/-/messages/{shown}", page.cookie).json
    assert [step["what"] for step in story["steps"]] == ["accepted", "processed"]
    assert story["result"] == {"weight": 2}
    refused = ask(page, "/-/messages?status=processed", page.cookie)
    assert refused.status == 422
    assert "no index" in refused.json["detail"]


def test_dead_letters_are_grouped_dry_run_and_redriven_and_a_visitor_cannot(stack: Stack, page: Any) -> None:
    ids = [stack.post(13).json()["id"] for _ in range(3)]
    for shown in ids:
        ended(stack, shown, "dead")
    (group,) = ask(page, "/-/dead", page.cookie).json["groups"]
    assert (group["count"], group["error_type"], group["workload"]) == (3, "KeyError", "boxes")
    listed = ask(page, "/-/dead/letters", page.cookie).json["letters"]
    assert {letter["id"] for letter in listed} == {*map(record_id, ids)}
    found = ask(page, "/-/messages?status=dead&error=poison&limit=2", page.cookie).json
    assert len(found["rows"]) == 2
    assert found["cursor"]
    which = {"workload": "boxes", "alike": group["alike"]}
    assert change(page, "redrive", {"which": which}).status == 403
    dry = change(page, "redrive", {"which": which, "dry_run": True}, page.cookie).json
    assert (dry["counts"], len(dry["kinds"])) == ({"redriven": 3}, 1)
    done = Counter[str]()
    which["dead_before"] = dry["until"]
    cursor = None
    for _ in range(10):
        changed = change(page, "redrive", {"which": which, "cursor": cursor}, page.cookie).json
        done.update(changed["counts"])
        if (cursor := changed.get("cursor")) is None:
            break
    assert done == {"redriven": 3}
    for shown in ids:  # it is poison still
        ended(stack, shown, "dead")
    one = {"which": {"ids": [ids[0]]}}
    assert change(page, "purge", one, page.cookie).json["counts"] == {"purged": 1}
    assert stack.ask(ids[0])[1]["status"] == "rejected"


def test_read_only_changes_nothing(stack: Stack) -> None:
    with dashboard("--stack", "boxes", "--read-only", environment=stack.environment) as page:
        cookie = signed_in(page, code=page.code)
        assert ask(page, "/-/live", cookie).json["access"]["change"] is False
        assert change(page, "redrive", {"which": {}}, cookie).status == 403


def test_a_stack_that_is_not_there_is_told_at_once(stack: Stack) -> None:
    assert "there is no stack 'nosuch'" in stack.run("dashboard", "--stack", "nosuch", "--port", "0")


def test_each_alarm_of_the_template_colours_a_part_of_the_picture() -> None:
    resources = template.load()["Resources"].items()
    alarms = [name for name, it in resources if it["Type"] == "AWS::CloudWatch::Alarm"]
    assert {"".join(name.partition("Alarm")[:2]) for name in alarms} == PART_OF.keys()
    assert part_of("OwnBacklogAlarmorders-1ABC") == "queue"


def logged(stack: Stack, function: str) -> list[dict[str, Any]]:
    """The lines with metrics of a function's log, as CloudWatch Logs has them: whatever stands before them is none."""

    def ask_for(*arguments: str) -> Any:
        aws: list[str | Path] = [ministack.TOOLS / "python", ministack.TOOLS / "aws", "logs", *arguments]
        done = subprocess.run(aws, env=stack.environment, capture_output=True, timeout=60, check=True)
        return json.loads(done.stdout)

    groups = [group["logGroupName"] for group in ask_for("describe-log-groups")["logGroups"]]
    (group,) = [name for name in groups if f"{function}Log" in name]
    events = ask_for("filter-log-events", "--log-group-name", group)["events"]
    return [json.loads(event["message"]) for event in events if event["message"].startswith('{"_aws"')]


def test_the_functions_log_what_they_measure(stack: Stack) -> None:
    """As Lambda takes it from standard output: a line each, with nothing before it."""
    ended(stack, stack.post(3).json()["id"], "processed")
    assert stack.client.post("/boxes", json={"weight": "heavy"}).status_code == 422
    assert stack.ask("nosuch")[0] == 404
    for function, names in {
        "Receiver": {"accepted", "accept_seconds", "refused"},
        "Status": {"refused"},
        "Processor": {"processed", "waiting_seconds", "processing_seconds"},
    }.items():
        lines = wait_for(partial(logged, stack, function), until=bool, seconds=60)
        found = {metric["Name"] for line in lines for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
        assert names <= found
        assert {line["_aws"]["CloudWatchMetrics"][0]["Namespace"] for line in lines} == {"Decoupled/boxes"}
        assert {line.get("Workload", "boxes") for line in lines} == {"boxes"}
