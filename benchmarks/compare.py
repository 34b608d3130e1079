"""`make bench BASE=commit`: this tree beside an earlier commit, in one run: what was accepted and what was processed a
second, as ratios. Each is installed as its own README says, into a virtual environment of its own, and both serve all
the while; one is loaded at a time, in turn, until its queue is empty. A ratio is the median of the rounds'."""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.bench import processed_per_s, wait_until_empty, wrk
from tests.support.server import ROOT, Server, serving

CONNECTIONS = (32, 256)
WARM_S = 2


def main() -> None:
    """Measure both, print the ratios; exit with 1 if one is below `--least`."""
    parser = argparse.ArgumentParser(prog="make bench BASE=commit", description=__doc__)
    parser.add_argument("base", help="the earlier commit")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=5, help="of each load")
    parser.add_argument("--least", type=float, default=0.0, help="fail if a ratio is below")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing; it makes the load. Debian, Ubuntu: sudo apt-get install wrk. macOS: brew install wrk")
    (ROOT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "build"))
    try:
        with _installed(arguments.base, directory / "base") as program:
            ratios = _rounds(directory, program, arguments.rounds, arguments.seconds)
    finally:
        shutil.rmtree(directory)
    if min(ratios) < arguments.least:
        sys.exit(f"a ratio is below {arguments.least}")


@contextmanager
def _installed(commit: str, checkout: Path) -> Iterator[Path]:
    """The `decoupled` command of that commit."""
    _run("git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(checkout), commit)
    try:
        print(f"... installing {commit}", file=sys.stderr, flush=True)
        _run("make", "--quiet", "-C", str(checkout), ".venv/run.stamp")
        yield checkout / ".venv" / "bin" / "decoupled"
    finally:
        _run("git", "-C", str(ROOT), "worktree", "remove", "--force", str(checkout))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def _rounds(directory: Path, program: Path, rounds: int, seconds: int) -> list[float]:
    """The median ratios, printed: accepted and processed for each number of connections."""
    medians = []
    with ExitStack() as stack:
        base = stack.enter_context(serving(directory / "before", "--log-level", "WARNING", program=(str(program),)))
        this = stack.enter_context(serving(directory / "after", "--log-level", "WARNING"))
        for server in (base, this):
            _load(server, CONNECTIONS[0], WARM_S)
        for connections in CONNECTIONS:
            accepted, processed = [], []
            for number in range(rounds):
                order = (base, this) if number % 2 else (this, base)
                measured = {server.port: _load(server, connections, seconds) for server in order}
                before, after = measured[base.port], measured[this.port]
                accepted.append(after[0] / before[0])
                processed.append(after[1] / before[1])
                print(
                    f"{connections} connections, round {number + 1}: accepted/s {before[0]:,.0f} → {after[0]:,.0f}"
                    f" ({accepted[-1]:.2f}), processed/s {before[1]:,.0f} → {after[1]:,.0f} ({processed[-1]:.2f})",
                    flush=True,
                )
            for name, ratios in (("accepted", accepted), ("processed", processed)):
                low, _, high = statistics.quantiles(ratios, n=4)
                median = statistics.median(ratios)
                medians.append(median)
                print(f"{connections} connections, {name}: {median:.3f} of before (quartiles {low:.2f}, {high:.2f})")
    return medians


def _load(server: Server, connections: int, seconds: int) -> tuple[float, float]:
    """Accepted and processed a second, while it was loaded."""
    since_ms = time.time_ns() // 1_000_000
    load = wrk(server.url, connections, seconds)
    processed = processed_per_s(server.data, since_ms)
    wait_until_empty(server.data)
    return load.per_s, processed


if __name__ == "__main__":
    main()
