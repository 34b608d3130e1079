"""`decoupled spike`: the proof, as a command. Sends orders, keeps a ledger, asks what became of each, and says so."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from decoupled.cli import private
from decoupled.cli.load import Plan, Sent, reach, send, session
from decoupled.cli.reconcile import Account, count_effects, reconcile
from decoupled.cli.target import DURATION, LocalServer, default_data, refusals, signer
from decoupled.core import limits

DEFAULT_URL = "http://127.0.0.1:8080"


@click.command()
@click.option("--orders", default=20_000, type=click.IntRange(1, limits.MAX_SPIKE_ORDERS), show_default=True)
@click.option("--url", help=f"Where to send.  [default: the server of --data, else {DEFAULT_URL}]")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory.  [default: .data]")
@click.option("--rate", type=click.FloatRange(0.1), help="Orders a second.  [default: as fast as they are answered]")
@click.option("--connections", default=64, type=click.IntRange(1, limits.MAX_SPIKE_CONNECTIONS), show_default=True)
@click.option("--outage", "outage_s", type=DURATION, help="Take the table away in the middle, for so long: 60s.")
@click.option("--within", type=DURATION, default="10m", show_default=True, help="Time for all to be processed.")
@click.option("--ledger", type=click.Path(path_type=Path, dir_okay=False), help="File for every id that got a 202.")
@click.option("--header", "headers", multiple=True, help="Send this with each request: 'Authorization: Bearer ...'.")
@click.option("--aws-sigv4", "region", metavar="REGION", help="Sign for API Gateway in that Region, as IAM asks for.")
def spike(
    orders: int,
    url: str | None,
    data: Path | None,
    rate: float | None,
    connections: int,
    outage_s: float | None,
    within: float,
    ledger: Path | None,
    headers: Sequence[str],
    region: str | None,
) -> None:
    """Send orders at a rate, then account for every one: processed + rejected + queued + dead = accepted.

    DECOUPLED_KEY in the environment is sent as API key: a header that is typed shows in the list of processes.

    Without --rate, an outage gets half of the orders, with a quarter before it and a quarter after.

    Exit status 0: all orders were accepted, and are processed or rejected. 1: one was lost, done twice or done wrong.
    3: none was, but some were not accepted, are dead, or are still queued when the time is up."""
    with refusals():
        server = LocalServer(data or default_data())
    served = server.url
    url = (url or served or DEFAULT_URL).rstrip("/")
    ours = served if served == url else None
    if outage_s is not None:
        _check_outage(outage_s, ours, server, url)
        rate = rate or orders / (2 * outage_s)
    run = f"spike-{secrets.token_hex(4)}"
    plan = Plan(url, orders, connections, run, rate, _headers(headers))
    if region is not None:
        plan = _signing(plan, region)
    ledger = ledger or Path(tempfile.gettempdir()) / f"{run}.jsonl"
    with refusals():
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        with runner:
            sent, account, window = runner.run(_spike(plan, server, outage_s, within, ledger))
        if ours:
            count_effects(plan, server.effects(run), account)
    _report(sent, account, window, ledger)
    sys.exit(account.exit_status or (3 if sent.given_up or sent.refused else 0))


def _check_outage(outage_s: float, served: str | None, server: LocalServer, url: str) -> None:
    if served is None:
        raise click.UsageError(
            f"--outage takes away the table of a data directory; {server.data} is not that of {url}: see --data"
        )
    if not 0 < outage_s <= limits.MAX_OUTAGE_S:
        raise click.UsageError(f"an outage lasts at most {limits.MAX_OUTAGE_S} s")


def _headers(lines: Sequence[str]) -> Mapping[str, str]:
    pairs = [line.partition(":") for line in lines]
    if not all(colon for _, colon, _ in pairs):
        raise click.UsageError("--header is 'Name: value'")
    headers = {name.strip(): value.strip() for name, _, value in pairs}
    if key := os.environ.get("DECOUPLED_KEY"):
        headers["authorization"] = f"Bearer {key}"
    return headers


def _signing(plan: Plan, region: str) -> Plan:
    with refusals():
        return dataclasses.replace(plan, sign=signer(region))


Window = tuple[float, float] | None  # of the outage, in time.monotonic()


async def _spike(
    plan: Plan, server: LocalServer, outage_s: float | None, within_s: float, ledger: Path
) -> tuple[Sent, Account, Window]:
    window: Window = None
    quarter = max(1, plan.orders // 4)
    await reach(plan)
    with _progress() as progress, io.TextIOWrapper(private.opened(ledger), line_buffering=True) as lines:
        accepting = progress.add_task("accepted", total=plan.orders)
        finishing = progress.add_task("finished", total=plan.orders)

        def on_answer(sent: Sent) -> None:
            nonlocal window
            progress.update(accepting, completed=len(sent.accepted))
            if outage_s is not None and window is None and len(sent.accepted) >= quarter:
                server.begin_outage(outage_s)
                window = (time.monotonic(), time.monotonic() + outage_s)

        try:
            async with session(plan) as client:
                sent = await send(plan, client, lines, on_answer)
                progress.update(finishing, total=len(sent.accepted))
                account = await reconcile(
                    plan, client, sent, within_s, lambda count: progress.update(finishing, completed=count)
                )
        finally:
            if window is not None:
                server.end_outage()
    return sent, account, window


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


# --- say it -----------------------------------------------------------------------


def _report(sent: Sent, account: Account, window: Window, ledger: Path) -> None:
    counts = account.statuses
    click.echo(
        f"accepted {account.accepted:,} = processed {counts['processed']:,} + rejected {counts['rejected']:,}"
        f" + queued {counts['queued']:,} + dead {counts['dead']:,}"
        + (f" + lost {counts['lost']:,}" * bool(account.lost))
    )
    how = "effects counted in the table" if account.effects_counted else "by id and by what each record says"
    click.echo(f"lost {len(account.lost)}, double {len(account.double)}, dead {len(account.dead)} ({how})")
    for problem in (account.lost + account.double + account.wrong)[:20]:
        click.echo(f"  {problem}")
    for answer, count in sent.refused.most_common(5):
        click.echo(f"refused {count:,}: {answer}")
    if sent.given_up or sent.tried_again:
        click.echo(f"tried again {sent.tried_again:,} times under the same key; given up {sent.given_up:,} orders")
    _report_latencies(sent, account, window)
    click.echo(f"ledger: {ledger}")


def _report_latencies(sent: Sent, account: Account, window: Window) -> None:
    if sent.accepted:
        began = min(accepted.sent_at for accepted in sent.accepted)
        ended = max(accepted.sent_at + accepted.took_s for accepted in sent.accepted)
        click.echo(f"accepted/s {len(sent.accepted) / max(ended - began, 0.001):,.0f}")
    phases = {"202, ms": [accepted.took_s * 1000 for accepted in sent.accepted]}
    if window is not None:
        start, end = window
        for name, first, last in (
            ("  before the outage", 0.0, start),
            ("  during it", start, end),
            ("  after it", end, float("inf")),
        ):
            phases[name] = [a.took_s * 1000 for a in sent.accepted if first <= a.sent_at < last]
    phases["end to end, ms"] = account.end_to_end_ms
    for name, values in phases.items():
        click.echo(f"{name:<20} {_percentiles(values)}")


def _percentiles(values: Sequence[float]) -> str:
    if not values:
        return "none"
    ranked = sorted(values)
    parts = [f"p{part} {ranked[min(len(ranked) - 1, len(ranked) * part // 100)]:,.1f}" for part in (50, 90, 99)]
    return f"{'  '.join(parts)}  max {ranked[-1]:,.1f}  ({len(ranked):,})"
