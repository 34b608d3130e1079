"""Fronts that are renewed while others end: there are as many as there should be in the end, each on a seat of its own.
In time that passes when nothing else is left to do."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from decoupled.core import limits
from decoupled.server.fronts.crew import Fronts
from decoupled.server.fronts.seats import EMPTY, Seats
from tests.support.virtual_time import run

SPAWN_S = 0.5
IMPORT_S = 1.0
OWN_TIME_S = 10.0  # until the clients of one that leaves have gone


class Front:
    """It needs a second to be ready, and ten to end in its own time."""

    proven = True
    troubles: tuple[()] = ()

    def __init__(self, crew: Any, seat: int) -> None:
        self.crew = crew
        self.seat = seat
        self.ready = self.gone = False
        self.leave_by = float("inf")

    @property
    def silent(self) -> int:
        return 0

    @silent.setter
    def silent(self, looks: int) -> None:
        """It says something again and again."""

    async def start(self) -> None:
        self.crew.loop.call_later(IMPORT_S, self._is_ready)

    def _is_ready(self) -> None:
        self.ready = not self.gone

    def leave(self, at_once: bool) -> None:
        assert not at_once or self.crew.stopping, "clients that wait would be dropped"
        self.crew.loop.call_later(0 if at_once else OWN_TIME_S, self.kill, "it was asked to")

    def kill(self, cause: str) -> None:
        if not self.gone:
            self.gone = True
            self.crew.loop.call_soon(self.crew.lost, self, cause)


class Crew(Fronts):
    """Of fronts without processes."""

    kind = Front
    stopping = False

    def _make(self) -> Any:
        return self.kind(self, self._seats.take())

    async def leave(self, gently_s: float = 0.0) -> None:
        self.stopping = True
        await super().leave(gently_s)

    def on_seats(self) -> bool:
        """Each of those that are there, and nobody else."""
        taken = [front.seat for front in (*self.members, *self.departing)]
        clients = self._seats._clients
        return len(set(taken)) == len(taken) and {seat for seat, some in enumerate(clients) if some != EMPTY} == set(
            taken
        )


@contextmanager
def crew_of(size: int) -> Iterator[Crew]:
    given: Any = dict
    nothing: Any = None
    with socket.socket() as listener:
        yield Crew(size, listener, given, nothing, nothing, nothing, asyncio.get_running_loop())


def test_one_that_ends_while_there_is_one_more_than_there_should_be_is_replaced() -> None:
    async def renewed() -> None:
        with crew_of(2) as crew:
            await crew.start()
            await asyncio.sleep(5)
            before = list(crew.members)
            crew.renew()
            await asyncio.sleep(1.5 * IMPORT_S)  # the first is replaced, and the second one's successor is starting
            assert len(crew.members) == 3
            next(front for front in crew.members if front.ready and front not in before).kill("it is killed")
            await asyncio.sleep(2 * IMPORT_S + limits.WORKER_RETRY_FIRST_S)
            assert crew.ready() == 2
            assert not set(before).intersection(crew.members)
            await crew.leave()

    run(renewed())


def test_those_that_are_being_started_are_renewed_too() -> None:
    made: list[Any] = []

    class Spawned(Front):
        async def start(self) -> None:
            made.append(self)
            await asyncio.sleep(SPAWN_S)
            await super().start()

    async def renewed() -> None:
        with crew_of(2) as crew:
            crew.kind = Spawned
            starting = asyncio.create_task(crew.start())
            await asyncio.sleep(0.5 * SPAWN_S)
            crew.renew()
            await starting
            await asyncio.sleep(10 * IMPORT_S)
            assert [front in crew.members for front in made] == [False, False, True, True]
            await crew.leave()

    run(renewed())


def test_a_seat_is_its_fronts_until_that_has_ended() -> None:
    async def renewed_often() -> None:
        with crew_of(3) as crew:
            await crew.start()
            await asyncio.sleep(5)
            for _ in range(6):
                crew.renew()
                for _ in range(25):
                    await asyncio.sleep(0.2)
                    assert crew.on_seats()
                    assert len(crew.departing) <= 3
            await asyncio.sleep(5 * OWN_TIME_S)
            await asyncio.sleep(OWN_TIME_S)
            assert crew.on_seats()
            assert not crew.departing
            await crew.leave()

    run(renewed_often())


def test_one_that_ends_before_its_turn_to_be_replaced_leaves_no_front_too_many() -> None:
    async def renewed_twice() -> None:
        with crew_of(2) as crew:
            await crew.start()
            await asyncio.sleep(5)
            crew.renew()
            await asyncio.sleep(3 * IMPORT_S)
            assert len(crew.departing) == 2
            crew.renew()  # and it waits for these to end
            crew.members[0].kill("it is killed")
            await asyncio.sleep(4 * OWN_TIME_S)
            assert len(crew.members) == crew.ready() == 2
            assert not crew.departing
            await crew.leave()

    run(renewed_twice())


def test_a_wish_while_fronts_are_renewed_is_met_after_that_and_many_are_one() -> None:
    async def renewed_twice() -> None:
        with crew_of(2) as crew:
            await crew.start()
            await asyncio.sleep(5)
            crew.renew()
            await asyncio.sleep(IMPORT_S / 2)
            for _ in range(5):
                crew.renew()
            seen = set()
            for _ in range(100):
                await asyncio.sleep(0.2)
                seen.update(crew.members)
            assert len(seen) == 3 * 2
            await crew.leave()

    run(renewed_twice())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such files")
def test_seats_need_no_disk() -> None:
    seats, file = Seats.make()
    with file:
        assert str(Path(f"/proc/self/fd/{file.fileno()}").readlink()).startswith("/memfd:")
        assert [seats.take(), seats.take()] == [0, 1]
