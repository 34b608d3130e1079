"""What a million orders cost, from what was measured and the dated price list: by service, at a size of batches, with
logs, access log and traces. Pure arithmetic; the same for us and for the usual way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from decoupled.plan.prices import price_list

# What a stub on the loopback does not show, assumed alike for both: medians within a Region, in milliseconds.
SQS_MS, DYNAMODB_MS = 10.0, 5.0
VCPU_MB = 1769  # of which a function has its part; but a whole one while it starts
MILLION = 1_000_000
BATCHES = (1, 2, 5, 10)  # messages of an invocation of the processor
CONCURRENCY = 10  # processors at once, in the rates that are told
POLLERS = 5  # that an event source mapping begins with; each fills a batch of its own in the window


@dataclass(frozen=True)
class Invoked:
    """An invocation: its CPU, what it logged, and the calls and billed units that the stub counted."""

    cpu_ms: float
    log_bytes: float
    counts: Mapping[str, float]


@dataclass(frozen=True)
class Side:
    """Us, or the usual way. `at_once`: calls of an invocation of the processor that wait together."""

    receiver: Invoked
    status: Invoked
    processor: Mapping[int, Invoked]  # by the size of the batch
    start_ms: Mapping[str, float]
    memory_mb: Mapping[str, int]
    at_once: int
    lambda_bytes: int  # that Lambda itself logs of an invocation
    access_bytes: int  # that API Gateway logs of a POST and a GET together
    fair: bool  # whether messages have a MessageGroupId, which costs extra


def duration_ms(side: Side, name: str, invoked: Invoked, waits_ms: float) -> float:
    return invoked.cpu_ms * VCPU_MB / min(side.memory_mb[name], VCPU_MB) + waits_ms


def processing_ms(side: Side, batch: int) -> float:
    """How long an invocation of the processor takes."""
    invoked = side.processor[batch]
    calls = sum(count for what, count in invoked.counts.items() if " " not in what)
    return duration_ms(side, "processor", invoked, math.ceil(calls / side.at_once) * DYNAMODB_MS)


def exhausted_per_s(side: Side, batch: int) -> float:
    """Orders a second from which on the processors have no rest, and batches become larger than this."""
    return CONCURRENCY * batch / processing_ms(side, batch) * 1000


def dollars(side: Side, batch: int, cold: bool = False, traced: float = 0.0) -> dict[str, float]:
    """Of a million orders, each asked for once by GET, by service. `cold`: each finds no function started. `traced`:
    the part of requests, and of batches, that X-Ray records."""
    processor = side.processor[batch]
    invocations = {"receiver": 1.0, "status": 1.0, "processor": 1 / batch}
    lasting_ms = {
        "receiver": duration_ms(side, "receiver", side.receiver, SQS_MS),
        "status": duration_ms(side, "status", side.status, DYNAMODB_MS),
        "processor": processing_ms(side, batch),
    }
    gb_s = sum(
        (lasting_ms[name] + side.start_ms[name] * cold) / 1000 * side.memory_mb[name] / 1024 * times
        for name, times in invocations.items()
    )
    sent = side.receiver.counts["SQS requests"]
    logged = (
        side.access_bytes
        + side.lambda_bytes * sum(invocations.values())
        + side.receiver.log_bytes
        + side.status.log_bytes
        + processor.log_bytes / batch
    )
    units = {
        "API Gateway": {"api_requests": 2.0},
        "Lambda": {"lambda_requests": sum(invocations.values()), "lambda_gb_seconds": gb_s},
        "SQS": {"sqs_requests": sent + 2 / batch, "sqs_fair": sent * side.fair},  # and received, and deleted
        "DynamoDB": {
            "dynamodb_writes": processor.counts["DynamoDB writes"] / batch,
            "dynamodb_reads": side.status.counts["DynamoDB reads"],
        },
        "logs": {"logs": logged / 1e9},
        "X-Ray": {"traces": traced * sum(invocations.values())},
    }
    prices = price_list()
    return {
        service: sum(MILLION * count / prices[name].per * prices[name].first for name, count in used.items())
        for service, used in units.items()
    }


def bought(batch: int) -> float:
    """Dollars of what a million orders take on this architecture at least, whoever wrote the functions: two requests to
    API Gateway, three functions invoked, a message sent, received and deleted, a record written and read."""
    units = {
        "api_requests": 2.0,
        "lambda_requests": 2 + 1 / batch,
        "sqs_requests": 1 + 2 / batch,
        "dynamodb_writes": 1.0,
        "dynamodb_reads": 1.0,
    }
    return sum(MILLION * count / price_list()[name].per * price_list()[name].first for name, count in units.items())


def recorded(requests_per_s: float) -> float:
    """The part of requests that X-Ray records, by Lambda's own rule: one a second, and 5 % of the others."""
    return min(1.0, (1 + 0.05 * (requests_per_s - 1)) / requests_per_s) if requests_per_s > 1 else 1.0
