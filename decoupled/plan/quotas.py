"""Which quota is met, and when: each with its limit, the most that the orders use of it, and the moment when that is
more. What is beyond the front's is refused there, and clients send again; what is beyond the back's waits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from decoupled.core import limits
from decoupled.plan.costs import GB, MONTH_S, receiver_s, row_bytes, status_s, times_a_month
from decoupled.plan.course import Course
from decoupled.plan.pace import IN_FLIGHT_MOST, MAPPING_MOST, NEW_TABLE_WRITES, writes
from decoupled.plan.scenario import Scenario

RETENTION_S = 10 * 86_400.0  # of the stack's queues
PARTITION_WRITES = 1_000.0  # units a second of one partition key
TABLE_QUOTA = 40_000.0  # write units a second, of a table and an account
LAMBDA_RPS = 10  # a second for each of an account's concurrency
LAMBDA_SCALING, LAMBDA_SCALING_S = 1_000.0, 10.0  # environments of a function in so long
SCHEDULES_PER_S = 1_000.0  # that EventBridge creates, in the larger Regions
CPU_S = 73.6e-6  # of an order on a machine, without its workload's: benchmarks/RESULTS.md
CLIENT_S = 0.01  # that a request has a connection for

Then = Literal["refused", "waits", "lost"]


@dataclass(frozen=True, slots=True)
class Quota:
    """`use` is the most; `at_s` when it was first more than the limit, `beyond` how many requests that concerns."""

    name: str
    limit: float
    use: float
    at_s: float | None
    then: Then
    remedy: str
    beyond: float = 0.0

    @property
    def part(self) -> float:
        """Of the limit, that is used."""
        return self.use / self.limit if self.limit else math.inf


def on_aws(of: Scenario, course: Course, longest_s: float) -> list[Quota]:
    """Of one stack, in the order in which they are met."""
    return ordered([*_front(of, course), *_processor(of, course), *_table(of, course), *_sizes(of, course, longest_s)])


def _front(of: Scenario, course: Course) -> list[Quota]:
    aws, work = of.aws, of.workload
    requests = [rate * (1 + work.gets) for rate in course.coming]
    of_one = [rate * max(1.0, work.gets) for rate in course.coming]
    receivers = [rate * receiver_s(of) for rate in course.coming]
    all_three = [
        rate * (receiver_s(of) + work.gets * status_s(of)) + busy
        for rate, busy in zip(course.coming, _busy(course), strict=True)
    ]
    raised = "have the quota raised, or use more cells"
    stack, account = (aws.throttle_rate, aws.throttle_burst), (aws.api_rate, aws.api_burst)
    growth = _growth(receivers, course.bin_s)
    return [
        _bucket("requests/s: the stack's ThrottleRate", requests, course, stack, "raise ThrottleRate, ThrottleBurst"),
        _bucket("requests/s: the account's API Gateway", requests, course, account, raised),
        _series("Lambda: the account's concurrency", all_three, course, aws.lambda_concurrency, "refused", raised),
        _series(
            "Lambda: requests/s of a function", of_one, course, LAMBDA_RPS * aws.lambda_concurrency, "refused", raised
        ),
        _series("Lambda: scaling in 10 s", growth, course, LAMBDA_SCALING, "refused", "provisioned concurrency"),
        _series("schedules/s", [it * work.later for it in course.coming], course, SCHEDULES_PER_S, "refused", raised),
    ]


def _processor(of: Scenario, course: Course) -> list[Quota]:
    pairs = list(zip(course.coming, course.paces, strict=True))
    wanted = [rate * pace.batch_s / pace.batch for rate, pace in pairs]
    most = of.stack_concurrency
    quotas = [
        _series("processors (MaximumConcurrency)", wanted, course, most, "waits", "raise it, if the backend bears it"),
        _series(
            "messages in flight", course.hidden, course, 0.99 * IN_FLIGHT_MOST, "waits", "none: the rest stays visible"
        ),
    ]
    if not of.aws.pollers:
        quotas.append(_series("processors of a mapping", wanted, course, MAPPING_MOST, "waits", "provisioned pollers"))
    return quotas


def _table(of: Scenario, course: Course) -> list[Quota]:
    aws, work = of.aws, of.workload
    wanted = [rate * writes(of) for rate in course.coming]
    of_key = [rate * 2 * work.items / work.keys for rate in course.coming]
    listed = [rate * work.items * work.listed for rate in course.coming]
    deaths = [rate * work.dead for rate in course.coming]
    warm = max(aws.warm_writes, NEW_TABLE_WRITES)
    return [
        _series("table: writes/s (TableMaxWrites)", wanted, course, aws.table_writes, "waits", "raise TableMaxWrites"),
        _series(
            "table: writes/s that it is warm for", wanted, course, warm, "waits", "warm throughput, before the peak"
        ),
        _series("table: writes/s, quota", wanted, course, TABLE_QUOTA, "waits", "have it raised, or use more cells"),
        _series("table: writes/s of one key", of_key, course, PARTITION_WRITES, "waits", "more keys: split hot items"),
        _series(
            "table: writes/s of `listed`", listed, course, PARTITION_WRITES, "waits", "more collections, or none listed"
        ),
        _series("table: deaths/s", deaths, course, PARTITION_WRITES, "waits", "mend what fails"),
    ]


def _sizes(of: Scenario, course: Course, longest_s: float) -> list[Quota]:
    work = of.workload
    batch_s = max(pace.batch_s for pace in course.paces)
    most, record = limits.MAX_ENTRY_BYTES, limits.MAX_ITEM_BYTES
    return [
        _once("age of the oldest: retention, s", longest_s, RETENTION_S, "lost", "a faster pace, or a shorter outage"),
        _once("bytes of an entry", work.entry_bytes, most, "refused", "keep what is large elsewhere"),
        _once("bytes of a record", work.record_bytes, record, "waits", "a smaller result"),
        _once("seconds of a batch (ProcessorTimeout)", batch_s, 30.0, "waits", "raise it, or a smaller BatchSize"),
    ]


def _busy(course: Course) -> list[float]:
    """Processors that are at work."""
    return [tries / pace.batch * pace.batch_s for tries, pace in zip(course.tries, course.paces, strict=True)]


def on_machine(of: Scenario, course: Course) -> list[Quota]:
    """Of all machines together, in the order in which they are met."""
    machine, work = of.machine, of.workload
    busy = [rate * work.service.mean_s / work.at_once for rate in course.coming]
    ceiling, cores = machine.ceiling * of.machines, machine.cores * of.machines
    cpu = [rate * CPU_S for rate in course.coming]
    clients = [rate * (1 + work.gets) * CLIENT_S for rate in course.coming]
    most, entry = limits.MAX_CLIENTS * of.machines, limits.MAX_ENTRY_BYTES
    return ordered(
        [
            _series(
                "orders/s that fsync and CPU bear", course.coming, course, ceiling, "refused", "more machines; AWS"
            ),
            _series(
                "workers (--concurrency)", busy, course, of.processors, "waits", "raise it, if the backend bears it"
            ),
            _series("cores", cpu, course, cores, "waits", "more cores"),
            _series("connections", clients, course, most, "refused", "fewer connections, used again"),
            _disk(of),
            _once("bytes of an entry", work.entry_bytes, entry, "refused", "keep what is large elsewhere"),
        ]
    )


def _disk(of: Scenario) -> Quota:
    """What a month fills: a machine keeps its records. When it is full may be after the time that was looked at."""
    room = of.machine.disk_gb * GB * of.machines
    month = of.orders * times_a_month(of) * row_bytes(of)
    full_s = MONTH_S * room / month if month > room else None
    return Quota("GB on the disk, in a month", room / GB, month / GB, full_s, "refused", "a larger disk")


def ordered(quotas: Sequence[Quota]) -> list[Quota]:
    """Met first, then those that are nearest to it."""
    return sorted(quotas, key=lambda it: (it.at_s is None, it.at_s or 0.0, -it.part))


def _series(name: str, use: Sequence[float], course: Course, limit: float, then: Then, remedy: str) -> Quota:
    beyond = sum(max(0.0, each - limit) for each in use) * course.bin_s if then == "refused" else 0.0
    return Quota(name, limit, max(use), _first(use, course.bin_s, limit), then, remedy, beyond)


def _once(name: str, use: float, limit: float, then: Then, remedy: str) -> Quota:
    return Quota(name, limit, use, 0.0 if use > limit else None, then, remedy)


def _first(use: Sequence[float], bin_s: float, limit: float) -> float | None:
    return next((place * bin_s for place, each in enumerate(use) if each > limit * (1 + 1e-9)), None)


def _bucket(name: str, use: Sequence[float], course: Course, most: tuple[float, float], remedy: str) -> Quota:
    """A rate, and a burst beside it. What is refused is counted, and simulated as if it had not been."""
    rate, burst = most
    tokens, refused, first = burst, 0.0, None
    for place, each in enumerate(use):
        tokens = min(burst, tokens + (rate - each) * course.bin_s)
        if tokens < 0:
            refused, tokens = refused - tokens, 0.0
            first = place * course.bin_s if first is None else first
    return Quota(name, rate, max(use), first, "refused", remedy, refused)


def _growth(use: Sequence[float], bin_s: float) -> list[float]:
    """By how much it grew within the time for which scaling is counted."""
    back = max(1, round(LAMBDA_SCALING_S / bin_s))
    return [each - (use[place - back] if place >= back else 0.0) for place, each in enumerate(use)]
