"""A stack's plan beside a simulation message by message, in which processors take batches and each failure draws its
own backoff: the fluid comes to the same."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass

import pytest

from decoupled.core.backoff import backoff_s
from decoupled.plan.answer import answer
from decoupled.plan.arrivals import spike
from decoupled.plan.pace import Stack
from decoupled.plan.prices import price_list
from decoupled.plan.scenario import OnAws, Outage, Scenario, Service, Workload
from decoupled.plan.waits import quantile

WITHIN = 0.1


@dataclass
class Happened:
    """What a run came to."""

    peak: int
    drained_s: float
    failed: int
    took_s: list[float]


def one_by_one(of: Scenario, seed: int) -> Happened:
    """Events in their order: a message becomes visible, or a processor is free."""
    rng = random.Random(seed)
    stack = Stack(of)
    orders = int(of.orders)
    came = [(number + 0.5) / orders * of.arrivals.span_s for number in range(orders)]
    order = itertools.count()
    events = [(at, next(order), number) for number, at in enumerate(came)]
    heapq.heapify(events)
    visible: deque[int] = deque()
    tries, ended = [0] * orders, [0.0] * orders
    idle, failed = of.stack_concurrency, 0
    while events:
        now, _, number = heapq.heappop(events)
        if number < 0:
            idle += 1
        else:
            visible.append(number)
        while idle and visible:
            batch = [visible.popleft() for _ in range(min(of.aws.batch, len(visible)))]
            away = any(outage.begins_s <= now < outage.ends_s for outage in of.outages)
            done = now + stack.batch_s(len(batch), away)
            idle -= 1
            heapq.heappush(events, (done, next(order), -1))
            for message in batch:
                tries[message] += 1
                if away:
                    failed += 1
                    again = done + backoff_s(tries[message], rng.random())
                    heapq.heappush(events, (again, next(order), message))
                else:
                    ended[message] = done
    took = [end - start for start, end in zip(came, ended, strict=True)]
    changes = sorted([(at, 1) for at in came] + [(at, -1) for at in ended])
    return Happened(max(itertools.accumulate(by for _, by in changes)), max(ended), failed, took)


@pytest.mark.parametrize("outage_s", [0.0, 30.0, 600.0])
@pytest.mark.parametrize("concurrency", [4, 20])
def test_the_fluid_comes_to_what_single_messages_do(outage_s: float, concurrency: int) -> None:
    scenario = Scenario(
        spike(6_000, 120.0),
        Workload(Service(0.1)),
        outages=(Outage(20.0, outage_s),) if outage_s else (),
        aws=OnAws(concurrency=concurrency, pollers=2),  # all of them from the start
    )
    happened = one_by_one(scenario, seed=1)
    planned = answer(scenario, "aws", price_list())
    shown = {
        "peak": (planned.peak_depth, happened.peak),
        "drained": (planned.drained_at_s, happened.drained_s),
        "failed": (planned.failed_tries, happened.failed),
        "p50": (planned.waiting_p50_s, quantile(happened.took_s, 0.5)),
        "p99": (planned.waiting_p99_s, quantile(happened.took_s, 0.99)),
    }
    print(shown)  # noqa: T201  when it fails
    for name, (plan, real) in shown.items():
        assert plan == pytest.approx(real, rel=WITHIN, abs=1.0), name
