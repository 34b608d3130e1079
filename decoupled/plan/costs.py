"""Dollars a month: how much of everything that is billed the orders of a course need, and what that is by a list of
prices. What an order takes of each service is what `make bench-lambda` counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from decoupled.core import limits
from decoupled.plan.course import Course
from decoupled.plan.pace import DYNAMODB_MS, RECEIVER_CPU_MS, SQS_MS, STATUS_CPU_MS, cpu_s, writes
from decoupled.plan.prices import PriceList
from decoupled.plan.scenario import Scenario

MONTH_S = 30 * 86_400.0
GB = 1e9
SQS_CHUNK_BYTES, API_CHUNK_BYTES = 64 * 1024, 512 * 1024
READ_BYTES = 4 * 1024  # of a read unit
IDLE_POLLS_PER_S = 0.2  # of a mapping whose queue is empty: four pollers that wait 20 s each;
MAPPINGS = 2  # of the workload's own queue, and of the shared one
ACCESS_LOG_BYTES = 300  # of a request's line
RETRY_LOG_BYTES = 420  # of a try that failed
METRICS_LINE_BYTES = 300  # of an invocation, with Metrics=on,
METRICS_OF_ONE = 10  # and the metrics of one workload that does well
LOGS_COMPRESSED = 0.15  # of a log's bytes, that are stored
HEAD_BYTES = 400  # of an answer, beside its body
ACCEPTED_BYTES = 150  # of a 202
INDEX_BYTES = 100  # that DynamoDB counts for a record beside it
ITEM_BYTES = 200  # of an item that an order writes, once for each
TRACED = 0.05  # of a function's invocations beyond the first one a second, by X-Ray's own rule
TRIES_OF_DEAD = limits.MAX_ATTEMPTS
SECRET_CALLS = 1_000  # of functions that start
ROW_BYTES = 300  # of a row in SQLite, beside the entry


def times_a_month(of: Scenario) -> float:
    """How often the scenario takes place in a month."""
    if of.repeats is not None:
        return of.repeats
    return MONTH_S / of.arrivals.span_s if of.arrivals.goes_on else 1.0


def an_order(of: Scenario) -> dict[str, float]:
    """What each order takes of a service, by the names of `make bench-lambda`; the processor's receives and deletes are
    a batch's."""
    return {
        "SQS requests": math.ceil(of.workload.entry_bytes / SQS_CHUNK_BYTES),
        "DynamoDB writes": writes(of),
        "DynamoDB reads": of.workload.gets * math.ceil(of.workload.record_bytes / READ_BYTES),
    }


def receiver_s(of: Scenario) -> float:
    """That the receiver takes for an order."""
    return cpu_s(RECEIVER_CPU_MS, of.aws.memory_mb) + SQS_MS / 1_000


def status_s(of: Scenario) -> float:
    """That the status function takes for a GET."""
    return cpu_s(STATUS_CPU_MS, of.aws.memory_mb) + DYNAMODB_MS / 1_000


def usage_on_aws(of: Scenario, course: Course) -> dict[str, float]:
    """Units a month, by the names of the prices, of all cells. `course` is that of one."""
    times = times_a_month(of) * of.cells
    orders = course.bin_s * sum(course.coming) * times
    failed = course.failed * times
    invocations = course.invocations * times + orders * of.workload.dead * TRIES_OF_DEAD
    functions = orders * (1 + of.workload.gets) + invocations
    seconds = orders * (receiver_s(of) + of.workload.gets * status_s(of)) + course.busy_s * times
    return {
        "api_requests": orders * (math.ceil(of.workload.entry_bytes / API_CHUNK_BYTES) + of.workload.gets),
        "lambda_requests": functions,
        "lambda_gb_seconds": seconds * of.aws.memory_mb / 1_024,
        "sqs_pollers": of.aws.pollers * MONTH_S / 3_600 * of.cells,
        **_queue(of, orders, invocations, (orders + failed) / max(invocations, 1.0)),
        **_table(of, orders),
        **_watching(of, orders, failed, functions),
        "traces": _traces(of, course, (orders, orders * of.workload.gets, invocations)),
        "secrets": of.cells,
        "secret_calls": SECRET_CALLS * of.cells,
        "schedules": orders * of.workload.later,
        "transfer_out": _transferred(of, orders),
    }


