"""What `make bench-lambda` prints, and whether its targets are met."""

from __future__ import annotations

import os
import platform
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lambda_costs import (
    BATCHES,
    CONCURRENCY,
    DYNAMODB_MS,
    POLLERS,
    SQS_MS,
    Invoked,
    Side,
    bought,
    dollars,
    exhausted_per_s,
    recorded,
)
from decoupled.plan.prices import price_list

ROOT = Path(__file__).parent.parent
# Of the usual way's. What no function can save is three fifths of that already (`bought`): two requests to API Gateway,
# three invocations, a message sent, received and deleted, a record written and read. So there is a target for the rest.
MOST_START_UP, MOST_WRITES, MOST_DOLLARS, MOST_BEYOND = 0.6, 1 / 3, 0.72, 0.3


@dataclass(frozen=True)
class Measured:
    ours: Side
    usual: Side
    rss_mb: dict[str, list[float]]  # ours and the usual way's, by event

    @property
    def both(self) -> tuple[Side, Side]:
        return self.ours, self.usual


def report(measured: Measured) -> None:
    _machine()
    print(f"{'':44}{'decoupled':>12}{'usual way':>12}{'ratio':>8}")
    for name in ("receiver", "processor", "status"):
        line(f"{name}: start-up, ms of CPU", *(side.start_ms[name] for side in measured.both))
    _function("receiver", measured.ours.receiver, measured.usual.receiver, 1, measured.rss_mb["receiver"])
    for batch in BATCHES:
        name = f"processor of {batch}"
        _function(name, measured.ours.processor[batch], measured.usual.processor[batch], batch, measured.rss_mb[name])
    _function("status", measured.ours.status, measured.usual.status, 1, measured.rss_mb["status"])
    line("bytes of access log an order", *(side.access_bytes for side in measured.both))
    line("bytes that Lambda logs of an invocation", *(side.lambda_bytes for side in measured.both))
    for batch in BATCHES:
        print(f"\n$ a million orders, batches of {batch}")
        _by_service(measured, batch)
    print("\n$ a million orders, by rate")
    for what, (ours, usual) in scenarios(measured).items():
        line(what, ours, usual)
    _assumptions()


def _assumptions() -> None:
    prices = price_list()
    print(
        f"""
Each order is asked for once by GET; what functions and API Gateway log is in it. Prices of {prices.region},
{prices.as_of}, first tier, without free units. A call of SQS is assumed to take {SQS_MS:.0f} ms, of DynamoDB
{DYNAMODB_MS:.0f} ms. From the rate named on, {CONCURRENCY} processors at once have no rest, and batches grow; with a
batching window of a second, {POLLERS} pollers fill batches of 10 from {10 * POLLERS}/s on. X-Ray records a request
a second, and 5 % of the others. Storage, alarms, metrics and polls of an idle queue are by the month, and not in it."""
    )


def scenarios(measured: Measured) -> dict[str, tuple[float, float]]:
    """Dollars a million orders at each rate, ours and the usual way's."""

    def both(batch: int, cold: bool = False, traced: float = 0.0) -> tuple[float, float]:
        ours, usual = (sum(dollars(side, batch, cold, traced).values()) for side in measured.both)
        return ours, usual

    found = {"one an hour, each starts three functions": both(1, cold=True)}
    for before, batch in zip((None, *BATCHES), BATCHES, strict=False):
        rate = "few" if before is None else f"{exhausted_per_s(measured.ours, before):,.0f}/s"
        found[f"{rate}: batches of {batch}"] = both(batch)
    found["few, X-Ray on"] = both(1, traced=recorded(1))
    found["10,000/s, X-Ray on"] = both(10, traced=recorded(10_000))
    return found


def verdict(measured: Measured) -> int:
    """0 if the targets are met."""
    ours, usual = measured.both
    starts = {name: (ours.start_ms[name], usual.start_ms[name]) for name in ours.start_ms}
    starts["all three"] = (sum(ours.start_ms.values()), sum(usual.start_ms.values()))
    ratios = {name: starts[name][0] / starts[name][1] for name in ("receiver", "processor", "all three")}
    missed = [
        f"start-up of {name} is {ratio:.2f} of the usual way's; {MOST_START_UP} is the target"
        for name, ratio in ratios.items()
        if ratio > MOST_START_UP
    ]
    for batch in BATCHES:
        written, usually = (side.processor[batch].counts["DynamoDB writes"] for side in measured.both)
        if written > MOST_WRITES * usually:
            missed.append(f"more than a third of the usual way's writes to DynamoDB, in batches of {batch}")
        missed += _dear(measured, batch)
    print("\n" + ("\n".join(missed) or "Targets met."))
    return len(missed)


def _dear(measured: Measured, batch: int) -> list[str]:
    cost, usual_cost = (sum(dollars(side, batch).values()) for side in measured.both)
    ratios = {
        "in all": (cost / usual_cost, MOST_DOLLARS),
        "beyond what both must buy": ((cost - bought(batch)) / (usual_cost - bought(batch)), MOST_BEYOND),
    }
    return [
        f"dollars in batches of {batch}, {what}: {ratio:.2f} of the usual way's; {most} is the target"
        for what, (ratio, most) in ratios.items()
        if ratio > most
    ]


def line(what: str, ours: float, usual: float) -> None:
    ratio = f"{ours / usual:8.2f}" if usual else ""
    print(f"{what:44}{ours:12.2f}{usual:12.2f}{ratio}")


def _machine() -> None:
    archive = ROOT / "build/lambda.zip"
    unpacked = sum(entry.file_size for entry in zipfile.ZipFile(archive).infolist())
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs, {commit.stdout.strip()}")
    print(f"zip for Lambda: {archive.stat().st_size:,} bytes, {unpacked:,} unpacked; one for all three functions\n")


def _function(name: str, ours: Invoked, usual: Invoked, orders: int, rss_mb: list[float]) -> None:
    line(f"{name}: CPU an order, ms", ours.cpu_ms / orders, usual.cpu_ms / orders)
    for what in sorted(ours.counts.keys() | usual.counts.keys()):
        line(f"{name}: {what} an order", ours.counts.get(what, 0) / orders, usual.counts.get(what, 0) / orders)
    line(f"{name}: bytes logged an order", ours.log_bytes / orders, usual.log_bytes / orders)
    line(f"{name}: MB at most", *rss_mb)


def _by_service(measured: Measured, batch: int) -> None:
    ours, usual = (dollars(side, batch) for side in measured.both)
    for service, cost in ours.items():
        line(f"  {service}", cost, usual[service])
    line("  in all", sum(ours.values()), sum(usual.values()))
    line("  of it beyond what both must buy", *(sum(cost.values()) - bought(batch) for cost in (ours, usual)))
