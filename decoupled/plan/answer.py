"""The whole answer: a scenario on AWS or on machines, simulated, with its quotas and dollars, as plain data for the
report, for JSON and for the plot."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from decoupled.plan.costs import dollars, times_a_month, usage_on_aws, usage_on_machines
from decoupled.plan.course import Course, Run
from decoupled.plan.pace import Back, Machine, Stack
from decoupled.plan.prices import PriceList
from decoupled.plan.quotas import Quota, on_aws, on_machine
from decoupled.plan.scenario import Scenario
from decoupled.plan.waits import Followed, follow, quantile

Where = Literal["aws", "machine"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one system. Depths are of all cells and machines together; `drained_at_s` is None if some orders are left."""

    where: Where
    orders: float
    peak_depth: float
    peak_at_s: float
    peak_in_flight: float
    waiting_p50_s: float
    waiting_p99_s: float
    waiting_max_s: float
    drained_at_s: float | None
    failed_tries: float
    orders_a_month: float
    dollars: dict[str, float]
    quotas: list[Quota]
    course: Course
    followed: list[Followed]
    share: float  # of the orders, that the course is of
    name: str  # of the system, as people say it

    @property
    def dollars_a_month(self) -> float:
        """In all."""
        return sum(self.dollars.values())

    @property
    def dollars_a_million(self) -> float:
        """Orders."""
        return self.dollars_a_month / max(self.orders_a_month, 1.0) * 1e6

    @property
    def met(self) -> list[Quota]:
        """Quotas that are, the first one first."""
        return [quota for quota in self.quotas if quota.at_s is not None]

    def plain(self) -> dict[str, Any]:
        """For JSON: no series, and no infinities."""
        told = {
            name: _finite(getattr(self, name))
            for name in self.__slots__
            if name not in ("course", "followed", "quotas", "dollars", "share", "name")
        }
        quotas = [{**asdict(it), "limit": _finite(it.limit), "met": it.at_s is not None} for it in self.quotas]
        return {**told, "dollars_a_month": self.dollars_a_month, "dollars": self.dollars, "quotas": quotas}


def answer(of: Scenario, where: Where, prices: PriceList) -> Answer:
    """Simulate it there."""
    share = 1 / of.cells if where == "aws" else 1.0
    back: Back = Stack(of) if where == "aws" else Machine(of)
    course = Run(of.arrivals, back, share).go()
    followed = follow(course, back, of.workload.service)
    took = [it.took_s for it in followed] or [0.0]
    depth = course.depth
    peak = max(depth)
    return Answer(
        where=where,
        orders=of.orders,
        peak_depth=peak / share,
        peak_at_s=next(place for place, it in enumerate(depth, 1) if it >= 0.999 * peak) * course.bin_s,
        peak_in_flight=max(course.hidden) / share,
        waiting_p50_s=quantile(took, 0.5),
        waiting_p99_s=quantile(took, 0.99),
        waiting_max_s=max(took),
        drained_at_s=_drained_at(of, course),
        failed_tries=course.failed / share,
        orders_a_month=of.orders * times_a_month(of),
        dollars=_dollars(of, where, course, prices),
        quotas=on_aws(of, course, max(took)) if where == "aws" else on_machine(of, course),
        course=course,
        followed=followed,
        share=share,
        name="AWS" if where == "aws" else "one machine" if of.machines == 1 else f"{of.machines} machines",
    )


def _dollars(of: Scenario, where: Where, course: Course, prices: PriceList) -> dict[str, float]:
    """By service; a machine that is not rented by the hour costs what was said."""
    if where == "aws":
        return dollars(usage_on_aws(of, course), prices, of.free_tier)
    costs = dollars(usage_on_machines(of, of.orders * times_a_month(of)), prices, of.free_tier)
    if of.machine.dollars is not None:
        del costs["EC2"]
        costs["machines"] = of.machine.dollars * of.machines
    return costs


def _drained_at(of: Scenario, course: Course) -> float | None:
    """When nothing was left, or of what goes on and on, when no more waited than comes and goes."""
    if not course.drained:
        return None
    last = next((place for place in range(len(course.coming), 0, -1) if course.depth_at(place - 1) >= 0.5), 0)
    return max(last * course.bin_s, of.arrivals.span_s)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
