"""What a client may take of what all share: memory, places, and the server's time. Without sockets, with a clock of the
test's; real attacks are in test_attacks.py."""

from __future__ import annotations

import gc
import random
import tracemalloc
import weakref
from collections.abc import Iterator

import pytest

from decoupled.core import limits
from decoupled.core.problem import Problem, answer
from decoupled.server.http.connection import Connection
from decoupled.server.http.parser import Reader
from decoupled.server.http.request import Request
from decoupled.server.http.shares import FAVOURED_LOOKS, Shares, address_of
from tests.support.wire import Clock, Wire

HEAD = b"POST /ledger HTTP/1.1\r\nhost: x\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
PIECE = limits.PIECE_BYTES


def begun(size: int, of: int = limits.MAX_REQUEST_BYTES) -> Iterator[bytes]:
    """A request with so much of its body, in reads of the largest size."""
    yield HEAD + b"content-length: %d\r\n\r\n" % of
    while size > 0:
        yield b" " * min(size, limits.READ_BYTES)
        size -= limits.READ_BYTES


def status_of(wire: Wire) -> int | None:
    """Of the last answer."""
    last = wire.written.rpartition(b"HTTP/1.1 ")[2]
    return int(last[:3]) if last else None


# --- heads, and what is around a body -----------------------------------------


