"""The stack against published rules of others: checkov's, AWS's registry of CloudFormation Guard rules, and AWS Control
Tower's proactive controls. They are asked of what an account would make (`tests/support/resolved.py`), since they run
no loops and decide no conditions: with the defaults, and with everything on that makes it safer and dearer."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import resolved, template
from tests.support.stacks import EVERYTHING, STACKS

ROOT = template.PATH.parent.parent
PACKAGE = ROOT / "build/guard/node_modules/@cdklabs/cdk-validator-cfnguard"  # of `make guard`
REGISTRY = ROOT / "tests/support/guard/registry.guard"

# Rules that the stack does not keep, each with why. Those that a parameter sees to hold where everything is on.
BY_PARAMETER = {
    "SQS_QUEUE_KMS_MASTER_KEY_ID_RULE": "SQS encrypts with its own key; CustomerKey=yes uses KMS",
    "CLOUDWATCH_LOG_GROUP_ENCRYPTED": "CloudWatch encrypts with its own key; CustomerKey=yes uses KMS",
    "cloudwatch_log_group_encrypted_check": "as the one before",
    "DYNAMODB_TABLE_ENCRYPTED_KMS": "DynamoDB encrypts every table with its own key; CustomerKey=yes uses KMS",
    "DYNAMODB_TABLE_MUST_BE_ENCRYPTED": "as the one before: SSEEnabled chooses KMS, not whether it is encrypted",
    "dynamodb_table_encrypted_kms_check": "as the one before",
    "CKV_AWS_27": "as SQS_QUEUE_KMS_MASTER_KEY_ID_RULE",
    "CKV_AWS_119": "as DYNAMODB_TABLE_ENCRYPTED_KMS",
    "CKV_AWS_158": "as CLOUDWATCH_LOG_GROUP_ENCRYPTED",
    "LAMBDA_INSIDE_VPC": "the functions reach only AWS's endpoints; SubnetIds puts them into a VPC for what is in it",
    "lambda_inside_vpc_check": "as the one before",
    "cloudwatch_alarm_action_check": "alarms act where there is somebody to tell: AlarmEmail",
    "cloudwatch_log_group_retention_period_check": "a year is asked for; LogRetentionDays has it, 30 days cost less",
}
NEVER = {
    "IAM_NO_INLINE_POLICY_CHECK": "each role is one function's, and goes with it; a managed policy is for several",
    "IAM_POLICYDOCUMENT_NO_WILDCARD_RESOURCE": "X-Ray knows no resources, nor do interfaces that are not made yet",
    "LAMBDA_CONCURRENCY_CHECK": "reserved, it would be taken from the account's pool, of which a new account has ten",
    "LAMBDA_DLQ_CHECK": "DeadLetterConfig is for asynchronous invokes, which these functions never get",
    "kms_create_grant_aws_service_check": "the key's policy lets the account decide, as AWS's own default policy does",
    "sqs_dlq_check": "dead-letter queues have no dead-letter queue",
}


def violations(rules: Path, stack: Mapping[str, Any], tmp_path: Path) -> tuple[dict[str, set[str]], int]:
    """The resources that each rule finds fault with, and how many rules found what they ask."""
    (tmp_path / "stack.json").write_text(json.dumps(stack))
    system = "macos" if sys.platform == "darwin" else "ubuntu"
    machine = "aarch64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    command: list[str | Path] = [PACKAGE / "bin" / system / machine / "cfn-guard", "validate", "--rules", rules]
    command += ["--data", tmp_path / "stack.json", "--structured", "--output-format", "json", "--show-summary", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 19), done.stderr  # 19: a rule does not hold
    (report,) = json.loads(done.stdout)
    found = {
        rule["Rule"]["name"]: set(re.findall(r"/Resources/(\w+)", json.dumps(rule))) for rule in report["not_compliant"]
    }
    return found, len(report["compliant"])


@pytest.fixture(params=["registry", "control tower"])
def rules(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with rules."""
    if not PACKAGE.exists():
        pytest.skip("`make guard` found no npm, and so there is no CloudFormation Guard here")
    if request.param == "control tower":
        return PACKAGE / "rules/control-tower/cfn-guard"
    (tmp_path / "rules").mkdir()
    for number, text in enumerate(REGISTRY.read_text().split("\n# File: ")[1:]):
        name, _, rule = text.partition("\n")
        (tmp_path / "rules" / f"{number}-{Path(name).name}").write_text(rule)
    return tmp_path / "rules"


@pytest.mark.parametrize("parameters", STACKS)
def test_guard_finds_only_what_has_a_reason(rules: Path, parameters: str, tmp_path: Path) -> None:
    found, kept = violations(rules, resolved.stack(STACKS[parameters]), tmp_path)
    excused = NEVER if STACKS[parameters] is EVERYTHING else NEVER | BY_PARAMETER
    assert {name: which for name, which in found.items() if name not in excused} == {}
    assert kept >= 8


def test_guard_finds_what_is_wrong(rules: Path, tmp_path: Path) -> None:
    stack = resolved.stack(EVERYTHING)
    del stack["Resources"]["Table"]["Properties"]["PointInTimeRecoverySpecification"]
    found, _ = violations(rules, stack, tmp_path)
    assert [which for name, which in found.items() if "pitr" in name.lower()] == [{"Table"}]


def test_no_excuse_is_for_more_than_it_says(rules: Path, tmp_path: Path) -> None:
    stack = resolved.stack(EVERYTHING)
    found, _ = violations(rules, stack, tmp_path)
    queues = {name for name, it in stack["Resources"].items() if it["Type"] == "AWS::SQS::Queue"}
    assert found.get("sqs_dlq_check", set()) <= {name for name in queues if name.endswith("DeadLetterQueue")}
    for name in found.get("IAM_POLICYDOCUMENT_NO_WILDCARD_RESOURCE", ()):
        (policy,) = stack["Resources"][name]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Resource"] == "*":
                assert statement["Sid"] in ("Trace", "Network")
                assert {action.partition(":")[0] for action in statement["Action"]} == {
                    "Trace": {"xray"},
                    "Network": {"ec2"},
                }[statement["Sid"]]


@pytest.mark.parametrize("parameters", STACKS)
def test_checkov_finds_nothing_and_each_suppression_has_a_reason(parameters: str, tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(json.dumps(resolved.stack(STACKS[parameters])))
    done = subprocess.run(
        [
            ROOT / ".venv-checkov/bin/python",  # the script's own first line breaks at a space in the path
            ROOT / ".venv-checkov/bin/checkov",
            "--framework=cloudformation",
            "--skip-download",
            "--output=json",
            "-f",
            tmp_path / "stack.json",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LOG_LEVEL": "ERROR"},
    )
    report = json.loads(done.stdout)
    excused = set() if STACKS[parameters] is EVERYTHING else BY_PARAMETER.keys()
    failed = [(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]]
    assert [failure for failure in failed if failure[0] not in excused] == []
    assert report["summary"]["passed"] >= 30
    for check in report["results"]["skipped_checks"]:
        assert len(check["check_result"]["suppress_comment"].split()) > 5, check["check_id"]
