"""The functions of a stack on moto, behind a gateway: what a client of it sees, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import functions.processor
import functions.receiver
import functions.status
from decoupled.core.workload import Workloads, listed
from decoupled.engines.aws.table import DynamoTable
from decoupled.pipeline.settlement import Policy
from tests.support import api_gateway, events
from tests.support.engines import AwsEngine


class Context:
    """Lambda's, as far as the processor looks."""

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


@contextmanager
def serving(engine: AwsEngine, workloads: Workloads) -> Iterator[str]:
    """Where they listen. The processor takes a batch after each request."""
    queue = engine.queue
    table = DynamoTable(engine.dynamodb, engine.table_name, listed=listed(workloads))

    def receive(event: Any, context: Any) -> Any:
        response = functions.receiver.handler(event, context)
        if deliveries := queue.receive(10, 60):
            batch = [events.sqs_record(each.message, each.receive_count, each.receipt) for each in deliveries]
            assert functions.processor.handler(events.sqs_event(batch), Context()) == {"batchItemFailures": []}
            queue.delete(deliveries)
        return response

    with (
        mock.patch.object(functions.receiver, "connect", return_value=(queue, workloads)),
        mock.patch.object(functions.status, "connect", return_value=(table, workloads)),
        mock.patch.object(functions.processor, "connect", return_value=(queue, table, workloads, Policy(5))),
        api_gateway.serving(receive, functions.status.handler) as url,
    ):
        yield url
