"""API Gateway → **receiver** → SQS. Answers `POST /{workload}` once what it accepts is queued; touches nothing else.
Only for a client that prefers to wait, it then reads the record."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decoupled.core.semconv import MESSAGING_SYSTEM_SQS
from decoupled.core.workload import Unavailable, Workloads
from decoupled.engines.protocols import Producer, Table
from decoupled.pipeline.call import Event, EventResponse, answered, connected
from decoupled.pipeline.issued import Issued
from decoupled.pipeline.loading import load
from decoupled.pipeline.waiting import Waiting, receive
from decoupled.telemetry import process as telemetry
from decoupled.telemetry.functions import answering

if TYPE_CHECKING:
    from decoupled.engines.aws.measuring import Measuring
    from decoupled.engines.aws.unmeasured import Unmeasured

ROOT = Path(__file__).parents[1]  # of the zip, which has the user's modules too


def handler(event: Event, context: Any) -> EventResponse:
    """Lambda's entry point, behind the route `POST /{workload}`."""
    waiting = Waiting(lambda: context.get_remaining_time_in_millis() / 1000)
    return connected(connect, lambda parts: _answer(event, waiting, *parts))


def _answer(event: Event, waiting: Waiting, queue: Producer, workloads: Workloads, issued: Issued) -> EventResponse:
    return measuring().taken(
        queue,
        lambda producer: answering(
            event,
            producer,
            lambda to: answered(event, lambda call: receive(call, to, workloads, issued, table, waiting)),
        ),
    )


@functools.cache
def connect() -> tuple[Producer, Workloads, Issued]:
    """What the function's environment names, and the stack's secret says."""
    from decoupled.engines.aws.queues import queues_of
    from decoupled.engines.aws.secret import RECEIVERS, Secret

    secret = Secret.from_environment(os.environ, RECEIVERS)
    telemetry.start("receiver", MESSAGING_SYSTEM_SQS)
    workloads = load(os.environ["WORKLOADS"].split(","), ROOT)
    return queues_of(os.environ, workloads), workloads, Issued(secret)


@functools.cache
def table() -> Table:
    """For the first client that prefers to wait. It is read again and again, so that no call is tried twice."""
    from decoupled.engines.aws.client import client
    from decoupled.engines.aws.table import DynamoTable

    return DynamoTable(client("dynamodb", attempts=1), os.environ["TABLE_NAME"])


@functools.cache
def measuring() -> Measuring | Unmeasured:
    """What measures, if the stack asks for it."""
    from decoupled.engines.aws.unmeasured import measuring_of

    return measuring_of(os.environ, connect()[1])


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    with contextlib.suppress(Unavailable):  # told in the log; the first request tries again
        connect()  # while Lambda lends a start-up a whole CPU
        measuring()
