"""`make bench-watched`: what it costs to be looked at: orders beside the same server that counts nothing, beside one
whose page is open, and beside one whose metrics are scraped. On a real `decoupled serve`, in turn with the same
without. Prints what was measured beside what is wanted, and exits with 1 if a number is missed; `--write` keeps it in
WATCHED.md."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from benchmarks import loads
from benchmarks.parts import Benchmark, of_loads
from benchmarks.report import Target
from tests.support.server import LAUNCH, Server, serving

METHOD = """\
Each load on a server that is looked at has one without beside it, in turn; a ratio is the median of the rounds'
ratios. A page that is open is what it asks for: how it is, once a second, and the last hour, once a minute; what the
browser itself needs of the machine is not in it. Metrics are asked for once a second, which is fifteen times as often
as usual."""
CONNECTIONS = (32, 256)
LATE_S = 10.0  # for an answer

Asked = dict[str, float]
"""Paths, and after how many seconds each is asked for again."""


def counted(directory: Path, seconds: int, rounds: int) -> list[Target]:
    """With metrics, and with a server in which nobody counts or measures."""
    with (
        serving(directory / "without", "--log-level", "WARNING", program=(*LAUNCH, "uncounted", "0")) as without,
        serving(directory / "with", "--log-level", "WARNING") as with_,
    ):
        return [_ratio("with metrics", (without, None), (with_, None), of, seconds, rounds) for of in CONNECTIONS]


def page(directory: Path, seconds: int, rounds: int) -> list[Target]:
    """With a page open."""
    return _looked_at(
        directory / "page", "with a page open", {"/-/live": 1.0, "/-/history?seconds=3600": 60.0}, seconds, rounds
    )


def scraped(directory: Path, seconds: int, rounds: int) -> list[Target]:
    """With a scrape each second."""
    return _looked_at(
        directory / "scraped", "with a scrape of the metrics each second", {"/metrics": 1.0}, seconds, rounds
    )


PARTS: dict[str, Callable[[Path, int, int], list[Target]]] = {"counted": counted, "page": page, "scraped": scraped}


def _looked_at(directory: Path, how: str, asked: Asked, seconds: int, rounds: int) -> list[Target]:
    with serving(directory, "--log-level", "WARNING") as server:
        return [_ratio(how, (server, None), (server, asked), of, seconds, rounds) for of in CONNECTIONS]


def _ratio(
    how: str,
    without: tuple[Server, None],
    with_: tuple[Server, Asked | None],
    connections: int,
    seconds: int,
    rounds: int,
) -> Target:
    """Orders accepted a second, of those without."""
    ratios = []
    for number in range(rounds + 1):
        found: list[float] = [0.0, 0.0]
        for place in (0, 1) if number % 2 else (1, 0):
            server, asked = (without, with_)[place]
            with nullcontext() if asked is None else _asking(server, asked):
                found[place] = loads.wrk(server.url, connections, seconds).per_s
            loads.wait_until_empty(server.data)
        if number:  # the first one warms
            ratios.append(found[1] / found[0])
    return f"orders accepted {how}, of those without, {connections} connections", statistics.median(ratios), ">= 0.95"


@contextmanager
def _asking(server: Server, asked: Asked) -> Iterator[None]:
    """For these, each as often as it says, in seconds. Ends the benchmark at an answer that is none."""
    over, wrong = threading.Event(), list[str]()

    def ask(path: str, every_s: float) -> None:
        while not over.is_set():
            began = time.monotonic()
            answer = server.ask("GET", path)
            if answer.status != 200:
                wrong.append(f"{path} was answered {answer.status}")
            over.wait(max(0.0, began + every_s - time.monotonic()))

    threads = [threading.Thread(target=ask, args=each, daemon=True) for each in asked.items()]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join(LATE_S)
    if wrong:
        sys.exit(wrong[0])


def main() -> None:
    """Measure, print, and perhaps keep; exit with 1 if a number is missed."""
    benchmark = Benchmark("bench-watched", __doc__, "Watched", "WATCHED.md", "clients", METHOD)
    of_loads(benchmark, PARTS, seconds=5, rounds=7)


if __name__ == "__main__":
    main()
