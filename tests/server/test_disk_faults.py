"""A disk that fails under a server that is busy, and under one that starts: what cannot be written is refused and told,
nothing hangs, and every 202 is in the store when the disk works again. `make chaos` does more of it, for longer."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from tests.support.chaos import disk_faults
from tests.support.chaos.disk import needs_the_shim
from tests.support.chaos.disk_faults import PLANS, Plan

pytestmark = needs_the_shim


@pytest.fixture
def seed() -> int:
    """Of this run."""
    chosen = random.SystemRandom().randrange(1_000_000)
    print(f"seed {chosen}")  # noqa: T201  shown when the test fails
    return chosen


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name.replace(" ", "_"))
def test_whatever_the_disk_does_every_202_is_in_the_store(plan: Plan, seed: int, tmp_path: Path) -> None:
    assert disk_faults.run(tmp_path, plan, seed) >= 2 * disk_faults.SOME


@pytest.mark.parametrize(("nth", "error"), [(20, errno.EIO), (57, errno.ENOSPC)])
def test_a_start_on_a_disk_that_fails_is_refused_in_one_line(nth: int, error: int, tmp_path: Path) -> None:
    """The next one works, on what that has left."""
    disk_faults.start(tmp_path, nth, error, rounds=1)
