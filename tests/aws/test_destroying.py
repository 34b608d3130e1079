"""What keeps nobody from destroying a stack. CloudFormation is played, SQS and S3 are moto's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import moto
import pytest
from click.testing import CliRunner

from decoupled.cli.destroy import destroy
from decoupled.engines.aws import deployment, kept, stack_events, stack_states, take_back
from decoupled.engines.aws.kept import QUEUE, Kept
from tests.support import ministack

STACK = {
    "StackId": "the-stack",
    "StackStatus": "UPDATE_COMPLETE",
    "Parameters": [{"ParameterKey": "CodeBucket", "ParameterValue": "nobody-has-this"}],
}


@pytest.fixture
def destroyed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    done: list[str] = []
    gone = [Kept("Queue", QUEUE, "https://sqs.us-east-1.amazonaws.com/123456789012/gone")]
    monkeypatch.setattr(stack_states, "at_rest", lambda *_: STACK)
    monkeypatch.setattr(kept, "resources", lambda _: gone)
    monkeypatch.setattr(take_back, "resources", lambda _: gone)
    monkeypatch.setattr(take_back, "described", lambda _: STACK)
    monkeypatch.setattr(deployment, "destroy", lambda stack, _: done.append(stack))
    assert stack_events.parameters(STACK)["CodeBucket"]
    with mock.patch.dict(os.environ, ministack.CREDENTIALS), moto.mock_aws():
        yield done


def test_a_stack_whose_queue_and_bucket_somebody_deleted_is_destroyed_all_the_same(destroyed: list[str]) -> None:
    result = CliRunner().invoke(destroy, ["shop", "--yes"])
    assert result.exit_code == 0, result.output
    assert destroyed == ["shop"]
    assert "gone  (gone)" in result.output
    assert "`deploy` will not find what is kept" in result.output
