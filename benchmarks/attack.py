"""`make attack`: each attack of tests/support/attacks.py, and then all at once, beside an honest client that asks 100
times a second. Prints what the honest client got, and the most memory that the main process ever had; exits with 1 if
that is not what we promise. The attackers come from the honest client's own address, as through a proxy: nothing but
what they do tells them apart."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from tests.support.attacks import ATTACKS, attacking, large_record
from tests.support.honest import Honest
from tests.support.server import DECOUPLED, ROOT, serving

PER_S = 100
P99_S = 1.0  # that the honest client may see
REFUSED = 0.01  # of its requests, with 503 and Retry-After
RSS_MB = 200.0


def main() -> None:
    """Attack, print; exit with 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="make attack", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="of each attack")
    parser.add_argument("--source", default="127.0.0.1", help="the attackers' address")
    parser.add_argument("--only", nargs="*", choices=ATTACKS, help="these alone, one after the other")
    parser.add_argument("--together", action="store_true", help="all at once, and none by itself")
    parser.add_argument("--program", default=str(DECOUPLED), help="another `decoupled` command, of an earlier commit")
    arguments = parser.parse_args()
    alone = [] if arguments.together else [[name] for name in arguments.only or ATTACKS]
    runs = alone + ([] if arguments.only else [list(ATTACKS)])
    (ROOT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="attack-", dir=ROOT / "build"))  # beside the sources: on a real disk
    try:
        kept = [_run(directory / "-".join(names)[:40], names, arguments) for names in runs]
    finally:
        shutil.rmtree(directory)
    if not all(kept):
        sys.exit("a promise was broken")


def _run(data: Path, names: list[str], arguments: argparse.Namespace) -> bool:
    with serving(data, "--log-level", "WARNING", program=(arguments.program,)) as server:
        honest = Honest(server)
        record = large_record(server)
        with attacking(server, *names, seconds=arguments.seconds, source=arguments.source, record=record):
            asyncio.run(honest.ask(PER_S, arguments.seconds))
        return _told("all at once" if len(names) > 1 else names[0], honest, server.peak_rss_mb())


def _told(what: str, honest: Honest, rss_mb: float) -> bool:
    """Print it; whether the promises were kept."""
    ms = {kind: honest.p99_s(kind) * 1000 for kind in honest.took_s}
    kept = max(ms.values()) < P99_S * 1000 and rss_mb < RSS_MB
    kept &= honest.refused < REFUSED * honest.asked and honest.only_polite_refusals
    print(
        f"{what:>20}: p99 of orders {ms['order']:,.0f} ms, of /health on new connections {ms['health']:,.0f} ms;"
        f" {honest.told()}; peak RSS {rss_mb:.0f} MB: {'kept' if kept else 'BROKEN'}",
        flush=True,
    )
    return kept


if __name__ == "__main__":
    main()
