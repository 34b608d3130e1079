"""Fixtures that several test modules share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import engines, ministack
from tests.support.longest_first import longest_first
from tests.support.server import Client, Server
from tests.support.signing import endpoint, front

__all__ = ["endpoint", "front"]

collect_ignore_glob = ["support/data/*"]  # projects of others, with tests of their own

# How long an example takes says only what else the machine does.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# What starts in the background ignores SIGINT (`make test &`), and so would all that the tests start: those that press
# Ctrl-C would wait in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The same order in each process, as xdist asks for."""
    longest_first(items)


@pytest.fixture(scope="session")
def ministack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One MiniStack for the whole session."""
    with ministack.running(tmp_path_factory.mktemp("ministack")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module", params=engines.NAMES)
def new_engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], engines.Engine]]:
    """Makes engines, one kind after the other: a test that asks for it runs on all of them."""
    if request.param == "moto":
        yield from engines.in_process()
    elif request.param == "ministack":
        yield from engines.over_http(request.getfixturevalue("ministack_url"))
    else:
        directory: Path = tmp_path_factory.mktemp("embedded")
        numbers = iter(range(10_000))

        def make() -> engines.Engine:
            path = directory / str(next(numbers))
            path.mkdir()
            return engines.embedded(path)

        yield make


@pytest.fixture
def engine(new_engine: Callable[[], engines.Engine]) -> engines.Engine:
    """An empty queue and an empty table."""
    return new_engine()


@pytest.fixture(scope="module")
def new_moto_engine() -> Iterator[Callable[[], engines.AwsEngine]]:
    """Makes AWS engines in the test process."""
    yield from engines.in_process()


@pytest.fixture
def moto_engine(new_moto_engine: Callable[[], engines.AwsEngine]) -> engines.AwsEngine:
    """An empty queue and an empty table of AWS, in the test process."""
    return new_moto_engine()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A connection to the module's own server."""
    with Client(server) as client:
        yield client
