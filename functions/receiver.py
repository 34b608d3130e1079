"""API Gateway → **receiver** → SQS. Answers `POST /{workload}` once what it accepts is queued; touches nothing else."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from decoupled.core.workload import Workloads
from decoupled.engines.protocols import Producer
from decoupled.pipeline.call import Event, EventResponse, answered
from decoupled.pipeline.loading import load
from decoupled.pipeline.receiver import receive

ROOT = Path(__file__).parents[1]  # of the zip, which has the user's modules too


def handler(event: Event, _context: object) -> EventResponse:
    """Lambda's entry point, behind the route `POST /{workload}`."""
    queue, workloads = connect()
    return answered(event, lambda call: receive(call, queue, workloads))


@functools.cache
def connect() -> tuple[Producer, Workloads]:
    """What the function's environment names."""
    from decoupled.engines.aws.messages import queues_of

    workloads = load(os.environ["WORKLOADS"].split(","), ROOT)
    return queues_of(os.environ, workloads), workloads


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    connect()  # while Lambda lends a start-up a whole CPU
