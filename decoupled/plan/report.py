"""A plan in words and tables, for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from decoupled.plan.answer import Answer
from decoupled.plan.prices import PriceList
from decoupled.plan.quotas import Quota
from decoupled.plan.scenario import Scenario
from decoupled.plan.units import amount, money, span

SHOWN = 5  # quotas that are not met, but near
NEAR = 0.2  # from which part on they are told of


def report(of: Scenario, answers: Sequence[Answer], prices: PriceList) -> RenderableType:
    """All of it."""
    parts: list[RenderableType] = [Text(_about(of)), Text(""), _course(answers)]
    for each in answers:
        parts += [Text(""), _quotas(of, each)]
    parts += [Text(""), _dollars(answers), Text(""), Text(_notes(of, answers, prices))]
    return Group(*parts)


def _about(of: Scenario) -> str:
    text = f"{amount(of.orders)} orders in {span(of.arrivals.span_s)}, {span(of.workload.service.mean_s)} of work each"
    for outage in of.outages:
        text += f"; the backend is away for {span(outage.lasts_s)} from {span(outage.begins_s)}"
    return f"{text}."


def _course(answers: Sequence[Answer]) -> Table:
    table = _table("", *[each.name for each in answers])
    rows: list[tuple[str, Callable[[Answer], str]]] = [
        ("most that wait", lambda it: amount(it.peak_depth)),
        ("at", lambda it: span(it.peak_at_s)),
        ("in flight at most", lambda it: amount(it.peak_in_flight)),
        ("half are done within", lambda it: span(it.waiting_p50_s)),
        ("99 of 100 within", lambda it: span(it.waiting_p99_s)),
        ("the last within", lambda it: span(it.waiting_max_s)),
        ("all are done at", lambda it: span(it.drained_at_s)),
        ("tries that fail", lambda it: amount(it.failed_tries)),
    ]
    for name, value in rows:
        table.add_row(name, *[value(each) for each in answers])
    return table


def _quotas(of: Scenario, answer: Answer) -> Text:
    """A line for each that is met, and one below it that says what follows; then those that are near."""
    cells = f", in each of {of.cells} cells" if answer.where == "aws" and of.cells > 1 else ""
    near = [quota for quota in answer.quotas if quota.at_s is None and quota.part >= NEAR][:SHOWN]
    text = Text()
    text.append(f"{f'{answer.name}, met first{cells}':<38}{'limit':>14}{'use':>14}{'from':>13}\n", "bold")
    for quota in [*answer.met, *near]:
        text.append(f"{quota.name:<38}{amount(quota.limit):>14}{amount(quota.use):>14}{_from(quota):>13}\n")
        if quota.at_s is not None:
            beyond = f"{amount(quota.beyond)} {quota.then}" if quota.beyond >= 1 else f"what is more {_IS[quota.then]}"
            text.append(f"  {beyond}: {quota.remedy}\n", "dim")
    text.append("" if answer.met or near else "nothing is near its limit\n")
    return text[:-1]


_IS = {"refused": "is refused", "waits": "waits", "lost": "is lost"}


def _from(quota: Quota) -> str:
    return f"{quota.part:.0%} of it" if quota.at_s is None else span(quota.at_s) if quota.at_s else "the start"


def _dollars(answers: Sequence[Answer]) -> Table:
    table = _table("dollars a month", *[each.name for each in answers])
    for service in dict.fromkeys(name for each in answers for name in each.dollars):
        values = [each.dollars.get(service, 0.0) for each in answers]
        if max(values) >= 0.005:
            table.add_row(service, *[money(value) if value else "" for value in values])
    table.add_row("in all", *[money(each.dollars_a_month) for each in answers])
    table.add_row("a million orders", *[money(each.dollars_a_million) for each in answers])
    return table


def _notes(of: Scenario, answers: Sequence[Answer], prices: PriceList) -> str:
    month = f"A month of 30 days has {amount(answers[0].orders_a_month)} orders."
    free = "free tiers are counted" if of.free_tier else "free tiers are not counted"
    priced = f"Prices of {prices.region}, {prices.as_of}, without tax; {free}."
    front = (
        "What a front's quota refuses is counted, and then accepted all the same: clients send again, or you raise it."
    )
    return "\n".join([month, priced, front])


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, min_width=22)
    for column in columns:
        table.add_column(column, justify="right", min_width=14)
    return table
