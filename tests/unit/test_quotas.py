"""A caller's rate and its share of what waits: what is let in, what is refused and for how long."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import pytest

from decoupled.core import api_keys, limits
from decoupled.core.api_keys import Keys, KeysError
from decoupled.core.outcomes import REUSED, NotSent, Together
from decoupled.core.workload import Message
from decoupled.engines.protocols import StoreUnavailable
from decoupled.server.door import Sent
from decoupled.server.quotas import Quotas

NUMBERS = itertools.count()


def messages(caller: str, number: int = 1) -> list[Message]:
    return [Message(f"m{next(NUMBERS)}", "orders", "{}", caller, 0) for _ in range(number)]


class Writer:
    """Takes everything. What waits is known to it alone; it commits when it is told to, or at once."""

    def __init__(self) -> None:
        self.at_once = True
        self.waiting: dict[str, int] = {}
        self.uncommitted: list[tuple[Sequence[Message], Sent]] = []
        self.counted: list[str] = []
        self.takes_s = 0.0
        self.clock = 1_000.0

    def send(self, messages: Sequence[Message], sent: Sent) -> None:
        self.uncommitted.append((messages, sent))
        if self.at_once:
            self.commit()

    def commit(self, outcome: NotSent | None = None) -> None:
        gathered, self.uncommitted = self.uncommitted, []
        for messages, sent in gathered:
            if outcome is None:
                self.enqueue(messages)
            sent(outcome)

    def enqueue(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.waiting[message.caller] = self.waiting.get(message.caller, 0) + 1

    def count(self, caller: str, most: int) -> int:
        self.counted.append(caller)
        self.clock += self.takes_s
        return min(most, self.waiting.get(caller, 0))


class Desk:
    """Quotas before such a writer, on a clock that the test moves."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rate: float | None = None,
        waiting: int | None = None,
        read: Callable[[], Keys | None] = lambda: None,
    ) -> None:
        self.loop = loop
        self.writer = Writer()
        self.quotas = Quotas(self.writer, rate, waiting, self._count, read, loop, lambda: self.writer.clock)

    def _count(self, caller: str, most: int) -> int:
        return self.writer.count(caller, most)

    def after(self, seconds: float) -> None:
        self.writer.clock += seconds

    def ask(self, caller: str, number: int = 1) -> list[Together]:
        """What is told of a request of so many messages; nothing while the writer has it."""
        told: list[Together] = []
        self.quotas.send(messages(caller, number), told.append)
        self.loop.run_until_complete(asyncio.sleep(0))
        return told

    def refusal(self, caller: str, number: int = 1) -> NotSent:
        (told,) = self.ask(caller, number)
        assert isinstance(told, NotSent)
        return told

    def accepted(self, caller: str, requests: int, number: int = 1) -> int:
        """How many of so many requests."""
        return sum(self.ask(caller, number) == [None] for _ in range(requests))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


# --- the rate -----------------------------------------------------------------


def test_a_caller_has_its_rate_and_a_seconds_worth_at_once(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, rate=50)
    assert desk.accepted("ana", 200) == 50
    accepted = 0
    for _ in range(1_000):  # ten seconds, ten times as fast as it may
        desk.after(0.01)
        accepted += desk.accepted("ana", 5)
    assert accepted in (499, 500)


def test_another_caller_has_its_own(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, rate=2)
    assert desk.accepted("ana", 10) == 2
    assert desk.accepted("ben", 2) == 2


def test_a_refusal_says_that_a_resend_is_safe_and_when_it_will_be_taken(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, rate=0.1)
    desk.ask("ana")
    refusal = desk.refusal("ana")
    assert (refusal.transient, refusal.unknown, refusal.retry_after_s) == (True, False, 10)
    assert refusal.detail == "no more than 0.1 messages a second are taken of this caller"
    desk.after(9.9)
    assert desk.refusal("ana").retry_after_s == 1
    desk.after(0.1)
    assert desk.ask("ana") == [None]


