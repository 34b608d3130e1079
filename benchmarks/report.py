"""What was measured, as Markdown: the tables, each target with PASS or FAIL, and the machine, commit and command that a
number needs to mean something. Measures nothing of the system itself."""

from __future__ import annotations

import operator
import os
import platform
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.bench import Measured
    from benchmarks.loads import Load

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
COMPARED = "## Beside an earlier commit"  # opens the second part of RESULTS.md, comparison.py's
SYNCS = 200

Target = tuple[str, float, str]
"""What it is, what was measured, and what is wanted: ">= 0.90", "< 200"."""
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}

METHOD = """\
Orders are real ones of 1 to 4 lines, each validated, durable (fsynced) before its 202, and processed by two workers
while the load runs. The yardstick is a bare ASGI application on uvicorn (uvloop, httptools, no default headers) that
does nothing and answers the same POST. The ceiling is decoupled's own HTTP server answering it, with no queue behind.
Before each load the queue is empty, and the other servers idle."""
BUSY = 0.25  # of the cores in use before the start: others' work is in the numbers


def render(measured: Measured, disk: str, load_before: float, command: str) -> str:
    """The whole report."""
    return "\n".join(
        [
            "# Results",
            "",
            *heading(command, "load generator (wrk, one thread)", disk, load_before),
            "",
            METHOD,
            f"Medians of {len(measured.accepted[32])} rounds; a ratio is the median of the rounds' own ratios.",
            "",
            *_steady(measured),
            "",
            *_end_to_end(measured),
            "",
            *_cpu_of_an_order(measured),
            "",
            *_backlog(measured),
            "",
            f"Peak resident memory of the main process, over everything above: {measured.peak_rss_mb:.0f} MB.",
            "",
            *_targets(measured),
        ]
    )


def heading(command: str, beside: str, disk: str, load_before: float) -> list[str]:
    """What a number needs to mean something: command, commit, machine and what else ran there."""
    return [
        f"`{command}` at commit {_commit()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        "",
        f"- Machine: {_cpu()}, {os.cpu_count()} cores, {beside} on the same machine",
        f"- {platform.system()} {platform.release()}, Python {platform.python_version()},"
        f" SQLite {sqlite3.sqlite_version} (WAL, synchronous=FULL)",
        f"- Disk: {disk}",
        f"- Load average before the start: {_load_before(load_before)}",
    ]


