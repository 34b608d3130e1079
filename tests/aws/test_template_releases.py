"""The template's releases: what is called, what an alias points to, and what moves before what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from botocore.session import Session
from botocore.validate import ParamValidator

from decoupled.core.releases import PARAMETERS
from decoupled.engines.aws import deployment
from decoupled.engines.aws.releases import LAMBDAS, WATCHED, Alarm, as_emulated, rollback_configuration
from tests.support import template


def references(part: Any) -> Iterator[str]:
    """The names that a part of the template refers to."""
    if isinstance(part, list):
        for each in part:
            yield from references(each)
    if isinstance(part, dict):
        yield from (part[name] if name == "Ref" else part[name][0] for name in ("Ref", "Fn::GetAtt") if name in part)
        for each in part.values():
            yield from references(each)


@pytest.mark.parametrize("function", LAMBDAS)
def test_nothing_calls_a_function_but_by_its_alias(function: str) -> None:
    callers = ("AWS::Lambda::EventSourceMapping", "AWS::Lambda::Permission", "AWS::ApiGatewayV2::Integration")
    resources = template.load()["Resources"]
    for name, resource in resources.items():
        if resource["Type"] in callers:
            assert function not in references(resource), name
            assert f"${{{function}." not in json.dumps(resource)


@pytest.mark.parametrize("function", LAMBDAS)
def test_an_alias_points_to_the_version_of_the_release_that_serves(function: str) -> None:
    alias = template.properties(f"{function}Alias")
    assert alias["FunctionVersion"] == {"Fn::GetAtt": [{"Fn::Sub": f"{function}Version${{Release}}"}, "Version"]}
    assert template.properties(f"{function}Versionfirst")["FunctionName"] == {"Ref": function}
    assert template.load()["Resources"][f"{function}Versionfirst"]["Type"] == "AWS::Lambda::Version"


@pytest.mark.parametrize("function", LAMBDAS)
def test_each_release_changes_each_function(function: str) -> None:
    """Lambda publishes no version of a function that is as it was, and CloudFormation takes that for an error."""
    assert template.properties(function)["Environment"]["Variables"]["RELEASE"] == {"Ref": "Release"}


def test_the_back_moves_before_the_front() -> None:
    resources = template.load()["Resources"]
    for front in ("Receiver", "ReceiverAlias"):
        assert {"ProcessorAlias", "StatusAlias"} <= set(resources[front]["DependsOn"])


def test_only_the_front_is_shifted_little_by_little() -> None:
    """A status function that does not know the new key of ids, or a new workload, says 404 of what was accepted."""
    assert [f for f in LAMBDAS if "RoutingConfig" in template.properties(f"{f}Alias")] == ["Receiver"]
    condition, shifted, otherwise = template.properties("ReceiverAlias")["RoutingConfig"]["Fn::If"]
    (weight,) = shifted["AdditionalVersionWeights"]
    assert condition == "TrafficShifts"
    assert weight["FunctionVersion"] == {
        "Fn::GetAtt": [{"Fn::Sub": "ReceiverVersion${ReleaseBefore}"}, "Version"],
    }
    assert weight["FunctionWeight"] == {"Ref": "TrafficBefore"}
    assert otherwise == {"Ref": "AWS::NoValue"}


def test_an_integration_is_changed_when_the_alias_may_be_called() -> None:
    for function in ("Receiver", "Status"):
        resources = template.load()["Resources"]
        assert resources[f"{function}Integration"]["DependsOn"] == f"{function}Permission"
        assert f"${{{function}Alias}}" in template.properties(f"{function}Integration")["IntegrationUri"]["Fn::Sub"]


def test_what_serves_are_parameters_and_outputs() -> None:
    assert set(PARAMETERS) <= set(template.load()["Parameters"])
    for name in PARAMETERS[1:]:
        assert template.load()["Outputs"][name]["Value"] == {"Ref": name}


def test_the_alarms_that_are_watched_are_the_template_s_and_no_more_than_cloudformation_takes() -> None:
    assert {template.load()["Resources"][name]["Type"] for name in WATCHED} == {"AWS::CloudWatch::Alarm"}
    assert len(WATCHED) <= 5


def test_the_emulator_s_template_names_the_versions_that_the_parameters_would() -> None:
    text = as_emulated(template.PATH.read_bytes(), {"Release": "b", "ReleaseBefore": "a"}).decode()
    assert "Version${Release" not in text
    for function in LAMBDAS:
        assert f'"{function}Versionb"' in text
    assert '"ReceiverVersiona"' in text


def test_cloudformation_is_told_what_to_watch_and_for_how_long_and_each_time_anew() -> None:
    arn = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:shop-ServerErrorsAlarm"
    guard = rollback_configuration([Alarm("ServerErrorsAlarm", arn, sounds=False)], 330)
    assert guard == {
        "RollbackTriggers": [{"Arn": arn, "Type": "AWS::CloudWatch::Alarm"}],
        "MonitoringTimeInMinutes": 5,  # and the deployer watches for the 30 seconds that are left
    }
    assert rollback_configuration([], 0) == {"RollbackTriggers": [], "MonitoringTimeInMinutes": 0}
    calls = mock.Mock()
    calls.describe_change_set.return_value = {"Status": "FAILED", "StatusReason": "No updates are to be performed."}
    with (
        mock.patch.object(deployment, "tool_client", return_value=calls),
        mock.patch.object(deployment, "current", return_value={"Parameters": []}),
        mock.patch.object(deployment, "seen_until_now", return_value=set()),
    ):
        deployment.deploy(
            "shop", "https://bucket/template", set(), {}, lambda _event: None, rollback_configuration=guard
        )
    (asked,) = [call.kwargs for call in calls.create_change_set.call_args_list]
    shape = Session().get_service_model("cloudformation").operation_model("CreateChangeSet").input_shape
    assert not ParamValidator().validate(asked, shape).has_errors()
    assert asked["RollbackConfiguration"] == guard
    assert "CAPABILITY_AUTO_EXPAND" in asked["Capabilities"]