@pytest.mark.parametrize("rate", [0.001, 0.3, 1.0, 3.3, 7.0, 1_000_000.0])
def test_who_comes_back_when_it_was_told_to_is_let_in(loop: asyncio.AbstractEventLoop, rate: float) -> None:
    desk = Desk(loop, rate=rate)
    desk.ask("ana", max(1, int(rate)))
    for number in (1, 3, 1_000):
        while (told := desk.ask("ana", number)) != [None]:
            (refusal,) = told
            assert isinstance(refusal, NotSent)
            desk.after(refusal.retry_after_s)


def test_a_batch_larger_than_what_is_left_is_let_in_and_then_its_caller_waits(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, rate=50)
    assert desk.ask("ana", 1_000) == [None]
    assert desk.refusal("ana").retry_after_s == 20  # 950 more than a second's worth, and one
    desk.after(19.0)
    assert desk.ask("ana") != [None]
    desk.after(0.02)
    assert desk.ask("ana", 1_000) == [None]


def test_what_is_refused_reaches_no_writer(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, rate=1)
    desk.accepted("ana", 10)
    assert desk.writer.waiting == {"ana": 1}


def test_a_rate_of_its_own_goes_before_that_of_all(loop: asyncio.AbstractEventLoop) -> None:
    kept = [keys_of("ana", 5), keys_of("ben", None)]
    desk = Desk(loop, rate=2, read=lambda: kept.pop() if kept else None)
    assert desk.accepted("key:ben", 10) == 2
    desk.quotas.look()
    assert desk.accepted("key:ana", 10) == 5
    assert desk.accepted("ana", 10) == 2


def keys_of(name: str, rate: float | None) -> Keys:
    keys, _ = api_keys.add([], name, 0, lambda count: f"{next(NUMBERS):0{2 * count}x}", rate=rate)
    return keys


def test_a_changed_rate_counts_from_the_next_look_on(loop: asyncio.AbstractEventLoop) -> None:
    known = [keys_of("ana", 10)]
    desk = Desk(loop, read=lambda: known.pop() if known else None)
    assert desk.accepted("key:ana", 20) == 10
    known.append(keys_of("ana", 100))
    desk.quotas.look()
    desk.after(1)
    assert desk.accepted("key:ana", 200) == 100
    known.append(keys_of("ana", None))
    desk.quotas.look()
    assert desk.accepted("key:ana", 200) == 200


def test_rates_stay_as_they_were_while_the_keys_cannot_be_read(loop: asyncio.AbstractEventLoop) -> None:
    known = [keys_of("ana", 3)]

    def read() -> Keys | None:
        if not known:
            raise KeysError("gone")
        return known.pop()

    desk = Desk(loop, read=read)
    desk.quotas.look()
    assert desk.accepted("key:ana", 10) == 3


def test_where_nobody_has_a_limit_messages_go_straight_to_the_writer(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop)
    told: list[Together] = []
    sent = told.append
    desk.writer.at_once = False
    desk.quotas.send(messages("ana"), sent)
    assert desk.writer.uncommitted[0][1] is sent


# --- how many callers are remembered ------------------------------------------