class Found:
    """What a Reader reads, fed as a connection feeds it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.problems: list[Problem] = []
        self.reader = Reader(self)

    def feed(self, data: bytes) -> int:
        """How many bytes were looked at before it was refused."""
        for start in range(0, len(data), PIECE):
            if self.problems:
                return start
            self.reader.feed(data[start : start + PIECE])
        return len(data)

    def whole(self, request: Request) -> None:
        self.requests.append(request)

    def refused(self, problem: Problem) -> None:
        self.problems.append(problem)

    def expects_continue(self) -> None: ...


@pytest.mark.parametrize(
    "endless",
    [
        CHUNKED + b"0\r\nx: " + b"a" * 100_000,
        CHUNKED + b"0\r\n" + b"x: a\r\n" * 20_000,
        CHUNKED + b"1;x=" + b"a" * 100_000,
        CHUNKED + b"1\r\na\r\n0;x=" + b"a" * 100_000,
        CHUNKED + (b"1;" + b"a" * 8_000 + b"\r\n \r\n") * 20,
        CHUNKED + (b"1;" + b"a" * 60 + b"\r\n \r\n") * 20_000,
        HEAD + b"x: " + b"a" * 100_000,
        HEALTH + HEAD + b"x: " + b"a" * 100_000,
    ],
)
def test_what_is_no_body_has_an_end(endless: bytes) -> None:
    found = Found()
    assert found.feed(endless) < 4 * limits.MAX_HEAD_BYTES
    assert [problem.status for problem in found.problems] == [431]


@pytest.mark.parametrize(("fields", "most"), [("x-{}: a\r\n", 99), ("x: {}\r\n", 100), ("cookie: a={}\r\n", 100)])
def test_a_head_has_a_hundred_fields_of_a_kind_at_most(fields: str, most: int) -> None:
    for count in (most, most + 1):  # beside a Host
        found = Found()
        found.feed(b"GET / HTTP/1.1\r\nhost: x\r\n" + "".join(map(fields.format, range(count))).encode() + b"\r\n")
        assert [problem.status for problem in found.problems] == [431] * (count > most)


def test_cookies_are_not_taken_apart_without_a_limit() -> None:
    found = Found()
    found.feed(b"GET / HTTP/1.1\r\nhost: x\r\ncookie: " + b"ab;" * limits.MAX_FIELDS + b"\r\n\r\n")
    assert [problem.status for problem in found.problems] == [431]


def test_a_body_may_come_in_the_smallest_chunks_and_with_trailers() -> None:
    found = Found()
    found.feed(CHUNKED + b"1\r\na\r\n" * 100_000 + b"0\r\n" + b"x: a\r\n" * 100 + b"\r\n")
    assert not found.problems
    assert [len(request.body) for request in found.requests] == [100_000]


@pytest.mark.parametrize(
    "request_",
    [
        HEALTH,
        HEAD + b"content-type: application/json\r\ncontent-length: 300\r\n\r\n" + b" " * 300,
        HEAD + b"".join(b"%x:\r\n" % number for number in range(98)) + b"content-length: 0\r\n\r\n",
        HEAD + b"".join(b"%x:%b\r\n" % (number, b"a" * 140) for number in range(98)) + b"\r\n",
        HEAD + b"cookie: " + b"ab;" * 90 + b"\r\n\r\n",
        HEAD + b"content-length: 50000\r\n\r\n" + b" " * 50_000,
        HEAD + b"".join(b"%x:\r\n" % number for number in range(98)),
        HEAD + b"x: " + b"a" * 15_000,
        HEAD + b"content-length: 50000\r\n\r\n" + b" " * 40_000,
        CHUNKED + b"1\r\na\r\n0\r\nx: " + b"a" * 15_000,
    ],
)
def test_a_request_counts_for_what_it_takes_in_memory(request_: bytes) -> None:
    def some(data: bytes) -> tuple[list[Found], int]:
        """Copies of it, and the bytes that they take."""
        tracemalloc.start()
        founds = [Found() for _ in range(50)]
        for found in founds:
            found.feed(data)
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return founds, taken

    some(request_)  # what is made once is there
    founds, taken = some(request_)
    taken -= some(b"")[1]
    counted = sum(found.reader.kept + sum(it.kept for it in found.requests) for found in founds)
    assert 0.7 * taken < counted < 4 * taken + 50 * PIECE  # names that are known cost less than new ones


# --- a client's own share -----------------------------------------------------


def test_requests_in_one_go_wait_as_the_bytes_that_they_came_as() -> None:
    clock = Clock()
    clock.connection.data_received(HEALTH * 10_000)
    assert (len(clock.replies), clock.wire.reads) == (1, False)
    assert clock.shares.used < len(HEALTH) * 10_000 + PIECE // len(HEALTH) * 1_000
    for number in range(10_000):
        clock.replies[number](answer(200, {}))
        clock.turn()
    assert clock.wire.written.count(b"HTTP/1.1 200 ") == 10_000
    assert (len(clock.replies), clock.wire.reads, clock.shares.used) == (10_000, True, 0)


def test_a_client_has_one_request_each_time_that_the_loop_turns() -> None:
    clock = Clock()
    other_wire, other = clock.connect("192.0.2.8")
    clock.at_once = answer(200, {})
    clock.connection.data_received(HEALTH * 50)
    other.data_received(HEALTH * 50)
    for number in range(1, 51):
        assert [wire.written.count(b"HTTP/1.1 200 ") for wire in (clock.wire, other_wire)] == [number] * 2
        clock.turn()


def test_answers_that_a_client_does_not_take_count() -> None:
    clock = Clock()
    clock.connection.data_received(HEALTH * 3)
    clock.wire.unsent = 50_000
    clock.connection.pause_writing()
    clock.replies[0](answer(200, {}))
    assert 50_000 < clock.shares.used < 55_000
    clock.turn()
    assert len(clock.replies) == 1
    clock.connection.resume_writing()
    assert len(clock.replies) == 2
    assert clock.shares.used < 5_000


def test_a_large_request_counts_until_it_is_answered_whether_or_not_its_client_is_still_there() -> None:
    clock = Clock()
    for data in begun(100_000, of=100_000):
        clock.connection.data_received(data)
    assert clock.shares.used > 100_000
    clock.connection.connection_lost(None)
    assert clock.shares.used > 100_000
    clock.replies[0](answer(202, {}))
    assert clock.shares.used == 0


def test_a_connection_that_has_ended_is_not_left_to_the_garbage_collector() -> None:
    clock = Clock()
    clock.connection.data_received(HEALTH + b"GET")
    clock.replies.pop()(answer(200, {}))
    ended = weakref.ref(clock.connection)
    gc.collect()
    gc.disable()
    try:
        clock.connection.connection_lost(None)
        clock.wires.clear()
        del clock.connection
        assert ended() is None
    finally:
        gc.enable()


def test_a_body_may_take_long_if_it_goes_on() -> None:
    clock = Clock()
    parts = limits.MAX_REQUEST_BYTES // limits.BODY_PART_BYTES
    clock.connection.data_received(next(begun(0)))
    for _ in range(parts):
        assert clock.wait(limits.REQUEST_PART_S - 1) == ""
        clock.connection.data_received(b" " * limits.BODY_PART_BYTES)
    assert clock.wait(limits.REQUEST_PART_S - 1) == ""
    clock.connection.data_received(b" " * (limits.BODY_PART_BYTES - 1))
    clock.connection.data_received(b" ")
    assert len(clock.replies) == 1


def test_a_body_that_trickles_is_refused() -> None:
    clock = Clock()
    clock.connection.data_received(next(begun(0)))
    for _ in range(limits.REQUEST_PART_S - 1):
        clock.connection.data_received(b" " * (limits.BODY_PART_BYTES // limits.REQUEST_PART_S))
        assert clock.wait(1) == ""
    assert clock.wait(2) == "half"
    assert status_of(clock.wire) == 408


# --- when bytes run out -------------------------------------------------------


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for a MiB."""
    monkeypatch.setattr(limits, "MAX_KEPT_BYTES", limits.MIB)
    monkeypatch.setattr(limits, "LARGE_BODY_BYTES", 32 * limits.KIB)
    monkeypatch.setattr(limits, "READ_BYTES", 8 * limits.KIB)


