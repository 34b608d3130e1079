"""A stack that goes from release to release, in MiniStack: little by little, back by an alarm, on after the deployer
died, back by hand. The tests of this file run in order and share one stack."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from decoupled.engines.aws.stack import tool_client
from tests.support.deployed import Stack, deployed
from tests.support.server import DECOUPLED, wait_for

STRUCT, BOUNDED = "from msgspec import Struct", "from typing import Annotated\n\nfrom msgspec import Meta, Struct"
CANARY = ("--shift", "canary:25:60s")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with deployed(tmp_path_factory.mktemp("releases")) as made:
        yield made


def physical(logical: str) -> str:
    found = tool_client("cloudformation").describe_stack_resource(StackName="boxes", LogicalResourceId=logical)
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


def alias(function: str) -> Any:
    return tool_client("lambda").get_alias(FunctionName=physical(function), Name="live")


def live(function: str) -> str:
    """The setting that distinguishes the releases here, of the version that serves."""
    version = alias(function)["FunctionVersion"]
    found = tool_client("lambda").get_function_configuration(FunctionName=physical(function), Qualifier=version)
    return str(found["Environment"]["Variables"]["MAX_ATTEMPTS" if function == "Processor" else "RELEASE"])


def weights() -> dict[str, float]:
    """The versions of the receiver that take a part of the requests beside the one that serves."""
    found: dict[str, float] = alias("Receiver").get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    return found


def set_alarm(state: str) -> None:
    name = physical("ServerErrorsAlarm")
    tool_client("cloudwatch").set_alarm_state(AlarmName=name, StateValue=state, StateReason="by hand")


def begun(stack: Stack, *arguments: str) -> subprocess.Popen[str]:
    """A deployment that goes on."""
    return subprocess.Popen(
        [DECOUPLED, "deploy", "boxes", *arguments],
        env=stack.environment,
        cwd=stack.project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def shifts(deployment: subprocess.Popen[str]) -> None:
    """Waits until a part of the requests goes to the new release."""
    wait_for(lambda: weights() or deployment.poll() is not None, seconds=200)
    assert weights(), deployment.communicate(timeout=30)[0]


def test_each_function_is_called_by_an_alias_of_a_version(stack: Stack) -> None:
    for function in ("Receiver", "Processor", "Status"):
        assert alias(function)["FunctionVersion"].isdigit()
        assert live(function)
    mappings = tool_client("lambda").list_event_source_mappings()["EventSourceMappings"]
    assert {mapping["FunctionArn"] for mapping in mappings} == {alias("Processor")["AliasArn"]}
    assert stack.post(1).status_code == 202


def test_an_alarm_in_a_canary_takes_the_release_back(stack: Stack) -> None:
    before = {function: alias(function)["FunctionVersion"] for function in ("Receiver", "Processor", "Status")}
    deployment = begun(stack, "MaxAttempts=2", *CANARY)
    shifts(deployment)
    assert weights() == {before["Receiver"]: 0.75}
    assert live("Processor") == "2"  # the back is all there before the front begins
    assert stack.post(1).status_code == 202
    set_alarm("ALARM")
    printed, _ = deployment.communicate(timeout=400)
    assert deployment.returncode == 1
    assert "ServerErrorsAlarm sounds" in printed
    assert "went back from" in printed
    assert {function: alias(function)["FunctionVersion"] for function in before} == before
    assert (weights(), live("Processor")) == ({}, "1")
    assert stack.post(1).status_code == 202
    set_alarm("OK")


def test_a_shift_whose_deployer_died_is_told_of_and_goes_on(stack: Stack) -> None:
    deployment = begun(stack, "MaxAttempts=3", *CANARY)
    shifts(deployment)
    deployment.send_signal(signal.SIGKILL)
    deployment.communicate(timeout=30)
    assert "takes 25 % of the requests" in " ".join(stack.run("status", "--stack", "boxes").split())
    printed = stack.deploy("MaxAttempts=3")
    assert "A shift was under way" in printed
    assert "It goes on" in printed
    assert (weights(), live("Processor")) == ({}, "3")
    assert "of the requests" not in stack.run("status", "--stack", "boxes")


def test_one_command_goes_back_and_messages_are_processed_by_the_release_before(stack: Stack) -> None:
    printed = stack.run("rollback", "boxes")
    assert "== Back to" in printed, printed
    assert live("Processor") == "1"
    accepted = stack.post(7)
    assert accepted.status_code == 202
    shown = accepted.json()["id"]
    wait_for(lambda: stack.ask(shown)[1]["status"] == "processed", seconds=60)
    assert "has no release before this one" in stack.run("rollback", "boxes")


def test_after_going_back_the_same_sources_are_a_new_release(stack: Stack) -> None:
    """The parameters that the stack still has are those of the release that was taken back."""
    stack.deploy()
    assert live("Processor") == "3"


def test_messages_that_would_not_be_understood_are_told_and_not_deployed_over(stack: Stack) -> None:
    poison = stack.post(13).json()["id"].partition(".")[0]
    letters = ("dead", "list", "--stack", "boxes", "--json")
    wait_for(lambda: poison in stack.run(*letters), seconds=120)
    sources = stack.project / "boxes.py"
    before = sources.read_text()
    assert "would be understood here" in stack.run("check", "--against", "boxes")
    sources.write_text(before.replace("weight: int", "weight: Annotated[int, Meta(le=10)]").replace(STRUCT, BOUNDED))
    told = stack.run("check", "--against", "boxes")
    assert "boxes  /weight  le is 10 now" in told
    assert f"boxes  /weight  Expected `int` <= 10: dead letter {poison}" in told
    assert "2 differences would break messages that were accepted" in told
    refused = stack.deploy()
    assert "le is 10 now" in refused
    assert "--accept-breaks deploys all the same" in refused
    assert "== Build" not in refused
    sources.write_text(before)


def test_a_change_that_fails_leaves_what_served(stack: Stack) -> None:
    before = {function: alias(function)["FunctionVersion"] for function in ("Receiver", "Processor", "Status")}
    cloudformation = tool_client("cloudformation")
    described = cloudformation.describe_stacks(StackName="boxes")["Stacks"][0]
    changed = {"CodeKey": "boxes/there-is-no-such.zip", "MaxAttempts": "4"}
    cloudformation.update_stack(
        StackName="boxes",
        UsePreviousTemplate=True,
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[
            {"ParameterKey": p["ParameterKey"], "ParameterValue": changed[p["ParameterKey"]]}
            if p["ParameterKey"] in changed
            else {"ParameterKey": p["ParameterKey"], "UsePreviousValue": True}
            for p in described["Parameters"]
        ],
    )

    def ended() -> bool:
        status = cloudformation.describe_stacks(StackName="boxes")["Stacks"][0]["StackStatus"]
        return bool(status == "UPDATE_ROLLBACK_COMPLETE")

    wait_for(ended, seconds=60)
    assert {function: alias(function)["FunctionVersion"] for function in before} == before
    assert live("Processor") == "3"
    assert stack.post(1).status_code == 202
