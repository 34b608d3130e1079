"""Which states of a move follow which; and that a door which could not be closed for good is open again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product
from typing import Any

import msgspec
import pytest

from decoupled.core.departure import Departure, NotPossible, Told, Wanted, following
from decoupled.core.outcomes import NotSent
from decoupled.engines.protocols import StoreUnavailable
from decoupled.server.upkeep.departing import Departing

STATES = ("accepting", "draining", "stopped", "moved")
POSSIBLE = {  # from: to
    "accepting": {"accepting", "draining", "stopped"},
    "draining": {"accepting", "draining", "stopped"},
    "stopped": {"accepting", "draining", "stopped", "moved"},
    "moved": {"moved"},
}


def state(name: Any, to: str = "shop") -> Departure | None:
    return None if name == "accepting" else Departure(name, to, 5, "https://shop")


@pytest.mark.parametrize(("before", "wanted"), list(product(STATES, STATES)))
def test_a_state_follows_those_that_it_may(before: str, wanted: Any) -> None:
    there = state(before)
    if wanted not in POSSIBLE[before]:
        with pytest.raises(NotPossible):
            following(there, Wanted(wanted, "shop"), 7)
        return
    after = following(there, Wanted(wanted, "shop"), 7)
    assert ("accepting" if after is None else after.state) == wanted
    if before == wanted:
        assert after == there  # also the time since when
    elif there is not None and after is not None:
        assert (after.url, after.since) == ("https://shop", 7)


@pytest.mark.parametrize("wanted", STATES)
def test_only_who_began_a_move_changes_it(wanted: Any) -> None:
    with pytest.raises(NotPossible, match="move to elsewhere"):
        following(state("stopped", "elsewhere"), Wanted(wanted, "shop"), 7)


@pytest.mark.parametrize("name", ["draining", "stopped"])
def test_nobody_is_sent_there_before_all_has_moved(name: Any) -> None:
    departure = state(name)
    assert departure is not None
    refusal = departure.refusal()
    assert "send it there" not in refusal.detail
    assert "send it here again" in refusal.detail
    moved = msgspec.structs.replace(departure, state="moved")
    assert "send it there" in moved.refusal().detail


class Store:
    """The writer, the file, the workers, and whoever comes after the door; `fails` is what the next write meets."""

    held = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.departure: Departure | None = None
        self.fails: Exception | None = None
        self.waiting = 2  # transactions until all that it was given is written
        self.told: list[Any] = []

    def run(self, operation: Callable[[], Any]) -> asyncio.Future[Any]:
        done = self.loop.create_future()
        self.waiting -= 1
        if self.fails is None:
            done.set_result(operation())
        else:
            done.set_exception(self.fails)
        return done

    def sends_wait(self) -> bool:
        return self.waiting > 0

    def read(self) -> Departure | None:
        return self.departure

    def write(self, departure: Departure | None) -> None:
        assert self.waiting < 0, "what came before is not on the disk yet"
        self.departure = departure

    def remember(self, text: str) -> None:
        self.told.append(text)

    def in_flight(self) -> bool:
        return False

    def wake(self) -> None:
        self.told.append("woken")

    def send(self, _messages: object, sent: Callable[[Any], None]) -> None:
        sent(None)


async def ask(departing: Departing, wanted: Any) -> Told:
    given = msgspec.Raw(msgspec.msgpack.encode(Wanted(wanted, "shop")))
    return await departing.change(given)


async def answer(departing: Departing) -> Any:
    heard = asyncio.get_running_loop().create_future()
    departing.send([], heard.set_result)
    return await heard


def test_what_came_before_is_written_before_the_mark_and_nothing_comes_after() -> None:
    async def run() -> None:
        store = Store(asyncio.get_running_loop())
        departing = Departing(store, store, store, store, lambda: 7)
        assert await answer(departing) is None
        told = await ask(departing, "stopped")
        assert told.departure == store.departure == Departure("stopped", "shop", 7)
        assert store.held
        assert isinstance(await answer(departing), NotSent)
        assert (await ask(departing, "moved")).why_not == ""
        assert "move them back" in (await ask(departing, "accepting")).why_not

    asyncio.run(run())


@pytest.mark.parametrize("error", [StoreUnavailable("disk full"), OSError("no memory")])
def test_what_cannot_be_written_is_as_the_file_says(error: Exception) -> None:
    async def run() -> None:
        store = Store(asyncio.get_running_loop())
        departing = Departing(store, store, store, store, lambda: 7)
        store.fails = error
        with pytest.raises(type(error)):
            await ask(departing, "stopped")
        assert await answer(departing) is None
        assert not store.held
        store.fails = None
        await ask(departing, "stopped")
        store.fails = error
        with pytest.raises(type(error)):
            await ask(departing, "accepting")
        assert isinstance(await answer(departing), NotSent)
        store.fails = None
        await ask(departing, "accepting")
        assert await answer(departing) is None
        assert store.told == ["woken", "woken"]  # when it was open again, either time

    asyncio.run(run())