def send(clock: Clock, client: str, size: int) -> Wire:
    """A request of which so many bytes of the body come, and then no more."""
    wire, connection = clock.connect(client)
    for data in begun(size):
        connection.data_received(data)
    return wire


@pytest.mark.usefixtures("little")
def test_the_address_that_holds_most_gives_way_and_there_the_largest_first() -> None:
    clock = Clock()
    ours = [send(clock, "192.0.2.1", 30_000) for _ in range(3)]
    largest = send(clock, "192.0.2.2", 25_000)
    crowd = [send(clock, "192.0.2.2", 10_000) for _ in range(150)]
    assert clock.shares.used <= limits.MAX_KEPT_BYTES
    assert [status_of(wire) for wire in ours] == [None] * 3
    assert status_of(largest) == 503
    assert b"retry-after: 1\r\n" in largest.written
    assert 503 in map(status_of, crowd)
    assert len([wire for wire in crowd if status_of(wire) is None]) > 40
    new, connection = clock.connect("192.0.2.2")
    connection.data_received(HEALTH)
    clock.replies[0](answer(200, {}))
    assert status_of(new) == 200


@pytest.mark.usefixtures("little")
def test_behind_a_proxy_those_with_little_do_not_notice_those_with_much() -> None:
    clock = Clock()
    ours = [send(clock, "127.0.0.1", 1_000) for _ in range(50)]
    much = [send(clock, "127.0.0.1", 30_000) for _ in range(50)]
    assert [status_of(wire) for wire in ours] == [None] * 50
    assert 503 in map(status_of, much)


@pytest.mark.usefixtures("little")
def test_who_takes_no_answers_is_cut_off_when_others_need_the_room() -> None:
    clock = Clock()
    clock.connection.data_received(HEALTH)
    clock.wire.unsent = limits.MIB
    clock.connection.pause_writing()
    clock.replies[0](answer(200, {}))
    assert clock.wire.ended == ""
    send(clock, "192.0.2.1", 1_000)
    assert clock.wire.ended == "aborted"
    assert clock.shares.used < 10_000


@pytest.mark.usefixtures("little")
def test_large_bodies_wait_for_room_and_all_come_to_their_ends() -> None:
    """Twenty bodies that together are four times what there is room for."""
    clock = Clock()
    bodies = [(*clock.connect("192.0.2.1"), begun(200_000, of=200_000)) for _ in range(20)]
    waited = 0
    for _ in range(20_000):
        for wire, connection, data in bodies:
            waited += not wire.reads
            if wire.reads and (read := next(data, None)) is not None:
                connection.data_received(read)
        assert clock.shares.used <= limits.MAX_KEPT_BYTES
        while clock.replies:
            clock.replies.pop()(answer(202, {}))
        for _ in range(len(clock.looks)):
            clock.looks.popleft()()
        if all(wire.written for wire, *_ in bodies):
            break
    assert [status_of(wire) for wire, *_ in bodies] == [202] * 20
    assert waited
    assert (clock.shares.used, list(clock.looks)) == (0, [])


@pytest.mark.usefixtures("little")
def test_who_holds_much_and_does_not_go_on_gives_way_to_a_large_body_that_waits() -> None:
    clock = Clock()
    stalled = [send(clock, f"192.0.2.{number}", 100_000) for number in range(10, 16)]
    wire, connection = clock.connect("192.0.2.1")
    ours = begun(200_000, of=200_000)
    for _ in range(10 * FAVOURED_LOOKS):
        while wire.reads and (read := next(ours, None)) is not None:
            connection.data_received(read)
        if clock.replies:
            break
        clock.looks.popleft()()
    assert len(clock.replies) == 1
    assert 503 in map(status_of, stalled)


