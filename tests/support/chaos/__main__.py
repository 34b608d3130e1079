"""`make chaos`: all that can go wrong around a server, again and again with other random numbers, until the time is up
or a promise is broken. Says a line a part: what was done and held, or what did not hold and how to see it again."""

from __future__ import annotations

import errno
import random
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from tests.support.chaos import crashes, disk_faults, power_cuts
from tests.support.server import ROOT, Server

KEPT = ROOT.resolve() / "build" / "chaos"  # where a round leaves what it did if a promise was broken
CUTS = 150  # of the power, in one recording
LIVES = 6  # that a recording has
LATEST_CALL = 60  # of a server that starts; soon after it listens


@dataclass(frozen=True, slots=True)
class Part:
    """`share` of the whole time, at most. A round works in an empty directory and says what it did; it raises at what
    does not hold."""

    name: str
    share: float
    round: Callable[[Path, int], Counter[str]]


@dataclass(frozen=True, slots=True)
class Command:
    """A part that is a program of its own, and should end by itself well within so many seconds. Without the time for
    it, it is left out, and that is said."""

    name: str
    arguments: tuple[str, ...]
    most_s: float


def _starts(directory: Path, seed: int) -> Counter[str]:
    choose = random.Random(seed)
    nth, error = choose.randint(1, LATEST_CALL), choose.choice((errno.EIO, errno.ENOSPC))
    refused = disk_faults.start(directory, nth, error)
    return Counter({"starts with a call of the disk that fails": 2, "refused in one line": refused})


def _disks(directory: Path, seed: int) -> Counter[str]:
    plan = disk_faults.PLANS[seed % len(disk_faults.PLANS)] if seed % 2 else disk_faults.some_plan(seed)
    return Counter({"disks that failed under load": 1, "202s": disk_faults.run(directory, plan, seed)})


def _power(directory: Path, seed: int) -> Counter[str]:
    power_cuts.record(directory, seed, power_cuts.some_endings(seed, LIVES))
    return Counter({"recordings": 1, "lives of servers": LIVES}) + power_cuts.check(directory, seed, CUTS)


def _crashes(directory: Path, seed: int) -> Counter[str]:
    points = tuple(random.Random(seed).sample(crashes.POINTS, 6))
    first, second = (Server(directory / name, *crashes.OPTIONS) for name in ("servers", "workers"))
    try:
        accepted = crashes.kill_servers(first, seed, points, at_random=6) + crashes.kill_workers(second, seed, kills=6)
    finally:
        first.end()
        second.end()
    return Counter({"servers killed": 12, "workers killed": 6, "202s": accepted})


def _fronts(directory: Path, seed: int) -> Counter[str]:
    server = Server(directory / "data", *crashes.OPTIONS)
    try:
        accepted = crashes.kill_fronts_and_servers(server, seed, fronts=70, servers=30)
    finally:
        server.end()
    return Counter({"fronts killed": 70, "servers killed": 30, "202s": accepted})


PARTS = (
    Part("failing-starts", 0.1, _starts),
    Part("failing-disks", 0.25, _disks),
    Part("power-cuts", 0.3, _power),
)
COMMANDS = (
    Command("clock-steps", ("-m", "pytest", "tests/server/test_clock_steps.py"), most_s=60),
    Command("fuzz", ("-m", "benchmarks.fuzz", "--requests", "15000"), most_s=90),
    Command("attacks", ("-m", "benchmarks.attack", "--together"), most_s=60),
)
FRONTS = Part("fronts", 0.15, _fronts)
REST = Part("crashes", 1.0, _crashes)  # takes the time that is left


