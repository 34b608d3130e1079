"""`decoupled plan`: what a load, an outage and a pace come to, on one machine and on AWS. Reads what was typed, and
prints; the rest is worked out in `decoupled/plan`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from decoupled.cli.target import DURATION
from decoupled.core import limits, stack_limits
from decoupled.plan.answer import Where, answer
from decoupled.plan.arrivals import Arrivals, Day, Steady, recorded, spike
from decoupled.plan.prices import price_list
from decoupled.plan.scenario import OnAws, OnMachine, Outage, Scenario, Service, Workload

F = TypeVar("F", bound=Callable[..., Any])
MOST = 1e12  # of anything


class Number(click.FloatRange):
    """A number that is one: neither nan nor infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click has it."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number to plan with", param, ctx)
        return number


POSITIVE = Number(0, MOST, min_open=True)
PART = Number(0, 1)
COUNT = click.IntRange(1, 1_000_000)
MOST_PROCESSORS = 1_000  # AWS: MaximumConcurrency


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def given(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return given


load = _options(
    click.option("--steady", type=POSITIVE, help="Orders a second, all the time."),
    click.option("--day", type=POSITIVE, help="Orders a second at a day's peak, 16:00; at night a tenth of it."),
    click.option("--spike", type=POSITIVE, help="Orders that come --within a time, once."),
    click.option("--within", type=DURATION, default="10m", help="Of --spike."),
    click.option("--times", type=click.File(errors="replace"), help="A CSV or log with a time in each line."),
    click.option("--for", "for_s", type=DURATION, default="1d", help="How long --steady or --day is looked at."),
    click.option(
        "--outage", "outages", type=DURATION, multiple=True, help="How long the backend is away; again for more."
    ),
    click.option("--at", "starts", type=DURATION, multiple=True, help="When that begins; one for each --outage."),
)
work = _options(
    click.option("--service-ms", type=POSITIVE, default=0.1, help="That the workload takes for an order, on average."),
    click.option("--service-p99-ms", type=POSITIVE, help="And for the slowest of a hundred; else all take as long."),
    click.option("--failing-ms", type=POSITIVE, help="That a try takes in an outage.  [default: as ever]"),
    click.option("--measured", metavar="URL", help="Take the time for an order from a server's /metrics instead."),
    click.option("--workload", default="orders", help="Whose, with --measured."),
    click.option("--at-once", type=COUNT, default=1, help="Orders that a processor decides at once: async, threads."),
    click.option("--bytes", "entry_bytes", type=COUNT, default=400, help="Of an entry."),
    click.option("--record-bytes", type=COUNT, default=700, help="Of a record with its result."),
    click.option("--items", type=click.IntRange(0, 99), default=0, help="That an order writes beside its record."),
    click.option("--keys", type=COUNT, default=1, help="That all these items have."),
    click.option("--listed", is_flag=True, help="They stand in a collection that is listed."),
    click.option("--gets", type=Number(0, MOST), default=1.0, help="That ask for each order."),
    click.option("--dead", type=PART, default=0.0, help="Part of the orders that fail until they are dead."),
    click.option("--later", type=PART, default=0.0, help="Part of the orders that are due in more than 15 minutes."),
)
pace = _options(
    click.option("--concurrency", type=COUNT, default=2, help="Workers of a machine; with AWS's default the same."),
    click.option("--machines", type=COUNT, default=1, help="Each with its share of the orders."),
    click.option("--rate", type=POSITIVE, help="Orders a second that a machine or a stack processes at most."),
    click.option("--cells", type=COUNT, default=1, help="Stacks, each with its share of the orders."),
    click.option("--keep", type=DURATION, default="30d", help="How long records are kept, for their storage."),
    click.option("--repeats", type=POSITIVE, help="Times in a month.  [default: once, or as often as it fits]"),
)
stack = _options(
    click.option(
        "--aws-concurrency",
        type=click.IntRange(2, 20_000),
        help="MaximumConcurrency; with --pollers, what all of these may have.  [default: the machines'; ten a poller]",
    ),
    click.option("--batch", type=click.IntRange(1, limits.RECEIVE_MAX), default=10, help="BatchSize."),
    click.option("--window", type=DURATION, default="0s", help="BatchWindowSeconds, 60 at most."),
    click.option(
        "--pollers", type=click.IntRange(0, 200), default=0, help="MinimumPollers, 2 at least; 0 is the usual mapping."
    ),
    click.option("--memory", type=click.IntRange(128, 10_240), default=512, help="MB of each function."),
    click.option("--throttle-rate", type=POSITIVE, default=1_000.0, help="ThrottleRate of the stack."),
    click.option("--throttle-burst", type=POSITIVE, default=1_250.0, help="ThrottleBurst of the stack."),
    click.option("--api-rate", type=POSITIVE, default=10_000.0, help="Requests a second of the account."),
    click.option("--api-burst", type=POSITIVE, default=5_000.0, help="And at once."),
    click.option("--lambda-concurrency", type=POSITIVE, default=1_000.0, help="Of the account."),
    click.option("--table-writes", type=POSITIVE, default=4_000.0, help="TableMaxWrites of the stack."),
    click.option(
        "--warm-writes", type=POSITIVE, default=4_000.0, help="Write units a second that the table is warm for."
    ),
    click.option("--x-ray", is_flag=True, help="With traces."),
    click.option("--metrics", is_flag=True, help="With Metrics=on."),
    click.option("--free-tier", is_flag=True, help="Count what every account has for nothing."),
)
machine = _options(
    click.option(
        "--ceiling", type=POSITIVE, default=13_000.0, help="Orders a second that a machine accepts and processes."
    ),
    click.option("--cores", type=COUNT, default=2, help="Of a machine."),
    click.option("--disk-gb", type=POSITIVE, default=100.0, help="Of a machine."),
    click.option("--machine-dollars", type=POSITIVE, help="A month.  [default: of an m7g.large and its disk]"),
)


@click.command()
@load
@work
@pace
@stack
@machine
@click.option("--on", type=click.Choice(["aws", "machine", "both"]), default="both", help="What is planned.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw it, too: an .svg or .png.")
def plan(on: str, as_json: bool, plot: Path | None, **typed: Any) -> None:
    """What a load comes to: how many orders wait and for how long, which quota is met first, dollars a month.

    Say how orders come by one of --steady, --day, --spike and --times. Nothing is asked of AWS."""
    try:
        scenario = _scenario(typed)
        wheres: Sequence[Where] = ("machine", "aws") if on == "both" else ("aws",) if on == "aws" else ("machine",)
        answers = [answer(scenario, where, price_list()) for where in wheres]
        if plot is not None:
            from decoupled.plan import plots

            plots.draw(scenario, answers, plot)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps({"prices_as_of": price_list().as_of, **{each.where: each.plain() for each in answers}}))
        return
    from rich.console import Console

    from decoupled.plan.report import report

    Console().print(report(scenario, answers, price_list()))