@pytest.mark.usefixtures("little")
def test_a_body_that_waits_too_long_is_refused() -> None:
    clock = Clock()
    for data in begun(limits.MIB * 3 // 4):
        if clock.wire.reads:
            clock.connection.data_received(data)
    assert not clock.wire.reads
    assert clock.wait(limits.ROOM_WAIT_S - 1) == ""
    assert clock.wait(2) == "half"
    assert (status_of(clock.wire), clock.wire.reads) == (503, True)  # what it still sends is thrown away


@pytest.mark.usefixtures("little")
def test_when_all_that_is_held_is_being_answered_large_requests_are_refused_and_small_ones_are_not() -> None:
    clock = Clock()
    large = b"".join(begun(400_000, of=400_000))
    wires = []
    for _ in range(4):
        wire, connection = clock.connect()
        connection.data_received(large)
        wires.append(wire)
    assert [status_of(wire) for wire in wires] == [None, None, None, 503]
    connection.data_received(HEALTH)
    assert len(clock.replies) == 4


def test_who_has_a_part_of_the_memory_looks_for_room_again_soon_after_a_look_in_vain() -> None:
    part = limits.FRONT_KEPT_BYTES
    answered, waiting = Holder(), Holder()
    shares = Shares([answered, waiting], lambda _, look: None, part)
    shares.count(answered, part + 1)  # and nobody can give anything
    waiting.spare = limits.MIB
    shares.count(waiting, limits.MIB)
    assert not waiting.gave_way
    shares.count(waiting, limits.MIB + 1)
    assert waiting.gave_way


class Holder:
    """Has much, of which it can do without some."""

    address, since, sends_much, may_leave = "192.0.2.1", 0.0, False, False
    kept = spare = 0
    gave_way = False

    def give_way(self, problem: Problem, at_once: bool) -> None:
        self.gave_way = problem.status == 503 and not at_once

    def stop_reading(self) -> None: ...

    def read_on(self) -> None: ...


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("seed", range(20))
def test_whatever_clients_do_no_byte_stays_counted(seed: int) -> None:
    clock, rng = Clock(), random.Random(seed)
    for _ in range(2_000):
        if not clock.connections or rng.random() < 0.1:
            clock.connect(f"192.0.2.{rng.randrange(9)}")
        connection = rng.choice(clock.connections)
        _act(clock, connection, rng)
        for _ in range(len(clock.looks)):
            clock.looks.popleft()()
        assert clock.shares.used <= limits.MAX_KEPT_BYTES + 2 * limits.MAX_REQUEST_BYTES
    for connection in list(clock.connections):
        connection.connection_lost(None)
    for reply in clock.replies:
        reply(answer(200, {}))
    assert clock.shares.used == 0


def _act(clock: Clock, connection: Connection, rng: random.Random) -> None:
    wire = clock.wires[connection]
    act = rng.random()
    if wire.ended in ("closed", "aborted") or act < 0.05:
        connection.connection_lost(None)
    elif act < 0.6 and wire.reads:
        some = [HEALTH * rng.randrange(1, 200), CHUNKED, b"a", *begun(size := rng.randrange(90_000), of=size)]
        connection.data_received(rng.choice(some))
    elif act < 0.7 and clock.replies:
        clock.replies.pop(rng.randrange(len(clock.replies)))(answer(200, {}))
    elif act < 0.8:
        clock.turn()
        clock.shares.make_places(rng.randrange(2))
    elif wire.unsent:
        wire.unsent = 0
        connection.resume_writing()
    elif act < 0.9:
        wire.unsent = rng.randrange(1, 50_000)
        connection.pause_writing()


# --- when places run out ------------------------------------------------------


def test_those_who_have_waited_longest_make_room_and_who_is_being_answered_does_not() -> None:
    clock = Clock()
    clock.connection.data_received(HEALTH)  # answered
    wires = {}
    for name, sent in (("idle", b""), ("head", b"G"), ("body", next(begun(0))), ("new", b"")):
        clock.now += 1
        wires[name], connection = clock.connect()
        if sent:
            connection.data_received(sent)
    for leaving in ("idle", "head", "body"):
        assert clock.shares.make_places(1)
        assert wires.pop(leaving).ended == "closed"
        clock.connections.remove(clock.connections[1])  # as the loop tells
    assert [wire.ended for wire in wires.values()] == [""]
    assert clock.shares.make_places(2)
    assert clock.wire.ended == ""
    clock.connections.remove(clock.connections[1])
    assert not clock.shares.make_places(1)
    clock.replies[0](answer(200, {}))
    assert status_of(clock.wire) == 200


def test_the_address_with_most_connections_makes_room_however_new_they_are() -> None:
    clock = Clock()
    others = [clock.connect(f"2001:db8:0:{number:x}::1")[0] for number in range(9)]
    clock.now += 1
    crowd = [clock.connect(f"2001:db8:0:ffff::{number:x}")[0] for number in range(30)]
    assert clock.shares.make_places(20)
    assert [wire.ended for wire in others] == [""] * 9
    assert [wire.ended for wire in crowd] == ["closed"] * 20 + [""] * 10


def test_who_has_many_requests_gets_the_answer_to_one_and_then_makes_room() -> None:
    clock = Clock()
    clock.connection.data_received(HEALTH * 500)
    assert clock.shares.make_places(1)
    assert not clock.shares.make_places(1)  # it has been asked
    clock.replies[0](answer(200, {}))
    clock.turn()
    assert clock.wire.written.count(b"HTTP/1.1 200 ") == 1
    assert (status_of(clock.wire), clock.wire.ended, clock.shares.used) == (503, "closed", 0)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "20010db800010002"),
        ("2001:db8:1:2::", "20010db800010002"),
        ("fe80::1%eth0", "fe80000000000000"),
        ("", ""),
    ],
)
def test_an_address_is_what_a_client_has_to_itself(host: str, address: str) -> None:
    assert address_of(host) == address
