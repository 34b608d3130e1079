"""`decoupled check --data`: whether what is dead on one machine would be understood by the workloads here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from decoupled.core.outcomes import Failure
from tests.support import dead_letters
from tests.support.engines import embedded
from tests.support.server import DECOUPLED

TAKES_IT = """
from msgspec import Struct

from decoupled import Effects, Message, Workload


class Order(Struct):
    bad: bool


def process(order: Order, message: Message) -> Effects:
    return Effects({})


WORKLOAD = Workload("orders", Order, process)
"""


def check(data: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [DECOUPLED, "check", "--data", data, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def buried(data: Path, failure: Failure) -> str:
    """The id of a dead letter that is no order."""
    data.mkdir()
    engine = embedded(data)
    message = dead_letters.bury(engine, failure)
    engine.table.database.close()
    return message.id


def test_a_dead_letter_that_would_not_be_understood_is_told_by_its_id(data: Path) -> None:
    message_id = buried(data, dead_letters.POISON)
    status, printed = check(data, "--workloads", "orders")
    assert status == 1
    assert f"dead letter {message_id}" in printed
    assert "1 differences would break" in printed
    status, printed = check(data, "--workloads", "readings")
    assert status == 1
    assert "it is not served here" in printed


def test_one_that_is_understood_is_none(data: Path, tmp_path: Path) -> None:
    buried(data, dead_letters.POISON)
    (tmp_path / "orders.py").write_text(TAKES_IT)
    assert check(data, "--workloads", str(tmp_path / "orders.py")) == (
        0,
        "What was accepted would be understood here.\n",
    )


def test_what_is_dead_because_it_was_never_understood_does_not_count(data: Path) -> None:
    buried(data, Failure("failed", "ValidationError", "Object missing required field `lines`"))
    assert check(data, "--workloads", "orders")[0] == 0


def test_a_system_has_to_be_named() -> None:
    done = subprocess.run([DECOUPLED, "check"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--against STACK, or --data DIR" in done.stderr