def test_of_millions_of_callers_few_are_remembered(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CALLERS_KNOWN", 100)
    desk = Desk(loop, rate=1, waiting=10)
    for number in range(1_000):
        assert desk.ask(f"jwt:issuer#{number}") == [None]
    assert desk.quotas._accounts is not None
    assert len(desk.quotas._accounts) == 100


def test_who_has_a_debt_is_remembered_longer_than_who_has_none(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CALLERS_KNOWN", 100)
    desk = Desk(loop, rate=10)
    desk.ask("debtor", 1_000)
    for number in range(1_000):
        desk.after(0.1)
        desk.ask(f"jwt:issuer#{number}")
    assert desk.ask("debtor") == [None]  # a hundred seconds later it has paid
    desk.ask("debtor", 1_000)
    for number in range(900):
        desk.after(0.1)
        desk.ask(f"jwt:issuer#{number}")
    assert desk.ask("debtor") != [None]


def test_where_all_have_a_debt_the_one_is_forgotten_who_sent_longest_ago(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CALLERS_KNOWN", 2)
    desk = Desk(loop, rate=1)
    for caller in ("ana", "ben", "ana", "cem"):
        desk.ask(caller)
    assert desk.ask("ana") != [None]
    assert desk.ask("ben") == [None]


def test_nobody_is_forgotten_whose_messages_are_with_the_writer(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CALLERS_KNOWN", 1)
    desk = Desk(loop, waiting=2)
    desk.writer.at_once = False
    for caller in ("ana", "ana", "ben", "cem"):
        desk.ask(caller)
    assert desk.ask("ana")[0] is not None  # two of its messages may be on the queue by now


# --- the share of what waits --------------------------------------------------


def test_no_more_of_a_caller_wait_than_may(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=100)
    assert desk.accepted("ana", 150) == 100
    assert desk.accepted("ben", 100) == 100
    refusal = desk.refusal("ana")
    assert refusal.detail == "no more than 100 messages of this caller may wait"
    assert (refusal.transient, refusal.unknown, refusal.retry_after_s) == (True, False, 5)


def test_who_is_refused_is_let_in_once_its_messages_are_processed(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=100)
    desk.accepted("ana", 101)
    desk.writer.waiting["ana"] = 60
    desk.after(0.2)
    assert desk.accepted("ana", 100) == 40


def test_what_waits_of_an_earlier_server_counts(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=100)
    desk.writer.waiting["ana"] = 98
    assert desk.accepted("ana", 10) == 2


def test_a_batch_is_taken_as_a_whole_or_not(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=100)
    desk.accepted("ana", 90)
    refusal = desk.refusal("ana", 11)
    assert refusal.quota is not None
    assert refusal.quota.ratelimit == '"waiting";r=10;t=5'
    assert desk.ask("ana", 10) == [None]


def test_a_batch_of_more_than_may_ever_wait_is_told_so(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=100)
    refusal = desk.refusal("ana", 101)
    assert not refusal.transient
    assert refusal.detail == "no more than 100 messages of this caller may wait; these are 101"


def test_what_the_writer_has_counts_until_it_says_that_it_is_not_on_the_queue(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=10)
    desk.writer.at_once = False
    for _ in range(10):
        assert desk.ask("ana") == []
    assert desk.ask("ana")[0] is not None
    desk.writer.commit(NotSent("the disk is full"))
    desk.writer.at_once = True
    assert desk.accepted("ana", 20) == 10


def test_what_may_be_on_the_queue_counts_as_if_it_were(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=10)
    desk.writer.at_once = False
    for _ in range(10):
        desk.ask("ana")
    desk.writer.commit(NotSent("power", unknown=True))
    desk.writer.at_once = True
    assert desk.ask("ana") != [None]  # and it has been counted a moment ago
    desk.after(0.2)
    assert desk.ask("ana") == [None]


def test_of_a_batch_counts_what_was_taken(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=10)
    desk.writer.at_once = False
    desk.ask("ana", 8)
    ((sent, tell),) = desk.writer.uncommitted
    desk.writer.uncommitted = []
    tell([REUSED] * 3 + [None] * 5)
    desk.writer.enqueue(sent[3:])
    desk.writer.at_once = True
    assert desk.accepted("ana", 10) == 5


def test_what_is_emitted_counts_and_is_not_refused(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=10)
    desk.ask("ana")
    emitted = messages("ana", 20)
    desk.writer.enqueue(emitted)
    desk.quotas.emitting(emitted)
    assert desk.ask("ana") != [None]


def test_nothing_is_counted_while_the_limit_is_far(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=1_000)
    desk.accepted("ana", 900)
    assert desk.writer.counted == ["ana"]


def test_who_asks_again_and_again_is_counted_ten_times_a_second(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=10)
    desk.accepted("ana", 11)
    before = len(desk.writer.counted)
    for _ in range(1_000):  # a second
        desk.after(0.001)
        desk.ask("ana")
    assert len(desk.writer.counted) - before in (9, 10, 11)


def test_counting_takes_a_part_of_the_writers_time(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=10)
    desk.accepted("ana", 10)
    desk.accepted("ben", 10)
    desk.writer.takes_s = 0.05
    before, since = len(desk.writer.counted), desk.writer.clock
    while desk.writer.clock < since + 21:
        desk.after(0.01)
        desk.ask("ana")
        desk.ask("ben")
    assert len(desk.writer.counted) - before in (20, 21)  # of 50 ms each, in 21 s


def test_a_store_that_cannot_count_refuses_nobody_and_does_so_itself(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, waiting=10)

    def fail(caller: str, most: int) -> int:
        raise StoreUnavailable("disk I/O error")

    desk.writer.count = fail  # type: ignore[method-assign]
    assert desk.ask("ana") == [None]


def test_the_estimate_is_never_below_the_truth(loop: asyncio.AbstractEventLoop) -> None:
    """Random histories of sends, commits that fail or not, processing and emits, for three callers."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201  shown when the test fails
    chance = random.Random(seed)
    desk = Desk(loop, waiting=20)
    callers = ("ana", "ben", "cem")
    outcomes = (None, None, NotSent("full"), NotSent("power", unknown=True))
    for _ in range(3_000):
        desk.after(chance.choice((0.0, 0.001, 0.2)))
        caller = chance.choice(callers)
        match chance.randrange(5):
            case 0 | 1:
                desk.writer.at_once = chance.random() < 0.5
                desk.ask(caller, chance.randrange(1, 8))
            case 2:
                desk.writer.commit(chance.choice(outcomes))
            case 3:
                waiting = desk.writer.waiting.get(caller, 0)
                desk.writer.waiting[caller] = waiting - chance.randint(0, waiting)
            case 4 if chance.random() < 0.2:
                emitted = messages(caller, 3)
                desk.quotas.emitting(emitted)
                desk.writer.enqueue(emitted)
        on_their_way = sum(len(some) for some, _ in desk.writer.uncommitted if some[0].caller == caller)
        assert desk.quotas._accounts is not None
        if (account := desk.quotas._accounts.get(caller)) is not None:
            at_most = min(20, desk.writer.waiting.get(caller, 0) + on_their_way)  # it counts no further than that
            assert account.waiting + account.pending >= at_most


# --- what is told of it -------------------------------------------------------


def test_health_names_who_was_refused_lately_those_with_most_first(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, rate=1)
    for number in range(12):
        desk.accepted(f"caller {number}", 3 + number)
    desk.after(30)
    desk.accepted("caller 3", 2)
    told = desk.quotas.told()
    assert told["callers"] == 12
    assert [who["caller"] for who in told["worst"]] == [f"caller {number}" for number in range(11, 1, -1)]
    worst = told["worst"][0]
    assert worst == {
        "caller": "caller 11",
        "why": "no more than 1 messages a second are taken of this caller",
        "messages": 13,
        "last_s": 30.0,
    }
    desk.after(31)
    assert [who["caller"] for who in desk.quotas.told()["worst"]] == ["caller 3"]


def test_a_caller_is_in_the_log_once_a_minute(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(loop, rate=1)
    for _ in range(1_190):  # two minutes, but for a second
        desk.after(0.1)
        desk.accepted("ana", 2)
    desk.accepted("ben", 2)
    told = [record.__dict__["caller"] for record in caplog.records if record.message == "a caller is refused"]
    assert told == ["ana", "ana", "ben"]


def test_of_many_that_are_refused_few_are_remembered(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CALLERS_LIMITED", 50)
    desk = Desk(loop, rate=1)
    for number in range(200):
        desk.accepted(f"caller {number}", 2)
    assert desk.quotas.told()["callers"] == 50


def test_one_clients_trouble_does_not_keep_the_answer_from_the_others(loop: asyncio.AbstractEventLoop) -> None:
    desk = Desk(loop, rate=1)
    desk.ask("ana")
    told: list[Together] = []

    def fail(_outcome: Together) -> None:
        raise ZeroDivisionError

    desk.quotas.send(messages("ana"), fail)
    desk.quotas.send(messages("ana"), told.append)
    loop.run_until_complete(asyncio.sleep(0))
    assert len(told) == 1
