"""What a front may have with the writer is bounded, and so is every wait for it. In time that passes when nothing else
is left to do, with a writer that says what the test wants."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from decoupled.core import limits
from decoupled.core.frames import MAX_FRAME_BYTES, Frames, frame
from decoupled.core.outcomes import REUSED, NotSent, Together
from decoupled.core.problem import Response
from decoupled.core.workload import Message
from decoupled.server.fronts.link import ENOUGH, Link
from decoupled.server.fronts.protocol import AskHealth, Health, Sends, State, Told, encode, from_front
from tests.support.virtual_time import run

KIB_100 = Message("x", "orders", "x" * 100 * limits.KIB, "anonymous", 0, "g", None)


class _Writer(asyncio.Transport):
    """The other end: keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Sends | AskHealth | State] = []
        self._frames = Frames(MAX_FRAME_BYTES)

    def write(self, data: Any) -> None:
        self.told += map(from_front, self._frames.feed(bytes(data)))

    @property
    def requests(self) -> list[int]:
        return [number for told in self.told if isinstance(told, Sends) for number, _ in told.requests]


class Both:
    """A link and its writer, and what the link said of each request."""

    def __init__(self) -> None:
        self.link = Link(asyncio.get_running_loop(), lambda _: None)
        self.writer = _Writer()
        self.link.connection_made(self.writer)
        self.link.look()
        self.outcomes: list[Together] = []

    def send(self, requests: int) -> None:
        for _ in range(requests):
            self.link.send([KIB_100], self.outcomes.append)

    def tell(self, numbers: list[int], outcome: Together = None) -> None:
        self.link.data_received(frame(encode(Told(numbers, outcome))))


async def turns() -> None:
    """Of the loop, so many that a frame is sent."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_what_comes_in_turn_after_turn_is_one_frame_until_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    async def trickle() -> None:
        both = Both()
        for sent in range(ENOUGH - 1):
            both.send(1)
            await asyncio.sleep(0)
            assert both.writer.requests == [], sent
        both.send(1)
        await asyncio.sleep(0)
        assert both.writer.requests == list(range(ENOUGH))
        both.send(1)
        await turns()
        assert both.writer.requests == list(range(ENOUGH + 1))

    monkeypatch.setattr(limits, "FRONT_WINDOW_BYTES", 100 * limits.FRONT_WINDOW_BYTES)
    run(trickle())


def test_no_more_is_with_the_writer_than_the_window_holds_and_the_rest_follows() -> None:
    async def fifty() -> None:
        both = Both()
        both.send(50)
        await turns()
        assert both.writer.requests == list(range(20))  # of 100 KiB in 2 MiB
        both.tell([0, 1, 2])
        await turns()
        assert both.writer.requests == list(range(23))
        assert both.outcomes == [None] * 3
        both.tell(list(range(3, 23)))
        await turns()
        both.tell(list(range(23, 43)))
        await turns()
        both.tell(list(range(43, 50)))
        assert both.outcomes == [None] * 50

    run(fifty())


@pytest.mark.parametrize("outcome", [None, NotSent("full"), [None, REUSED, None]])
def test_what_came_of_a_request_or_of_each_of_its_messages_arrives_as_it_was_told(outcome: Together) -> None:
    async def told() -> None:
        both = Both()
        both.send(1)
        await turns()
        both.tell([0], outcome)
        assert both.outcomes == [outcome]

    run(told())


def test_one_request_is_taken_however_large() -> None:
    async def large() -> None:
        both = Both()
        both.link.send([KIB_100] * 1_000, both.outcomes.append)
        both.send(1)
        await turns()
        assert both.writer.requests == [0]

    run(large())


def test_nobody_overtakes_a_large_request_that_waits() -> None:
    async def overtaken() -> None:
        both = Both()
        both.send(15)
        both.link.send([KIB_100] * 10, both.outcomes.append)
        both.send(1)  # for which there would be room
        await turns()
        assert both.writer.requests == list(range(15))
        both.tell(list(range(15)))
        await turns()
        assert [size for told in both.writer.told[-2:] for size in sizes(told)] == [1] * 15 + [10, 1]

    def sizes(told: Sends | AskHealth | State) -> list[int]:
        assert isinstance(told, Sends)
        return [len(messages) for _, messages in told.requests]

    run(overtaken())


def test_who_gets_no_credit_is_told_soon_and_that_it_is_safe_to_send_again() -> None:
    async def busy() -> None:
        both = Both()
        both.send(30)
        await asyncio.sleep(limits.WRITER_BUSY_S + 0.5)
        assert len(both.outcomes) == 10
        assert {isinstance(outcome, NotSent) and outcome.unknown for outcome in both.outcomes} == {False}
        both.tell(list(range(20)))
        assert both.outcomes[10:] == [None] * 20
        both.send(1)
        await turns()
        assert both.writer.requests == list(range(21))  # what was given up never came to the writer

    run(busy())


def test_what_the_writer_does_not_answer_nobody_knows_and_it_counts_until_the_writer_has_answered() -> None:
    async def silent() -> None:
        both = Both()
        both.send(20)
        await asyncio.sleep(limits.WRITER_SILENT_S + 0.5)
        assert [isinstance(outcome, NotSent) and outcome.unknown for outcome in both.outcomes] == [True] * 20
        both.send(1)
        await turns()
        assert len(both.writer.requests) == 20
        both.tell([0])
        await turns()
        assert len(both.writer.requests) == 21
        assert len(both.outcomes) == 20  # nobody is told twice

    run(silent())


@pytest.mark.parametrize("answers", [True, False])
def test_however_many_ask_for_health_the_writer_is_asked_once_at_a_time(answers: bool) -> None:
    async def asking() -> None:
        both = Both()
        replies: list[Response] = []
        for _ in range(100):
            both.link.ask_health(replies.append)
        assert [told for told in both.writer.told if isinstance(told, AskHealth)] == [AskHealth()]
        if answers:
            both.link.data_received(frame(encode(Health(200, "{}"))))
            assert {reply.status for reply in replies} == {200}
        else:
            await asyncio.sleep(limits.HEALTH_WAIT_S + 0.5)
            assert {reply.status for reply in replies} == {503}
        assert len(replies) == 100
        both.link.ask_health(replies.append)
        assert len(both.writer.told) == 2

    run(asking())
