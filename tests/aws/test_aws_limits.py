"""What AWS refuses and no emulator or linter does: limits on sums and products of what the template says. Each names
the page, or botocore's model, that has it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support import resolved, template
from tests.support.stacks import STACKS


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """The resources of a stack with the defaults, and of one with everything on."""
    resources: dict[str, dict[str, Any]] = resolved.stack(STACKS[request.param])["Resources"]
    return resources


def of_type(stack: dict[str, dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    found = {name: it["Properties"] for name, it in stack.items() if it["Type"] == kind}
    assert found
    return found


def test_an_alarm_looks_back_a_day_at_most_or_a_week_with_periods_of_an_hour(stack: dict[str, dict[str, Any]]) -> None:
    # botocore, cloudwatch, PutMetricAlarm.
    for name, alarm in of_type(stack, "AWS::CloudWatch::Alarm").items():
        span_s = alarm["Period"] * alarm["EvaluationPeriods"]
        assert span_s <= (604_800 if alarm["Period"] >= 3600 else 86_400), name
        assert 1 <= alarm.get("DatapointsToAlarm", 1) <= alarm["EvaluationPeriods"], name
        assert alarm["Period"] % 60 == 0, name
        assert len(alarm["AlarmDescription"]) <= 1024, name


def test_a_functions_environment_has_4_kb_and_names_that_are_free(stack: dict[str, dict[str, Any]]) -> None:
    # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html, and configuration-envvars.html.
    for name, function in of_type(stack, "AWS::Lambda::Function").items():
        variables = function["Environment"]["Variables"]
        assert sum(len(key) + len(str(value)) for key, value in variables.items()) <= 4096 - 1024, (
            name
        )  # room for names
        for key in variables:
            assert re.fullmatch("[A-Za-z][A-Za-z0-9_]+", key), key
            assert not key.startswith(("AWS_", "LAMBDA_", "_")), key
        assert len(function["Description"]) <= 256, name


def test_the_inline_policies_of_a_role_have_10240_characters(stack: dict[str, dict[str, Any]]) -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: white space does not count.
    for name, role in of_type(stack, "AWS::IAM::Role").items():
        size = sum(len(json.dumps(policy["PolicyDocument"], separators=(",", ":"))) for policy in role["Policies"])
        assert size <= 10_240, name


def test_sids_have_letters_and_digits_and_each_once(stack: dict[str, dict[str, Any]]) -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_sid.html
    for name, role in of_type(stack, "AWS::IAM::Role").items():
        for policy in role["Policies"]:
            sids = [statement["Sid"] for statement in policy["PolicyDocument"]["Statement"] if "Sid" in statement]
            assert len(sids) == len(set(sids)), name
            assert all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids), name


def test_no_queue_is_told_what_sqs_refuses(stack: dict[str, dict[str, Any]]) -> None:
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
    for name, queue in of_type(stack, "AWS::SQS::Queue").items():
        assert 60 <= queue["MessageRetentionPeriod"] <= 1_209_600, name
        assert 0 <= queue["VisibilityTimeout"] <= 43_200, name
        assert 1 <= queue.get("RedrivePolicy", {}).get("maxReceiveCount", 1) <= 1000, name
        assert not (queue.get("SqsManagedSseEnabled") and queue.get("KmsMasterKeyId")), name
        assert queue.get("FifoQueue", True) is True, name  # false is refused: a standard queue leaves it out


def test_the_stack_is_within_cloudformations_quotas(stack: dict[str, dict[str, Any]]) -> None:
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
    loaded = template.load()
    assert len(stack) <= 500
    assert len(loaded["Parameters"]) <= 200
    assert len(loaded["Outputs"]) <= 200
    assert len(loaded["Mappings"]) <= 200
    assert len(loaded["Description"].encode()) <= 1024
    for name, parameter in loaded["Parameters"].items():
        assert len(parameter["Description"]) <= 4000, name
    for name, output in loaded["Outputs"].items():
        assert len(output["Description"].encode()) <= 1024, name
    assert all(re.fullmatch("[A-Za-z0-9]{1,255}", name) for name in stack)
