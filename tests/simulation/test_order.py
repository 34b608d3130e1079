"""Thousands of seeded histories of an ordered workload, with injected faults: nothing is processed before what was
accepted before it in its group, and nothing twice. A failure names its seed; to replay that one:
`DECOUPLED_SEED=17 make test ARGS=tests/simulation/test_order.py`."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from unittest import mock

import pytest

from decoupled.engines.sqlite import ordered
from decoupled.pipeline import settlement
from tests.support.order import History

SEED = os.environ.get("DECOUPLED_SEED")
HISTORIES = 1 if SEED else int(os.environ.get("DECOUPLED_HISTORIES", "1000"))
FIRST_SEED = int(SEED) if SEED else random.SystemRandom().randrange(10**9)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with mock.patch.object(settlement.log, "disabled", True):
        yield


def run(histories: int, first_seed: int = FIRST_SEED) -> Counter[str]:
    """Run histories until one breaks the order; its seed is in the error."""
    counts: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + histories):
        history = History(seed, counts)
        try:
            history.run()
        except BaseException as error:
            error.add_note(f"DECOUPLED_SEED={seed} replays this history")
            raise
        finally:
            history.database.close()
    return counts


def test_no_history_has_a_message_out_of_turn(capsys: pytest.CaptureFixture[str]) -> None:
    counts = run(HISTORIES)
    with capsys.disabled():
        print(f"\n  order: seeds from {FIRST_SEED}, {HISTORIES} histories, 0 inversions, {dict(counts)}")  # noqa: T201
    if HISTORIES >= 1_000:  # the order held, but not for want of trouble
        assert all(counts[what] > HISTORIES for what in ("accepted", "processed", "delivered again"))
        assert all(counts[what] > HISTORIES / 8 for what in ("rejected", "dead", "redriven", "settled again"))


# --- the simulation notices what is broken on purpose ---------------------------

_VISIBLE_FIRST = ordered._HEAD.replace("status = 'queued'", "status = 'queued' AND visible_at <= :now")
_BESIDE_ANOTHER = ordered._HEAD.replace("visible_at > :now", "visible_at > :now + 1e9")


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        pytest.param("_HEAD", _VISIBLE_FIRST, id="whoever is visible goes"),
        pytest.param("_HEAD", _BESIDE_ANOTHER, id="what is redriven goes at once"),
        pytest.param("follows", lambda *_: False, id="what is fresh goes at once"),
    ],
)
def test_the_simulation_notices_when(name: str, broken: object) -> None:
    with (
        mock.patch.object(ordered, name, broken),
        pytest.raises(AssertionError, match=r"(before|beside) "),
    ):
        run(500, first_seed=1)
