"""`decoupled status`: queue depth, in flight, oldest age, dead, rates, breakers; once or again and again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from decoupled.cli.target import DURATION, plain, stats_of, target
from decoupled.core.overview import Overview, with_rates
from decoupled.core.times import rfc3339
from decoupled.engines.protocols import Stats


@click.command()
@target
@click.option("--watch", is_flag=True, help="Again and again, until Ctrl-C.")
@click.option("--every", type=DURATION, default="1s", show_default=True, help="Time between two looks, also for rates.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a look.")
def status(data: Path, stack: str | None, watch: bool, every: float, as_json: bool) -> None:
    """How many messages are queued, in flight, delayed, processed, rejected and dead; how old the oldest is; how fast
    it goes; and whether a backend is taken for sick."""
    source = stats_of(data, stack)
    try:
        _follow(source, max(every, 0.1), watch, as_json)
    except KeyboardInterrupt:
        pass
    finally:
        source.close()


def _follow(source: Stats, every_s: float, watch: bool, as_json: bool) -> None:
    before = source.look()
    if not watch:
        if before.accepted is not None:
            time.sleep(every_s)
            before = with_rates(source.look(), before)
        click.echo(_json(before)) if as_json else Console().print(_table(before))
        return
    if as_json:
        while True:
            time.sleep(every_s)
            before = with_rates(source.look(), before)
            click.echo(_json(before))
    with Live(_table(before), auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            before = with_rates(source.look(), before)
            live.update(_table(before), refresh=True)


def _why(breaker: Mapping[str, Any]) -> str:
    return f"{breaker['why']}; probes again in {breaker['probe_in_s']} s" if breaker["state"] != "closed" else ""


def _add_limited(table: Table, limited: Mapping[str, Any]) -> None:
    for who in limited["worst"]:
        remark = f"{who['caller'][:80]}: {who['why']}; its last was refused {who['last_s']} s ago"
        table.add_row("refused", f"{who['messages']:,}", plain(remark))
    if (more := limited["callers"] - len(limited["worst"])) > 0:
        table.add_row("refused", "", plain(f"{more:,} more callers"))


def _json(overview: Overview) -> str:
    values = msgspec.structs.asdict(overview) | {"taken_at": rfc3339(overview.taken_at), "accepted": overview.accepted}
    return msgspec.json.encode({name: value for name, value in values.items() if value is not None}).decode()


def _table(overview: Overview) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for name, number, remark in (
        ("queued", overview.queued, "visible"),
        ("in flight", overview.in_flight, "with a processor"),
        ("delayed", overview.delayed, "waiting out a backoff, or due later"),
        ("dead", overview.dead, "see `decoupled dead list`" if overview.dead else ""),
        ("processed", overview.processed, ""),
        ("rejected", overview.rejected, "by a business rule, or purged"),
        ("accepted", overview.accepted, "the sum of these"),
        ("oldest, s", overview.oldest_age_s, "since it was accepted"),
        ("accepted/s", overview.accepted_per_s, ""),
        ("finished/s", overview.processed_per_s, "processed or rejected"),
    ):
        if number is not None:
            table.add_row(name, f"{number:,}", remark)
    for workload, count in (overview.queued_by_workload or {}).items():
        table.add_row("unfinished", f"{count:,}", plain(f"of {workload}"))
    for workload, breaker in (overview.breakers or {}).items():
        groups = breaker.get("groups", [])
        table.add_row("breaker", breaker["state"], plain(f"{workload} {_why(breaker)}"))
        for group in groups:
            table.add_row("group", group["state"], plain(f"{workload} {group['group'][:80]}: {_why(group)}"))
        if (more := breaker.get("sick_groups", 0) - len(groups)) > 0:
            table.add_row("groups", f"{more:,}", plain(f"of {workload} more are not closed"))
    _add_limited(table, overview.limited or {"callers": 0, "worst": []})
    for alarm in overview.alarms or []:
        table.add_row("alarm", "", plain(alarm))
    if overview.alarms is None:
        table.add_row("server", "", overview.server or "not running")
    for note in overview.notes:
        table.add_row("note", "", plain(note))
    return table
