"""What `deploy` does first with a stack in each of CloudFormation's states. CloudFormation is played: most of these
states no emulator gets into."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import moto
import pytest
from botocore.session import Session

from decoupled.engines.aws import deployment, failed_create, kept, stack_events, stack_states, take_back
from decoupled.engines.aws.stack import tool_client
from decoupled.engines.aws.stack_states import MOVES, Move, at_rest, settled
from tests.support import ministack


class Played:
    """A CloudFormation with one stack, which goes from state to state: when it is looked at, or told to act."""

    def __init__(self, *states: str) -> None:
        self.states = [*states]
        self.done: list[str] = []
        self.resources: list[dict[str, Any]] = []

    def describe_stacks(self, **_: Any) -> Any:
        state = self.states[0]
        if state.endswith("_IN_PROGRESS") and len(self.states) > 1:
            self.states.pop(0)
        values = {"Release": "one", "ReleaseBefore": "zero", "MailFrom": "shop@example.com"}
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
        named = {"StackId": "the-stack", "StackName": "shop", "Parameters": given}
        return {"Stacks": [{**named, "StackStatus": state}]}

    def describe_stack_events(self, **_: Any) -> Any:
        failed = {"EventId": str(len(self.done)), "LogicalResourceId": "Queue", "ResourceStatus": "UPDATE_FAILED"}
        failed |= {"ResourceStatusReason": "no rights"}
        return {"StackEvents": [failed | {"Timestamp": datetime.now(UTC)}] if self.done else []}

    def get_paginator(self, call: str) -> Any:
        assert call == "list_stack_resources"
        return self

    def paginate(self, **_: Any) -> Any:
        """As CloudFormation lists them: a hundred at a time."""
        for start in range(0, len(self.resources), 100):
            yield {"StackResourceSummaries": self.resources[start : start + 100]}

    def __getattr__(self, call: str) -> Any:
        def called(StackName: str) -> None:  # noqa: N803  CloudFormation's
            assert StackName == "the-stack"
            self.done.append(call)
            self.states.pop(0)

        return called


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    def playing(*states: str) -> Played:
        played = Played(*states)
        for module in (stack_events, stack_states):
            monkeypatch.setattr(module, "tool_client", lambda _: played)
        monkeypatch.setattr(
            failed_create, "tool_client", lambda name: played if name == "cloudformation" else tool_client(name)
        )
        monkeypatch.setattr(stack_events, "POLL_S", 0.0)
        return played

    return playing


def settle(played: Played) -> tuple[Any, list[str]]:
    said: list[str] = []
    found = settled("shop", said.append)
    return found and found["StackStatus"], said


def test_every_state_that_cloudformation_knows_has_a_move() -> None:
    model = Session().get_service_model("cloudformation")
    assert MOVES.keys() == set(model.shape_for("StackStatus").enum)


@pytest.mark.parametrize("state", [state for state, move in MOVES.items() if move is Move.CHANGE])
def test_a_stack_at_rest_is_changed_as_it_is(play: Any, state: str) -> None:
    played = play(state)
    assert settle(played) == (state, [])
    assert played.done == []


@pytest.mark.parametrize("state", ["REVIEW_IN_PROGRESS", "DELETE_COMPLETE"])
def test_where_there_is_nothing_it_is_made(play: Any, state: str) -> None:
    assert settle(play(state)) == (None, [])


@pytest.mark.parametrize("state", [state for state, move in MOVES.items() if move is Move.WAIT])
def test_the_operation_of_somebody_else_is_waited_for(play: Any, state: str) -> None:
    found, said = settle(play(state, state, "UPDATE_COMPLETE"))
    assert found == "UPDATE_COMPLETE"
    assert said == [f"shop is {state}; another operation is running: waiting for it"]


@pytest.mark.parametrize("state", [state for state, move in MOVES.items() if move is Move.CLEAR])
def test_what_was_never_made_whole_is_deleted_and_made_anew(play: Any, state: str) -> None:
    played = play(state, "DELETE_IN_PROGRESS", "DELETE_COMPLETE")
    assert settle(played)[0] is None
    assert played.done == ["delete_stack"]


def test_an_update_that_stopped_half_way_is_rolled_back(play: Any) -> None:
    played = play("UPDATE_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE")
    assert settle(played)[0] == "UPDATE_ROLLBACK_COMPLETE"
    assert played.done == ["rollback_stack"]


def test_a_rollback_that_failed_is_tried_once_more(play: Any) -> None:
    played = play("UPDATE_ROLLBACK_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE")
    assert settle(played)[0] == "UPDATE_ROLLBACK_COMPLETE"
    assert played.done == ["continue_update_rollback"]


def test_a_rollback_that_fails_again_is_told_with_its_reason_and_what_to_type(play: Any) -> None:
    played = play("UPDATE_ROLLBACK_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED")
    with pytest.raises(ValueError, match=r"Queue: no rights(.|\n)*--stack-name shop --resources-to-skip"):
        settle(played)
    assert played.done == ["continue_update_rollback"]


@pytest.mark.parametrize("state", [state for state, move in MOVES.items() if move is Move.TELL] + ["A_NEW_STATE"])
def test_what_a_person_has_to_decide_is_told(play: Any, state: str) -> None:
    played = play(state)
    with pytest.raises(ValueError, match=f"the stack shop is {state}: "):
        settle(played)
    assert played.done == []


def test_a_stack_that_others_keep_changing_is_not_waited_for_for_ever(play: Any) -> None:
    with pytest.raises(ValueError, match="somebody else"):
        settle(
            play(
                *["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"] * 50,
                "UPDATE_FAILED",
                *["UPDATE_FAILED"] * 50,
            )
        )


def test_whoever_destroys_waits_too_and_destroys_what_came_of_it(play: Any) -> None:
    found = at_rest("shop", lambda _: None) if play("UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED") else None
    assert found is not None
    assert found["StackStatus"] == "UPDATE_ROLLBACK_FAILED"


# --- the table of a create that failed ---------------------------------------------


@pytest.fixture
def dynamodb() -> Iterator[Any]:
    with mock.patch.dict(os.environ, ministack.CREDENTIALS), moto.mock_aws():
        yield tool_client("dynamodb")


@pytest.mark.parametrize("items", [0, 1])
def test_the_protected_table_of_a_failed_create_goes_if_it_is_empty(play: Any, dynamodb: Any, items: int) -> None:
    dynamodb.create_table(
        TableName="shop-Table-1",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        DeletionProtectionEnabled=True,
    )
    for number in range(items):
        dynamodb.put_item(TableName="shop-Table-1", Item={"pk": {"S": str(number)}})
    played = play("ROLLBACK_FAILED", "DELETE_COMPLETE")
    kinds = ("AWS::DynamoDB::Table", "shop-Table-1"), ("AWS::DynamoDB::Table", "gone"), ("AWS::SQS::Queue", "a-queue")
    for kind, name in kinds:
        played.resources.append({"ResourceType": kind, "PhysicalResourceId": name, "ResourceStatus": "DELETE_FAILED"})
    settle(played)
    assert dynamodb.list_tables()["TableNames"] == ["shop-Table-1"] * items
    assert played.done == ["delete_stack"]


# --- what is written down for a later stack -------------------------------------------


class Written:
    """A bucket that knows what was remembered."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def remember(self, _key: str, what: Any) -> None:
        self.records.append(what)