def _scenario(typed: dict[str, Any]) -> Scenario:
    outages, starts = typed["outages"], typed["starts"] or ("0",) * len(typed["outages"])
    if len(outages) != len(starts):
        raise click.UsageError(f"{len(outages)} times --outage and {len(starts)} times --at: one of each for an outage")
    return Scenario(
        arrivals=_arrivals(typed),
        workload=_workload(typed),
        outages=tuple(Outage(float(at), lasts) for at, lasts in zip(starts, outages, strict=True)),
        keep_days=typed["keep"] / 86_400,
        aws=_on_aws(typed),
        machine=OnMachine(typed["ceiling"], typed["cores"], typed["disk_gb"], typed["machine_dollars"]),
        **{name: typed[name] for name in ("concurrency", "rate", "machines", "cells", "repeats", "free_tier")},
    )


def _arrivals(typed: dict[str, Any]) -> Arrivals:
    if sum(typed[name] is not None for name in ("steady", "day", "spike", "times")) != 1:
        raise click.UsageError("say how orders come, by one of --steady, --day, --spike and --times")
    for name in ("within", "for_s"):
        if typed[name] <= 0:
            raise click.UsageError(f"--{name.removesuffix('_s')} is no time at all")
    if typed["times"] is not None:
        return recorded(typed["times"])
    if typed["spike"] is not None:
        return spike(typed["spike"], typed["within"])
    return Day(typed["day"], typed["for_s"]) if typed["day"] is not None else Steady(typed["steady"], typed["for_s"])


def _workload(typed: dict[str, Any]) -> Workload:
    mean_ms, p99_ms = typed["service_ms"], typed["service_p99_ms"]
    if typed["measured"] is not None:
        from decoupled.cli.measured import service_ms

        mean_ms, p99_ms = service_ms(typed["measured"], typed["workload"])
    return Workload(
        service=Service(mean_ms / 1_000, None if p99_ms is None else p99_ms / 1_000),
        failing_s=None if typed["failing_ms"] is None else typed["failing_ms"] / 1_000,
        **{
            name: typed[name]
            for name in ("at_once", "items", "keys", "listed", "entry_bytes", "record_bytes", "gets", "dead", "later")
        },
    )


def _on_aws(typed: dict[str, Any]) -> OnAws:
    concurrency, pollers, window_s = typed["aws_concurrency"], typed["pollers"], typed["window"]
    if pollers == 1:
        raise click.UsageError("--pollers are 2 at least, as AWS has it")
    if window_s > stack_limits.MAX_BATCH_WINDOW_S:
        raise click.UsageError(f"--window is {stack_limits.MAX_BATCH_WINDOW_S} s at most, as the stack has it")
    if not pollers and concurrency is not None and concurrency > MOST_PROCESSORS:
        raise click.UsageError(f"--aws-concurrency is {MOST_PROCESSORS:,} at most, as AWS has it; or say --pollers")
    return OnAws(
        concurrency=concurrency,
        window_s=window_s,
        memory_mb=typed["memory"],
        **{name: typed[name] for name in _AS_TYPED},
    )


_AS_TYPED = (
    *("throttle_rate", "throttle_burst", "api_rate", "api_burst", "lambda_concurrency"),
    *("table_writes", "warm_writes", "batch", "pollers", "x_ray", "metrics"),
)
