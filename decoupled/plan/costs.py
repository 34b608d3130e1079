"""Dollars a month: how much of everything that is billed the orders of a course need, and what that is by a list of
prices. What an order takes of each service is what `make bench-lambda` counts."""

from __future__ import annotations

import math
from collections.abc import Mapping

from decoupled.core import limits
from decoupled.plan.course import Course
from decoupled.plan.pace import DYNAMODB_MS, RECEIVER_CPU_MS, SQS_MS, STATUS_CPU_MS, cpu_s, writes
from decoupled.plan.prices import PriceList
from decoupled.plan.scenario import Scenario

MONTH_S = 30 * 86_400.0
GB = 1e9
SQS_CHUNK_BYTES, API_CHUNK_BYTES = 64 * 1024, 512 * 1024
READ_BYTES = 4 * 1024  # of a read unit
IDLE_POLLS_PER_S = 0.2  # of a mapping whose queue is empty: four pollers that wait 20 s each
ACCESS_LOG_BYTES = 450  # of a request's line
RETRY_LOG_BYTES = 420  # of a try that failed
METRICS_LINE_BYTES = 300  # of an invocation, with Metrics=on,
METRICS_OF_ONE = 10  # and the metrics of one workload that does well
LOGS_COMPRESSED = 0.15  # of a log's bytes, that are stored
HEAD_BYTES = 400  # of an answer, beside its body
ACCEPTED_BYTES = 150  # of a 202
ITEM_BYTES = 200  # of an item that an order writes, once for each
TRACED = 0.05  # of requests beyond the first one a second, by X-Ray's own rule
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
    invocations, failed = course.invocations * times, course.failed * times
    invocations += orders * of.workload.dead * TRIES_OF_DEAD
    asked = orders * of.workload.gets
    work, each = of.workload, an_order(of)
    batch = (orders + failed) / max(invocations, 1.0) - 1e-6
    receives = math.ceil(batch / limits.RECEIVE_MAX) * math.ceil(
        min(batch, limits.RECEIVE_MAX) * work.entry_bytes / SQS_CHUNK_BYTES
    )
    stored = (work.record_bytes + 100 + work.items * ITEM_BYTES * (2 if work.listed else 1)) / GB
    kept = orders * of.keep_days * 86_400 / MONTH_S * stored
    seconds = orders * receiver_s(of) + asked * status_s(of) + course.busy_s * times
    functions = orders + asked + invocations
    logs = (orders + asked) * ACCESS_LOG_BYTES + failed * RETRY_LOG_BYTES
    logs += functions * METRICS_LINE_BYTES if of.aws.metrics else 0
    return {
        "api_requests": orders * math.ceil(work.entry_bytes / API_CHUNK_BYTES) + asked,
        "lambda_requests": functions,
        "lambda_gb_seconds": seconds * of.aws.memory_mb / 1_024,
        "sqs_pollers": of.aws.pollers * MONTH_S / 3_600 * of.cells,
        "sqs_requests": orders * each["SQS requests"]
        + invocations * (receives + math.ceil(batch / limits.RECEIVE_MAX))  # and a delete, or the backoff that is set
        + IDLE_POLLS_PER_S * MONTH_S * of.cells,
        "sqs_fair": orders * each["SQS requests"],
        "dynamodb_writes": orders * (each["DynamoDB writes"] + work.dead * TRIES_OF_DEAD * each["DynamoDB writes"]),
        "dynamodb_reads": orders * each["DynamoDB reads"],
        "dynamodb_storage": kept,
        "dynamodb_backup": kept,
        "logs": logs / GB,
        "logs_storage": logs / GB * LOGS_COMPRESSED,
        "metrics": METRICS_OF_ONE * of.cells if of.aws.metrics else 0,
        "alarms": of.aws.alarms * of.cells,
        "dashboards": of.aws.dashboards * of.cells,
        "traces": _traces(orders + asked, of.cells) if of.aws.x_ray else 0,
        "secrets": of.cells,
        "secret_calls": SECRET_CALLS * of.cells,
        "schedules": orders * work.later,
        "transfer_out": (orders * (HEAD_BYTES + ACCEPTED_BYTES) + asked * (HEAD_BYTES + work.record_bytes)) / GB,
    }


def _traces(requests: float, cells: int) -> float:
    first = min(requests, MONTH_S * cells)
    return first + TRACED * (requests - first)


def usage_on_machines(of: Scenario, orders: float) -> dict[str, float]:
    """Likewise of machines that are rented: their hours and disks, and what leaves them."""
    work = of.workload
    out = orders * (HEAD_BYTES + ACCEPTED_BYTES) + orders * work.gets * (HEAD_BYTES + work.record_bytes)
    return {
        "machine_hours": of.machines * MONTH_S / 3_600,
        "machine_disk": of.machine.disk_gb * of.machines,
        "transfer_out": out / GB,
    }


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