def _steady(measured: Measured) -> list[str]:
    rows = [
        "| connections | yardstick/s | ceiling/s | accepted/s | of the yardstick | p50 of the 202 | p99 of the 202 |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for connections, loads in measured.accepted.items():
        rows.append(
            f"| {connections} | {_median(measured.yardstick[connections]):,.0f}"
            f" | {_median(measured.ceiling[connections]):,.0f} | {_median(loads):,.0f}"
            f" | {_ratio(measured, connections):.2f}"
            f" | {_median(loads, 'p50_ms'):.1f} ms | {_median(loads, 'p99_ms'):.1f} ms |"
        )
    return rows


def _end_to_end(measured: Measured) -> list[str]:
    assert measured.minute is not None  # noqa: S101  it was measured before anything is rendered
    return [
        "| end to end, 64 connections | accepted/s | processed/s in the same time | of accepted |",
        "|---|---:|---:|---:|",
        f"| {measured.minute.requests:,} orders | {measured.minute.per_s:,.0f}"
        f" | {measured.minute_processed_per_s:,.0f} | {_processed_share(measured):.2f} |",
    ]


def _cpu_of_an_order(measured: Measured) -> list[str]:
    costs = [f"{us:.1f} us" for us in measured.minute_cpu_us.values()]
    return [
        f"| CPU of an order | {' | '.join(measured.minute_cpu_us)} |",
        f"|---|{'---:|' * len(costs)}",
        f"| until it is processed | {' | '.join(costs)} |",
    ]


def _backlog(measured: Measured) -> list[str]:
    rows = [
        "| messages waiting at the start, 64 connections | accepted/s | processed/s | both |",
        "|---:|---:|---:|---:|",
    ]
    for waiting in sorted(measured.backlog):
        accepted, processed = _backlog_medians(measured, waiting)
        rows.append(f"| {waiting:,} | {accepted:,.0f} | {processed:,.0f} | {accepted + processed:,.0f} |")
    return rows


def _targets(measured: Measured) -> list[str]:
    few, many = (measured.backlog[waiting] for waiting in sorted(measured.backlog))
    accepted = statistics.median(m[0] / f[0] for f, m in zip(few, many, strict=True))
    both = statistics.median(sum(m) / sum(f) for f, m in zip(few, many, strict=True))
    p99_ms = _median(measured.accepted[64], "p99_ms")
    targets = [
        ("accepted orders at 32 connections, of the yardstick", _ratio(measured, 32), ">= 0.45"),
        ("accepted orders at 256 connections, of the yardstick", _ratio(measured, 256), ">= 0.65"),
        ("processed of accepted, over the minute", _processed_share(measured), ">= 0.90"),
        ("p99 of the 202 at 64 connections, ms", p99_ms, "< 60"),
        ("accepted with the large backlog, of that with the small one", accepted, ">= 0.90"),
        ("accepted and processed with the large backlog, of that with the small one", both, ">= 0.90"),
        ("peak resident memory of the main process, MB", measured.peak_rss_mb, "< 200"),
    ]
    return verdicts(targets)


def verdicts(targets: Sequence[Target]) -> list[str]:
    """The table of what was measured and what was wanted."""
    rows = ["| target | measured | wanted | |", "|---|---:|---:|---|"]
    for name, value, wanted in targets:
        verdict = "PASS" if met((name, value, wanted)) else "**FAIL**"
        rows.append(f"| {name} | {value:,.2f} | {wanted} | {verdict} |")
    return rows


def met(target: Target) -> bool:
    """Is the number what was wanted?"""
    _, value, wanted = target
    sign, _, bound = wanted.partition(" ")
    return _COMPARISONS[sign](value, float(bound.replace(",", "")))


def _median(loads: list[Load], name: str = "per_s") -> float:
    numbers: list[float] = [getattr(load, name) for load in loads]
    return statistics.median(numbers)


def _ratio(measured: Measured, connections: int) -> float:
    """Of loads that followed each other: the machine's speed changes from minute to minute."""
    rounds = zip(measured.accepted[connections], measured.yardstick[connections], strict=True)
    return statistics.median(accepted.per_s / yardstick.per_s for accepted, yardstick in rounds)


def _processed_share(measured: Measured) -> float:
    return measured.minute_processed_per_s / measured.minute.per_s if measured.minute else 0.0


def _backlog_medians(measured: Measured, waiting: int) -> tuple[float, float]:
    accepted, processed = zip(*measured.backlog[waiting], strict=True)
    return statistics.median(accepted), statistics.median(processed)


def keep(text: str) -> None:
    """In RESULTS.md, in place of what was there of its kind; the other kind stays."""
    old = RESULTS.read_text() if RESULTS.exists() else ""
    RESULTS.write_text(kept(old, text))


def kept(old: str, text: str) -> str:
    """The page with a new comparison, or with all of it new but the comparison."""
    results, heading_, comparison = old.partition(COMPARED)
    results, comparison = (results, text) if text.startswith(COMPARED) else (text, heading_ + comparison)
    return "\n\n".join(part.strip() for part in (results, comparison) if part.strip()) + "\n"


# --- where --------------------------------------------------------------------


def disk(directory: Path) -> str:
    """The file system under a directory, and how long it takes to make 4 KiB durable."""
    times_ms = []
    descriptor = os.open(directory / "sync", os.O_RDWR | os.O_CREAT)
    for _ in range(SYNCS):
        os.write(descriptor, b"x" * 4096)
        started = time.perf_counter()
        os.fsync(descriptor)
        times_ms.append((time.perf_counter() - started) * 1000)
    os.close(descriptor)
    (directory / "sync").unlink()
    kind = _run("df", "--output=fstype", str(directory)).split()[-1:]
    return f"{''.join(kind) or 'unknown file system'}, fsync of 4 KiB {statistics.median(times_ms):.2f} ms (median)"


def _load_before(load: float) -> str:
    if load <= BUSY * (os.cpu_count() or 1):
        return f"{load:.2f}"
    return f"{load:.2f}. **The machine was busy with other work: these numbers are not to be quoted.**"


def _commit() -> str:
    changed = " with changes" if _run("git", "status", "--porcelain", "--untracked-files=no") else ""
    return (_run("git", "rev-parse", "--short", "HEAD") or "unknown") + changed


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
