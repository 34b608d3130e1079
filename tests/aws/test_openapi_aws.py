"""What the document says of a stack on AWS, held to the functions themselves, behind a gateway that makes events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import functions.processor
import functions.receiver
import functions.status
from decoupled.core import limits
from decoupled.core.workload import listed
from decoupled.engines.aws.table import DynamoTable
from decoupled.pipeline import receiver
from decoupled.pipeline.loading import load
from decoupled.pipeline.openapi import document
from decoupled.pipeline.settlement import Policy
from tests.support import api_gateway, api_tools, events
from tests.support.engines import AwsEngine
from tests.support.server import TRIAL

SEATS = str(TRIAL / "workloads/seats.py")
WORKLOADS = load(["readings", SEATS, f"{SEATS}:RELEASES"])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A thousand schedules take moto longer than a client waits."""
    monkeypatch.setattr(limits, "MAX_BATCH_ENTRIES", 25)
    receiver._batch_decoder.cache_clear()
    yield
    receiver._batch_decoder.cache_clear()


@pytest.fixture
def url(moto_engine: AwsEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A stack of functions on moto, whose processor takes a batch after each request."""
    queue = moto_engine.queue
    table = DynamoTable(moto_engine.dynamodb, moto_engine.table_name, listed=listed(WORKLOADS))
    monkeypatch.setattr(functions.receiver, "connect", lambda: (queue, WORKLOADS))
    monkeypatch.setattr(functions.status, "connect", lambda: (table, WORKLOADS))
    monkeypatch.setattr(functions.processor, "connect", lambda: (queue, table, WORKLOADS, Policy(5)))

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 30_000

    def receive(event: Any, context: Any) -> Any:
        response = functions.receiver.handler(event, context)
        if deliveries := queue.receive(10, 60):
            batch = [events.sqs_record(each.message, each.receive_count, each.receipt) for each in deliveries]
            assert functions.processor.handler(events.sqs_event(batch), Context()) == {"batchItemFailures": []}
            queue.delete(deliveries)
        return response

    with api_gateway.serving(receive, functions.status.handler) as url:
        yield url


def test_the_functions_do_what_the_document_says(url: str, tmp_path: Path) -> None:
    made = document(WORKLOADS, url, "NONE")
    api_tools.validate(made, tmp_path)
    # What is no route, the gateway answers with 404 and not with 405; and a message that is due later is in no table.
    unlike_a_server = ("unsupported_method", "allow_header_conformance", "ensure_resource_availability")
    assert "Tested: 8\n" in api_tools.conforms(made, url, tmp_path, 8, "--exclude-checks", ",".join(unlike_a_server))