def test_what_a_stack_keeps_is_written_down_and_a_failed_create_keeps_nothing(
    play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, expected in (("CREATE_COMPLETE", 1), ("DELETE_COMPLETE", 0)):
        played, bucket = play("ROLLBACK_COMPLETE"), Written()
        for logical, kind in (("Queue", "AWS::SQS::Queue"), ("ReceiverRole", "AWS::IAM::Role")):
            one = {"LogicalResourceId": logical, "ResourceType": kind, "PhysicalResourceId": "it"}
            played.resources.append({**one, "ResourceStatus": status})
        take_back.remember(bucket, "shop")  # type: ignore[arg-type]
        those = {"parameters": {"MailFrom": "shop@example.com"}, "kept": [["Queue", "AWS::SQS::Queue", "it"]]}
        assert bucket.records == [{**those, "release": "one"}] * expected


def test_what_a_large_stack_keeps_is_found_behind_the_hundredth_resource(play: Any) -> None:
    played = play("UPDATE_COMPLETE")
    for number in range(120):
        one = {"LogicalResourceId": f"Alarm{number}", "ResourceType": "AWS::CloudWatch::Alarm"}
        played.resources.append({**one, "PhysicalResourceId": "it", "ResourceStatus": "CREATE_COMPLETE"})
    for logical, kind in (("Table", "AWS::DynamoDB::Table"), ("ReceiverVersionnew", "AWS::Lambda::Version")):
        one = {"LogicalResourceId": logical, "ResourceType": kind, "PhysicalResourceId": logical}
        played.resources.append({**one, "ResourceStatus": "CREATE_COMPLETE"})
    assert [each.logical for each in kept.resources("shop")] == ["Table"]
    assert deployment.versions("shop", "new") == {"Receiver": "ReceiverVersionnew"}


# --- what is taken back ----------------------------------------------------------------


class Importing:
    """A CloudFormation that a stack is imported into: `states` as they follow, an import for each of `answers`."""

    def __init__(self, states: list[str], *answers: tuple[str, str]) -> None:
        self.states, self.answers = states, [*answers]
        self.done: list[str] = []
        self.imported: list[list[str]] = []

    def describe_stacks(self, **_: Any) -> Any:
        return {"Stacks": [{"StackId": "the-stack", "StackName": "shop", "StackStatus": self.states[0]}]}

    def describe_stack_events(self, **_: Any) -> Any:
        return {"StackEvents": []}

    def create_change_set(self, **asked: Any) -> Any:
        self.imported.append([each["LogicalResourceId"] for each in asked["ResourcesToImport"]])
        return {"StackId": "the-stack"}

    def describe_change_set(self, **_: Any) -> Any:
        status, reason = self.answers.pop(0)
        return {"Status": status, "StatusReason": reason, "ExecutionStatus": "AVAILABLE"}

    def delete_stack(self, **_: Any) -> None:
        self.done.append(f"delete {self.states.pop(0)}")

    def execute_change_set(self, **_: Any) -> None:
        self.done.append("execute")
        self.states.pop(0)


READY = ("CREATE_COMPLETE", "")
LEFT = [
    kept.Kept("Queue", kept.QUEUE, "a-queue", {}),
    kept.Kept("Schedules", kept.GROUP, "a-group", {}),
    kept.Kept("ScheduleRole", kept.ROLE, "a-role", {}),
]


@pytest.fixture
def importing(monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(*args: Any) -> Importing:
        played = Importing(*args)
        for module in (stack_events, take_back):
            monkeypatch.setattr(module, "tool_client", lambda _: played)
        monkeypatch.setattr(stack_events, "POLL_S", 0.0)
        return played

    return made


def test_what_an_import_that_was_rolled_back_did_not_take_is_taken_by_the_next(importing: Any) -> None:
    played = importing(["IMPORT_ROLLBACK_COMPLETE", "DELETE_COMPLETE", "IMPORT_COMPLETE"], READY)
    assert not take_back.is_taken(played.describe_stacks()["Stacks"][0])
    take_back.take_back("shop", LEFT, lambda _: None)
    assert played.done == ["delete IMPORT_ROLLBACK_COMPLETE", "execute"]


def test_a_stack_that_somebody_else_made_meanwhile_is_left_alone(importing: Any) -> None:
    played = importing(["UPDATE_COMPLETE"])
    with pytest.raises(ValueError, match="somebody else has made it; deploy again"):
        take_back.take_back("shop", LEFT, lambda _: None)
    played = importing(["REVIEW_IN_PROGRESS", "IMPORT_COMPLETE"], ("FAILED", "it is another's"))
    monkey = played.describe_change_set

    def meanwhile(**asked: Any) -> Any:
        played.states.pop(0)  # another one's import is done
        return monkey(**asked)

    played.describe_change_set = meanwhile
    with pytest.raises(ValueError, match="it is another's"):
        take_back.take_back("shop", LEFT, lambda _: None)
    assert played.done == []


def test_a_role_stays_with_the_schedules_that_go_by_it(importing: Any) -> None:
    refused = ("FAILED", f"ResourceTypes [{kept.GROUP}] are not supported for Import")
    played = importing(["REVIEW_IN_PROGRESS", "DELETE_COMPLETE", "IMPORT_COMPLETE"], refused, READY)
    take_back.take_back("shop", LEFT, lambda _: None)
    assert played.imported == [["Queue", "Schedules", "ScheduleRole"], ["Queue"]]
