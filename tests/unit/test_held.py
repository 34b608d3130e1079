"""Requests that are held: their connection does not expire, gives way where its place is wanted, and forgets nobody.
Without sockets, in time that passes when a test says so."""

from __future__ import annotations

import pytest

from decoupled.core import limits
from decoupled.core.problem import Problem, Response
from decoupled.pipeline import events
from decoupled.server.http.exchange import Sink
from tests.support.wire import Clock

GET = b"GET /orders HTTP/1.1\r\nhost: x\r\n\r\n"
NO_PLACE = Problem(503, "Too many clients are connected.")


class Told:
    """A stream that keeps what it is told."""

    head = events.HEAD

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.sink: Sink

    def begin(self, sink: Sink) -> None:
        self.sink = sink
        sink.send(b"first")

    def go_on(self) -> None:
        self.calls.append("go on")

    def end(self) -> None:
        self.calls.append("end")
        self.sink.finish()

    def forget(self) -> None:
        self.calls.append("forget")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream(clock: Clock) -> Told:
    """One that has begun."""
    stream = Told()
    clock.connection.data_received(GET)
    clock.replies.pop()(stream)
    return stream


def test_a_stream_comes_in_chunks_and_the_connection_goes_on_after_it(clock: Clock, stream: Told) -> None:
    head, _, body = clock.wire.written.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert body == b"5\r\nfirst\r\n"
    stream.sink.finish()
    assert clock.wire.written.endswith(b"first\r\n0\r\n\r\n")
    assert clock.wire.ended == ""
    clock.connection.data_received(GET)
    assert len(clock.replies) == 1


def test_a_stream_lasts_and_a_client_that_does_not_read_does_not(clock: Clock, stream: Told) -> None:
    assert clock.wait(86_400) == ""
    clock.wire.unsent = 10
    clock.connection.pause_writing()
    assert not stream.sink.takes_more
    assert clock.wait(limits.UNSENT_S - 1) == ""
    clock.connection.resume_writing()
    assert (stream.sink.takes_more, stream.calls) == (True, ["go on"])
    assert clock.wait(86_400) == ""
    clock.connection.pause_writing()
    assert clock.wait(limits.UNSENT_S + 1) == "aborted"


def test_what_comes_behind_a_stream_waits_for_its_end(clock: Clock, stream: Told) -> None:
    clock.connection.data_received(GET)
    assert clock.replies == []
    stream.sink.finish()
    clock.turn()
    assert len(clock.replies) == 1


def test_a_stream_whose_place_is_wanted_ends_in_good_order(clock: Clock, stream: Told) -> None:
    assert clock.connection.may_leave
    clock.connection.give_way(NO_PLACE, True)
    assert stream.calls == ["end"]
    assert clock.wire.written.endswith(b"0\r\n\r\n")
    assert clock.wire.ended == "closed"


def test_a_stream_hears_that_its_client_is_gone(clock: Clock, stream: Told) -> None:
    clock.connection.connection_lost(None)
    assert stream.calls == ["forget"]
    stream.sink.send(b"more")  # to nobody


def test_a_client_that_sends_no_more_is_taken_for_gone(clock: Clock, stream: Told) -> None:
    clock.connection.eof_received()
    assert stream.calls == ["end"]
    assert clock.wire.ended == "closed"


def test_a_client_that_sends_no_more_gets_the_answer_that_is_being_made(clock: Clock) -> None:
    clock.connection.data_received(GET)
    held = Told()
    clock.handled[-1].held, clock.handled[-1].brief = held, True
    assert clock.connection.eof_received()
    assert held.calls == []
    clock.replies.pop()(Response(200, {}, b"all of it"))
    assert clock.wire.written.endswith(b"all of it")
    assert clock.wire.ended == "closed"


def test_a_stream_that_comes_when_the_client_is_gone_is_forgotten(clock: Clock) -> None:
    clock.connection.data_received(GET)
    clock.connection.connection_lost(None)
    stream = Told()
    clock.replies.pop()(stream)
    assert stream.calls == ["forget"]


def test_a_stream_to_a_server_that_stops_says_that_its_connection_ends_with_it(clock: Clock) -> None:
    clock.stopping = True
    stream = Told()
    clock.connection.data_received(GET)
    clock.replies.pop()(stream)
    assert b"connection: close" in clock.wire.written
    stream.sink.finish()
    assert clock.wire.ended == "half"
