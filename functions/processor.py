"""SQS → **processor** → DynamoDB. Stores what each message of a batch comes to, and gives back what must come again."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decoupled.core.outcomes import Delivery
from decoupled.core.semconv import MESSAGING_SYSTEM_SQS
from decoupled.core.workload import Unavailable, Workloads, listed
from decoupled.engines.aws.sqs_format import SqsEvent, batch_item_failures, deliveries
from decoupled.engines.protocols import Queue, Table
from decoupled.pipeline.loading import load
from decoupled.pipeline.processor import process
from decoupled.pipeline.settlement import Policy
from decoupled.telemetry import process as telemetry

if TYPE_CHECKING:
    from decoupled.engines.aws.measuring import Measuring
    from decoupled.engines.aws.secret import Secret
    from decoupled.engines.aws.unmeasured import Unmeasured

ROOT = Path(__file__).parents[1]  # of the zip, which has the user's modules too


def handler(event: SqsEvent, context: Any) -> dict[str, Any]:
    """Lambda's entry point, behind the event source mapping with ReportBatchItemFailures."""
    failed = settled(deliveries(event), lambda: context.get_remaining_time_in_millis() / 1000)
    telemetry.flush()
    return batch_item_failures(event, failed)


def settled(batch: Sequence[Delivery], remaining_s: Callable[[], float]) -> list[Delivery]:
    """Those to give back, once all of them are decided and settled."""
    queue, table, workloads, policy = connect()
    secret().renew()
    return measuring().processed(
        batch,
        queue,
        lambda some, queue, tally: process(some, queue, table, workloads, policy, remaining_s, tally),
        policy.runs.held,
    )


@functools.cache
def connect() -> tuple[Queue, Table, Workloads, Policy]:
    """What the function's environment names."""
    from decoupled.engines.aws.queues import queues_of
    from decoupled.engines.aws.table import DynamoTable

    shown = secret().shown
    telemetry.start("processor", MESSAGING_SYSTEM_SQS)
    workloads = load(os.environ["WORKLOADS"].split(","), ROOT)
    queue = queues_of(os.environ, workloads)
    ordered = {name for name, workload in workloads.items() if workload.ordered}
    table = DynamoTable.from_environment(os.environ, queue.send_dead_letter, ordered, listed(workloads), shown)
    policy = Policy(int(os.environ["MAX_ATTEMPTS"]), span_s=float(os.environ["ATTEMPTS_SPAN_S"]))
    return queue, table, workloads, policy


@functools.cache
def secret() -> Secret:
    """What the stack's secret says, in the environment of the process, where what is processed looks for it. Raises
    Unavailable if it was never read: the batch then comes back."""
    from decoupled.engines.aws.secret import PROCESSORS, Secret

    return Secret.from_environment(os.environ, PROCESSORS)


@functools.cache
def measuring() -> Measuring | Unmeasured:
    """What measures, if the stack asks for it."""
    from decoupled.engines.aws.unmeasured import measuring_of

    return measuring_of(os.environ, connect()[2])


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    with contextlib.suppress(Unavailable):  # told in the log; the first batch tries again
        connect()  # while Lambda lends a start-up a whole CPU
        measuring()
