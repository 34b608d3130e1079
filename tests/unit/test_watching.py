"""Who hears of ends, in the writer's process and in a front's: what is watched is told of once it has ended, what is
not watched any more is forgotten, and nothing that ends in between is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from decoupled.core import limits
from decoupled.core.workload import Message
from decoupled.server.http.watching import Watching
from decoupled.server.watches import Topic, Watches, Whose
from tests.support.virtual_time import run

ONE = Message("m-1", "orders", "{}", "ana", 0)
ALL: Whose = ("orders", "ana")


class Front:
    """As the writer knows it."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def watched(self, topic: Topic, refused: str | None) -> None:
        self.heard.append(("watched", topic, refused))

    def ended(self, topics: Sequence[Topic]) -> None:
        self.heard.append(("ended", *topics))


class Ends:
    """A store that says who is followed, or fails."""

    def __init__(self) -> None:
        self.followed: set[Whose] = set()
        self.marked: list[str] = []
        self.error: Exception | None = None

    def follow(self, workload: str, caller: str, busy: Any) -> Whose | None:
        if self.error is not None:
            raise self.error
        return None

    def mark(self, ids: Sequence[str]) -> None:
        self.marked += ids


def writer_side(ends: Ends) -> Watches:
    def at_once(operation: Any) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        try:
            future.set_result(operation())
        except Exception as error:  # noqa: BLE001  as the writer does
            future.set_exception(error)
        return future

    return Watches(ends, at_once)  # type: ignore[arg-type]


def test_the_end_of_a_message_is_told_once_and_of_a_caller_each_time() -> None:
    async def main() -> None:
        ends, front = Ends(), Front()
        watches = writer_side(ends)
        assert not watches
        watches.watch("m-1", front)
        watches.watch(ALL, front)
        await asyncio.sleep(0)
        assert front.heard == [("watched", "m-1", None), ("watched", ALL, None)]
        for _ in range(2):
            watches.mark([ONE])
            watches.tell([ONE, ONE])
        assert ends.marked == ["m-1", "m-1"]
        assert front.heard[2:] == [("ended", "m-1", ALL), ("ended", ALL)]
        watches.unwatch(ALL, front)
        assert not watches

    run(main())


def test_a_front_that_is_gone_leaves_nothing_behind() -> None:
    async def main() -> None:
        watches, front, other = writer_side(Ends()), Front(), Front()
        for watcher in (front, other):
            watches.expect("m-1", watcher)
        watches.leave(front)
        watches.tell([ONE])
        assert (front.heard, other.heard) == ([], [("ended", "m-1")])
        watches.leave(other)
        watches.unwatch("m-1", other)
        assert not watches

    run(main())


def test_a_front_cannot_watch_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CLIENTS", 2)

    async def main() -> None:
        watches, front = writer_side(Ends()), Front()
        watches.expect("m-1", front)
        watches.expect("m-2", front)
        with pytest.raises(ValueError, match="too much"):
            watches.expect("m-3", front)

    run(main())


def test_what_cannot_be_followed_is_said_to_be_refused() -> None:
    async def main() -> None:
        ends, front = Ends(), Front()
        ends.error = OSError("the disk is full")
        watches = writer_side(ends)
        watches.watch(ALL, front)
        await asyncio.sleep(0)
        assert front.heard == [("watched", ALL, "the disk is full")]
        assert ends.followed == set()

    run(main())


# --- a front's side -------------------------------------------------------------------


class Watcher:
    """The way to the writer."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def send(self, messages: Any, sent: Any) -> None:
        raise AssertionError

    def send_watched(self, message: Message, sent: Any) -> None:
        self.asked.append(("send", message.id))

    def watch(self, topic: Topic) -> None:
        self.asked.append(("watch", topic))

    def unwatch(self, topic: Topic) -> None:
        self.asked.append(("unwatch", topic))


class Listener:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def watched(self) -> None:
        self.heard.append("watched")

    def ended(self) -> None:
        self.heard.append("ended")

    def refused(self, why: str) -> None:
        self.heard.append(why)


def front_side() -> tuple[Watcher, Watching, list[Listener]]:
    watcher = Watcher()
    return watcher, Watching(watcher, asyncio.get_running_loop()), [Listener() for _ in range(3)]


def test_many_who_listen_to_one_thing_have_it_watched_once() -> None:
    async def main() -> None:
        watcher, watching, (first, second, late) = front_side()
        watching.listen(ALL, first)
        watching.listen(ALL, second)
        watching.watched(ALL, None)
        watching.listen(ALL, late)
        await asyncio.sleep(0)
        watching.ended([ALL, "m-9"])
        assert first.heard == second.heard == late.heard == ["watched", "ended"]
        for listener in (first, second, late):
            watching.leave(ALL, listener)
        assert watcher.asked == [("watch", ALL), ("unwatch", ALL)]

    run(main())


def test_who_comes_to_what_is_sent_and_not_surely_watched_has_it_watched() -> None:
    """The sender needs no word that it is; who only asks does."""

    async def main() -> None:
        watcher, watching, (sender, reader, _) = front_side()
        watching.send(ONE, sender, lambda _: None)
        watching.listen("m-1", reader)
        assert watcher.asked == [("send", "m-1"), ("watch", "m-1")]
        watching.watched("m-1", None)
        watching.ended(["m-1"])
        assert reader.heard == ["watched", "ended"]

    run(main())


def test_a_watch_that_comes_when_nobody_waits_any_more_is_given_up() -> None:
    async def main() -> None:
        watcher, watching, (listener, again, _) = front_side()
        watching.listen("m-1", listener)
        watching.leave("m-1", listener)
        watching.watched("m-1", None)
        assert watcher.asked == [("watch", "m-1"), ("unwatch", "m-1"), ("unwatch", "m-1")]
        watching.listen("m-1", again)  # a word of the watch before says too little: it looks at each
        watching.watched("m-1", None)
        watching.watched("m-1", None)
        assert again.heard == ["watched", "watched"]

    run(main())


def test_one_who_fails_keeps_the_word_from_nobody() -> None:
    class Fails(Listener):
        def ended(self) -> None:
            raise RuntimeError("this client")

    async def main() -> None:
        _, watching, (listener, _, _) = front_side()
        watching.listen("m-1", Fails())
        watching.listen("m-1", listener)
        watching.ended(["m-1"])
        assert listener.heard == ["ended"]

    run(main())


def test_what_is_refused_is_said_to_all_and_forgotten() -> None:
    async def main() -> None:
        watcher, watching, (first, second, _) = front_side()
        watching.listen(ALL, first)
        watching.watched(ALL, "the disk is full")
        watching.listen(ALL, second)
        assert first.heard == ["the disk is full"]
        assert watcher.asked == [("watch", ALL)] * 2

    run(main())
