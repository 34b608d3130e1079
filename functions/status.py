"""DynamoDB → **status** → API Gateway. Answers what became of a message, and shows items that may be read."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from decoupled.core.workload import Workloads
from decoupled.engines.protocols import Table
from decoupled.pipeline.call import Event, EventResponse, answered
from decoupled.pipeline.loading import load
from decoupled.pipeline.status import read

ROOT = Path(__file__).parents[1]  # of the zip, which has the user's modules too


def handler(event: Event, _context: object) -> EventResponse:
    """Lambda's entry point, behind `GET /{workload}/{id}` and `GET /{workload}/{collection}/{key}`."""
    table, workloads = connect()
    return answered(event, lambda call: read(call, table, workloads), operators())


@functools.cache
def connect() -> tuple[Table, Workloads]:
    """What the function's environment names."""
    from decoupled.engines.aws.table import DynamoTable

    return DynamoTable.from_environment(os.environ), load(os.environ["WORKLOADS"].split(","), ROOT)


@functools.cache
def operators() -> frozenset[str]:
    """Callers that read everybody's records and items."""
    return frozenset(os.environ.get("OPERATORS", "").split(",")) - {""}


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    connect()  # while Lambda lends a start-up a whole CPU
