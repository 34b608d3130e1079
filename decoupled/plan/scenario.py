"""What is planned for, as plain data: orders that come, a workload, its pace, outages, and the options that cost
something. What becomes of it is worked out elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

from decoupled.plan.arrivals import Arrivals

_P99 = NormalDist().inv_cdf(0.99)
POLLER_CONCURRENCY = 10  # AWS: processors at once of a provisioned poller


@dataclass(frozen=True, slots=True)
class Outage:
    """The backend answers nothing."""

    begins_s: float
    lasts_s: float

    @property
    def ends_s(self) -> float:
        """When it answers again."""
        return self.begins_s + self.lasts_s


@dataclass(frozen=True, slots=True)
class Service:
    """How long the workload takes for an order: always the same, or log-normal with that mean and p99, in seconds."""

    mean_s: float
    p99_s: float | None = None

    def quantile(self, part: float) -> float:
        """So that this part of all orders takes no longer."""
        mu, sigma = self._log_normal()
        return math.exp(mu + sigma * NormalDist().inv_cdf(part)) if sigma else self.mean_s

    @property
    def variability(self) -> float:
        """The squared coefficient of variation: 0 where all take the same time."""
        return math.exp(self._log_normal()[1] ** 2) - 1

    def longest_of(self, orders: float) -> float:
        """Of so many at once, about."""
        return self.mean_s if orders <= 1 else max(self.mean_s, self.quantile(orders / (orders + 1)))

    def _log_normal(self) -> tuple[float, float]:
        """mu and sigma, from mean = exp(mu + sigma²/2) and p99 = exp(mu + 2.33 sigma)."""
        if self.p99_s is None or self.p99_s <= self.mean_s or self.mean_s <= 0:
            return (math.log(self.mean_s) if self.mean_s > 0 else -math.inf), 0.0
        ratio = min(math.log(self.p99_s / self.mean_s), _P99**2 / 2)  # no log-normal has a p99 further from its mean
        return _mu(self.mean_s, sigma := _P99 - math.sqrt(_P99**2 - 2 * ratio)), sigma


def _mu(mean_s: float, sigma: float) -> float:
    return math.log(mean_s) - sigma**2 / 2


@dataclass(frozen=True, slots=True)
class Workload:
    """What an order needs of the back."""

    service: Service = Service(0.001)
    failing_s: float | None = None  # that a try takes in an outage; as long as any other unless it is said
    at_once: int = 1  # messages that one processor decides at once: more than one for async and threads
    items: int = 0  # that it writes beside its record, in one transaction
    keys: int = 1  # that these spread over, in all
    listed: bool = False  # whether they stand in a collection that is listed
    entry_bytes: int = 400
    record_bytes: int = 700
    gets: float = 1.0  # that ask for each order
    dead: float = 0.0  # part of the orders that fail on their own until they are dead
    later: float = 0.0  # part that is due more than fifteen minutes later

    @property
    def tried_s(self) -> float:
        """How long a try takes while the backend is away."""
        return self.service.mean_s if self.failing_s is None else self.failing_s


@dataclass(frozen=True, slots=True)
class OnAws:
    """A stack's parameters, and the account's quotas."""

    concurrency: int | None = None  # MaximumConcurrency of each stack; as many as the machines have unless it is said
    throttle_rate: float = 1_000.0
    throttle_burst: float = 1_250.0
    api_rate: float = 10_000.0
    api_burst: float = 5_000.0
    lambda_concurrency: float = 1_000.0
    table_writes: float = 4_000.0  # TableMaxWrites, which bounds the processor
    warm_writes: float = 4_000.0  # that a table bears at once; a new one 4,000
    batch: int = 10
    window_s: float = 0.0
    pollers: int = 0  # provisioned ones; 0 is the usual mapping
    memory_mb: int = 512
    x_ray: bool = False
    metrics: bool = False
    alarms: int = 15  # two of them the workload's own queue's
    dashboards: int = 1


@dataclass(frozen=True, slots=True)
class OnMachine:
    """One machine, or several with an own share of the orders each."""

    ceiling: float = 13_000.0  # orders accepted and processed a second, fsync and CPU: benchmarks/RESULTS.md
    cores: int = 2
    disk_gb: float = 100.0
    dollars: float | None = None  # a month for one; an example instance unless it is said


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it. `concurrency` is each machine's: the pace that protects the backend."""

    arrivals: Arrivals
    workload: Workload = field(default_factory=Workload)
    concurrency: int = 2
    rate: float | None = None
    machines: int = 1
    cells: int = 1  # stacks, each with an own share of the orders
    outages: tuple[Outage, ...] = ()
    keep_days: float = 30.0
    repeats: float | None = None  # in a month; as often as it fits, or once, unless it is said
    free_tier: bool = False
    aws: OnAws = field(default_factory=OnAws)
    machine: OnMachine = field(default_factory=OnMachine)

    @property
    def orders(self) -> float:
        """That come in all."""
        return self.arrivals.by(self.arrivals.span_s)

    @property
    def processors(self) -> int:
        """Of all machines together."""
        return self.concurrency * self.machines

    @property
    def stack_concurrency(self) -> int:
        """MaximumConcurrency of each stack: two at least, as AWS has it. Provisioned pollers have ten each instead."""
        usual = self.aws.pollers * POLLER_CONCURRENCY or self.processors
        return max(2, usual if self.aws.concurrency is None else self.aws.concurrency)