def _queue(of: Scenario, orders: float, invocations: float, batch: float) -> dict[str, float]:
    """A send for each order; for each batch its receives, and as many calls that delete, or set the backoff."""
    sends = orders * an_order(of)["SQS requests"]
    calls = math.ceil(batch / limits.RECEIVE_MAX - 1e-6)
    chunks = math.ceil(min(batch, limits.RECEIVE_MAX) * of.workload.entry_bytes / SQS_CHUNK_BYTES)
    idle = MAPPINGS * IDLE_POLLS_PER_S * MONTH_S * of.cells
    return {"sqs_requests": sends + invocations * calls * (chunks + 1) + idle, "sqs_fair": sends}


def _table(of: Scenario, orders: float) -> dict[str, float]:
    work, each = of.workload, an_order(of)
    stored = work.record_bytes + INDEX_BYTES + work.items * ITEM_BYTES * (2 if work.listed else 1)
    kept = orders * of.keep_days * 86_400 / MONTH_S * stored / GB
    return {
        "dynamodb_writes": orders * each["DynamoDB writes"] * (1 + work.dead * TRIES_OF_DEAD),
        "dynamodb_reads": orders * each["DynamoDB reads"],
        "dynamodb_storage": kept,
        "dynamodb_backup": kept,
    }


def _watching(of: Scenario, orders: float, failed: float, functions: float) -> dict[str, float]:
    requests = orders * (1 + of.workload.gets)
    logs = requests * ACCESS_LOG_BYTES + failed * RETRY_LOG_BYTES
    logs += functions * METRICS_LINE_BYTES if of.aws.metrics else 0
    return {
        "logs": logs / GB,
        "logs_storage": logs / GB * LOGS_COMPRESSED,
        "metrics": METRICS_OF_ONE * of.cells if of.aws.metrics else 0,
        "alarms": of.aws.alarms * of.cells,
        "dashboards": of.aws.dashboards * of.cells,
    }


def _traces(of: Scenario, course: Course, invocations: Sequence[float]) -> float:
    """Of each function, the first invocation of a second, and some of the others."""
    seconds = course.seconds * times_a_month(of) * of.cells
    first = [min(some, seconds) for some in invocations]
    return (sum(first) + TRACED * (sum(invocations) - sum(first))) * of.aws.x_ray


def usage_on_machines(of: Scenario, orders: float) -> dict[str, float]:
    """Likewise of machines that are rented: their hours and disks, and what leaves them."""
    return {
        "machine_hours": of.machines * MONTH_S / 3_600,
        "machine_disk": of.machine.disk_gb * of.machines,
        "transfer_out": _transferred(of, orders),
    }


def _transferred(of: Scenario, orders: float) -> float:
    asked = of.workload.gets * (HEAD_BYTES + of.workload.record_bytes)
    return orders * (HEAD_BYTES + ACCEPTED_BYTES + asked) / GB


def row_bytes(of: Scenario) -> float:
    """On a machine's disk, of an order."""
    return of.workload.entry_bytes + ROW_BYTES + of.workload.items * ITEM_BYTES


def dollars(usage: Mapping[str, float], prices: PriceList, free_tier: bool) -> dict[str, float]:
    """By service, the dearest first."""
    services: dict[str, float] = {}
    for name, units in usage.items():
        price = prices[name]
        services[price.service] = services.get(price.service, 0.0) + price.dollars(units, free_tier)
    return dict(sorted(services.items(), key=lambda item: -item[1]))
