"""DynamoDB → **status** → API Gateway. Answers what became of a message, and shows items that may be read."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decoupled.core.workload import Unavailable, Workloads
from decoupled.engines.protocols import Table
from decoupled.pipeline.call import Event, EventResponse, answered, connected
from decoupled.pipeline.issued import Issued
from decoupled.pipeline.loading import load
from decoupled.pipeline.waiting import Waiting, read

if TYPE_CHECKING:
    from decoupled.engines.aws.measuring import Measuring
    from decoupled.engines.aws.unmeasured import Unmeasured

ROOT = Path(__file__).parents[1]  # of the zip, which has the user's modules too


def handler(event: Event, context: Any) -> EventResponse:
    """Lambda's entry point, behind `GET /{workload}/{id}` and `GET /{workload}/{collection}/{key}`."""
    waiting = Waiting(lambda: context.get_remaining_time_in_millis() / 1000)
    return connected(connect, lambda parts: _answer(event, waiting, *parts))


def _answer(event: Event, waiting: Waiting, table: Table, workloads: Workloads, issued: Issued) -> EventResponse:
    return measuring().answered(
        lambda: answered(event, lambda call: read(call, table, workloads, issued, waiting), operators())
    )


@functools.cache
def connect() -> tuple[Table, Workloads, Issued]:
    """What the function's environment names, and the stack's secret says."""
    from decoupled.engines.aws.secret import Secret
    from decoupled.engines.aws.table import DynamoTable

    table, workloads = DynamoTable.from_environment(os.environ), load(os.environ["WORKLOADS"].split(","), ROOT)
    days = int(os.environ.get("RECORD_TTL_DAYS", "0"))
    return table, workloads, Issued(Secret.from_environment(os.environ), days)


@functools.cache
def operators() -> frozenset[str]:
    """Callers that read everybody's records and items."""
    return frozenset(os.environ.get("OPERATORS", "").split(",")) - {""}


@functools.cache
def measuring() -> Measuring | Unmeasured:
    """What measures, if the stack asks for it."""
    from decoupled.engines.aws.unmeasured import measuring_of

    return measuring_of(os.environ, connect()[1])


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    with contextlib.suppress(Unavailable):  # told in the log; the first request tries again
        connect()  # while Lambda lends a start-up a whole CPU
        measuring()