@click.command(context_settings={"max_content_width": 100})
@click.option("--minutes", type=float, default=10.0, show_default=True, help="At most, all in all.")
@click.option("--seed", type=int, default=None, help="Of the first round of each part; drawn if it is not given.")
@click.option("--only", default=None, help="The name of one part.")
@click.option("--rounds", type=int, default=None, help="Of each part, at most.")
@click.option(
    "--record", type=click.Path(path_type=Path), help="Cut the power again in what a broken round left there."
)
def main(minutes: float, seed: int | None, only: str | None, rounds: int | None, record: Path | None) -> None:
    """Break everything around a server, and see that no promise is broken."""
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    if record is not None:
        sys.exit(0 if _held("power-cuts", seed, lambda: power_cuts.check(record, seed, CUTS)) else 1)
    click.echo(f"chaos with seed {seed}, {minutes:g} minutes at most")
    until = time.monotonic() + minutes * 60
    parts: list[Part | Command] = [*PARTS, *COMMANDS, FRONTS, REST]
    if sys.platform != "linux":
        click.echo(f"skipped, because the disk that fails is for Linux: {', '.join(part.name for part in PARTS)}")
        parts = [*COMMANDS, FRONTS, REST]
    sys.exit(0 if run(parts, seed, until, only, rounds) else 1)


def run(
    parts: Sequence[Part | Command], seed: int, until: float, only: str | None = None, rounds: int | None = None
) -> bool:
    """Whether every part held, up to the first that did not."""
    chosen = [part for part in parts if only in (None, part.name)]
    if not chosen:
        raise click.UsageError(f"there is no part {only!r}; there are {', '.join(part.name for part in parts)}")
    whole_s = until - time.monotonic()
    for part in chosen:
        if isinstance(part, Command):
            held = _run_command(part, until)
        else:
            share_s = whole_s if only else whole_s * part.share
            held = _run_rounds(part, seed, min(until, time.monotonic() + share_s), rounds)
        if not held:
            return False
    return True


def _run_rounds(part: Part, seed: int, until: float, rounds: int | None) -> bool:
    """Rounds as long as there is time for one more like the longest so far, and at least one."""
    began, longest_s, number, counts = time.monotonic(), 0.0, 0, Counter[str]()
    while number == 0 or (number != rounds and time.monotonic() + longest_s < until):
        directory = KEPT / f"{part.name}-{seed + number}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        round_began = time.monotonic()

        def once(directory: Path = directory, number: int = number) -> None:
            counts.update(part.round(directory, seed + number))

        if not _held(part.name, seed + number, once):
            click.echo(f"  what it left: {directory}")
            return False
        shutil.rmtree(directory)
        longest_s = max(longest_s, time.monotonic() - round_began)
        number += 1
    done = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    click.echo(f"{part.name}: held in {number} rounds, {time.monotonic() - began:.0f} s: {done}")
    return True


def _held(name: str, seed: int, once: Callable[[], object]) -> bool:
    try:
        once()
    except Exception:  # noqa: BLE001  whatever it was, it is told, and the run has failed
        click.echo(traceback.format_exc())
        click.echo(f"{name}: BROKEN with seed {seed}")
        click.echo(f"  again: make chaos ARGS='--only {name} --seed {seed} --rounds 1'")
        if name == "power-cuts":
            click.echo(f"  the same recording: make chaos ARGS='--record {KEPT / f'{name}-{seed}'} --seed {seed}'")
        return False
    return True


def _run_command(command: Command, until: float) -> bool:
    """What it prints is shown when it fails."""
    began = time.monotonic()
    if until - began < command.most_s:
        click.echo(f"{command.name}: left out, it may need {command.most_s:g} s")
        return True
    try:
        ended = subprocess.run(
            [sys.executable, *command.arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=command.most_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        click.echo(f"{error.output}\n{command.name}: BROKEN, it did not end within {command.most_s:g} s")
        return False
    if ended.returncode:
        click.echo(f"{ended.stdout}\n{command.name}: BROKEN, exit status {ended.returncode}")
        click.echo(f"  again: .venv/bin/python {' '.join(command.arguments)}")
        return False
    last = ended.stdout.strip().splitlines()[-1:]
    click.echo(f"{command.name}: held, {time.monotonic() - began:.0f} s: {' '.join(last)}")
    return True


if __name__ == "__main__":
    main()
