"""The functions of a stack on moto, behind a gateway: what a client of it sees, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import functions.processor
import functions.receiver
import functions.status
from decoupled.core.signed_ids import keys_of, new_key
from decoupled.core.times import now_ms
from decoupled.core.workload import Workloads, listed
from decoupled.engines.aws.table import DynamoTable
from decoupled.pipeline.issued import Issued
from decoupled.pipeline.settlement import Policy
from tests.support import api_gateway, events
from tests.support.engines import AwsEngine


@contextmanager
def serving(engine: AwsEngine, workloads: Workloads) -> Iterator[str]:
    """Where they listen. Ids are signed. The processor takes a batch after each request."""
    queue, issued = engine.queue, Issued(keys_of(new_key(now_ms(), bytes(32))))
    table = DynamoTable(engine.dynamodb, engine.table_name, listed=listed(workloads), shown=issued.shown)

    def receive(event: Any, context: Any) -> Any:
        response = functions.receiver.handler(event, context)
        if deliveries := queue.receive(10, 60):
            batch = [events.sqs_record(each.message, each.receive_count, each.receipt) for each in deliveries]
            assert functions.processor.handler(events.sqs_event(batch), api_gateway.Context()) == {
                "batchItemFailures": []
            }
            queue.delete(deliveries)
        return response

    with (
        mock.patch.object(functions.receiver, "connect", return_value=(queue, workloads, issued)),
        mock.patch.object(functions.receiver, "table", return_value=table),
        mock.patch.object(functions.status, "connect", return_value=(table, workloads, issued)),
        mock.patch.object(functions.processor, "connect", return_value=(queue, table, workloads, Policy(5))),
        api_gateway.serving(receive, functions.status.handler) as url,
    ):
        yield url
