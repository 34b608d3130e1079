"""The back: SQS events in, stored results and `batchItemFailures` out. `EventSource` plays Lambda's event source
mapping over a model queue; the functions under test are the real ones."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.metrics import Numbers
from decoupled.core.outcomes import Commit, Decision, Delivery, Failure, NotSent, NotStored, Record, Reject, Stored
from decoupled.core.workload import Add, Effects, Emit, Message, NotYet, Put, Rejected, Unavailable, Workload, Workloads
from decoupled.engines.aws.sqs_format import SqsDelivery, deliveries
from decoupled.pipeline import blame, processor
from decoupled.pipeline.runs import Runs
from decoupled.pipeline.settlement import Policy
from tests.support.events import process_event, sqs_event, sqs_record
from tests.support.model_engine import ManualClock, ModelQueue, ModelTable

MAX_ATTEMPTS = 3
VISIBILITY_TIMEOUT_S = 180.0


class Died(BaseException):
    """The function's process died here: nothing after this ran."""


class Entry(msgspec.Struct):
    act: str = ""
    value: int = 0

    def __post_init__(self) -> None:
        if self.act == "broken schema":
            raise KeyError("a bug in the schema's own checks")


acts: dict[str, Callable[[], object]] = {}
"""What an entry makes the workload do, beside counting itself; tests add to it."""


def count_once(entry: Entry, message: Message) -> Effects:
    acts.get(entry.act, lambda: None)()
    if entry.act == "emit":
        return Effects({"value": entry.value}, emits=[Emit("sums", Entry("emitted"))])
    if entry.act == "emit later":
        return Effects({"value": entry.value}, emits=[Emit("sums", Entry("emitted"), delay_s=3_600)])
    if entry.act == "claim":
        return Effects({}, [Put("sums/names/ana", {"by": message.id}, if_absent="the name is taken")])
    return Effects({"value": entry.value}, [Add("sums/totals/all", {"value": entry.value, "count": 1})])


WORKLOADS = {"sums": Workload("sums", Entry, count_once, emits_to=("sums",))}


class SickTable(ModelTable):
    """A table that a test makes sick: `sick(method, message id)` answers why. A commit in `lost` loses its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.sick: Callable[[str, str], str | None] = lambda method, message_id: None
        self.lost: set[str] = set()

    def commit(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> list[Stored | NotStored]:
        outcomes: list[Stored | NotStored] = []
        for message, decision in decided:
            if (why := self.sick("commit", message.id)) is not None:
                outcomes.append(NotStored(why))
                continue
            stored = super()._commit_one(message, decision, now_ms)
            outcomes.append(NotStored("the answer was lost") if message.id in self.lost else stored)
            self.lost.discard(message.id)
        return outcomes

    def begin_attempt(self, delivery: Delivery) -> Record:
        self._refuse("begin_attempt", delivery.message.id)
        return super().begin_attempt(delivery)

    def undo_attempt(self, delivery: Delivery) -> None:
        self._refuse("undo_attempt", delivery.message.id)
        super().undo_attempt(delivery)

    def record_failure(self, delivery: Delivery, failure: Failure, now_ms: int, begun: bool = False) -> Record:
        self._refuse("record_failure", delivery.message.id)
        return super().record_failure(delivery, failure, now_ms, begun)

    def bury(self, delivery: Delivery, dead: Record) -> bool:
        self._refuse("bury", dead.id)
        return super().bury(delivery, dead)

    def _refuse(self, method: str, message_id: str) -> None:
        if (why := self.sick(method, message_id)) is not None:
            raise Unavailable(why)


class ModelQueueWithFaults(ModelQueue):
    """A queue whose sends fail as long as a test says so."""

    fault: NotSent | None = None

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        if self.fault is not None:
            return [self.fault] * len(messages)
        return super().send(messages)


@dataclass
class EventSource:
    """Delivers what is visible, ten a batch, and deletes what the function did not give back."""

    clock: ManualClock = field(default_factory=ManualClock)
    table: SickTable = field(default_factory=SickTable)
    batch: int = 10
    remaining_s: Callable[[], float] = lambda: 30.0
    max_attempts: int = MAX_ATTEMPTS
    workloads: Workloads = field(default_factory=lambda: WORKLOADS)
    span_s: float = 0.0
    environments: list[Runs] = field(default_factory=list)  # Lambda's, in turn; without, a new one each time

    def __post_init__(self) -> None:
        self.queue = ModelQueueWithFaults(self.clock)
        self.invocations = 0

    def send(self, *acts: str, value: int = 1, group: str = "") -> list[str]:
        messages = [
            Message(
                f"m{len(self.queue) + n}", "sums", json.dumps({"act": act, "value": value}), "ana", self.clock(), group
            )
            for n, act in enumerate(acts)
        ]
        self.queue.send(messages)
        return [message.id for message in messages]

    def invoke(self) -> list[str]:
        """One batch. The ids that were given back; none if there was nothing to deliver."""
        deliveries = self.queue.receive(self.batch, VISIBILITY_TIMEOUT_S)
        self.invocations += bool(deliveries)
        event = sqs_event([sqs_record(d.message, d.receive_count, d.receipt) for d in deliveries])
        answer = process_event(
            event,
            self.queue,
            self.table,
            self.workloads,
            self.max_attempts,
            self.remaining_s,
            self.clock,
            self.span_s,
            self.environments[self.invocations % len(self.environments)] if self.environments else None,
        )
        assert answer.keys() == {"batchItemFailures"}
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        assert failed <= {f"sqs-{d.message.id}" for d in deliveries}, "an unknown id fails the whole batch on Lambda"
        self.queue.delete([d for d in deliveries if f"sqs-{d.message.id}" not in failed])
        return [d.message.id for d in deliveries if f"sqs-{d.message.id}" in failed]

    def run(self, until_s: float = 1e9, invocations: int = 5000) -> None:
        """Invoke until the queue is empty, moving the clock to when the next message is visible."""
        end = self.clock() + int(until_s * 1000)
        for _ in range(invocations):
            with contextlib.suppress(Died):
                self.invoke()
            if not self.queue.rows:
                return
            self.clock.now_ms = max(self.clock(), min(row.visible_at for row in self.queue.rows))
            if self.clock() > end:
                return
        raise AssertionError(f"{len(self.queue)} messages are still there after {invocations} invocations")

    def status(self, message_id: str) -> str:
        record = self.table.records.get(message_id)
        return "none" if record is None else record.status

    @property
    def total(self) -> Any:
        return self.table.items.get("sums/totals/all", {}).get("value", 0)


def fail(text: str = "no") -> None:
    raise ValueError(text)


def unavailable() -> None:
    raise Unavailable("the backend is down")


@pytest.fixture(autouse=True)
def _fresh_acts() -> None:
    acts.clear()
    acts["fail"] = fail
    acts["unavailable"] = unavailable


# --- the ordinary case --------------------------------------------------------


def test_a_batch_is_processed_and_nothing_comes_back() -> None:
    source = EventSource()
    ids = source.send(*[""] * 10)
    assert source.invoke() == []
    assert [source.status(i) for i in ids] == ["processed"] * 10
    assert source.total == 10
    assert len(source.queue) == 0


def test_no_records_are_no_error() -> None:
    assert EventSource().invoke() == []


def test_only_what_failed_comes_back() -> None:
    source = EventSource()
    ids = source.send("", "fail", "", "unavailable", "")
    assert source.invoke() == [ids[1], ids[3]]
    assert source.total == 3


def test_a_message_delivered_twice_is_applied_once() -> None:
    source = EventSource()
    (message,) = [Message("m", "sums", '{"value": 5}', "", 0)]
    source.queue.send([message, message])
    source.queue.send([message])
    source.run()
    assert source.total == 5


def test_a_rule_that_says_no_is_final_and_recorded() -> None:
    def refuse() -> None:
        raise Rejected("not on Sundays")

    acts["refuse"] = refuse
    source = EventSource()
    first, second, third = source.send("claim", "claim", "refuse")
    assert source.invoke() == []
    assert [source.status(i) for i in (first, second, third)] == ["processed", "rejected", "rejected"]
    assert [source.table.records[i].reason for i in (second, third)] == ["the name is taken", "not on Sundays"]


def test_a_tally_is_told_what_a_batch_came_to_and_how_long_each_took() -> None:
    source, tally = EventSource(), Numbers()
    source.send("", "claim", "claim", "fail", "unavailable")
    received = source.queue.receive(10, VISIBILITY_TIMEOUT_S)
    failed = processor.process(
        received, source.queue, source.table, WORKLOADS, Policy(1, source.clock), lambda: 30.0, tally
    )
    assert [delivery.message.id for delivery in failed] == ["m4"]
    counted = {"processed": 2, "rejected": 1, "dead": 1, "retried": 1}
    assert tally.counters == {metric: {"sums": count} for metric, count in counted.items()}
    assert sum(tally.histograms["processing_seconds"]["sums"].counts) == 5


def test_a_reason_without_end_is_cut() -> None:
    def refuse() -> None:
        raise Rejected("x" * 500_000)

    acts["refuse"] = refuse
    source = EventSource()
    (message_id,) = source.send("refuse")
    source.invoke()
    assert len(source.table.records[message_id].reason or "") == limits.MAX_ERROR_CHARS


# --- not yet ------------------------------------------------------------------


def waits_until(due: datetime | float) -> None:
    raise NotYet(due)


def at(source: EventSource, seconds: float) -> datetime:
    return datetime.fromtimestamp(source.clock() / 1000 + seconds, UTC)


@pytest.mark.parametrize("seconds", [90.0, 20 * 3600.0, 300 * 86400.0])
@pytest.mark.parametrize("by_time", [True, False])
def test_a_message_that_is_not_due_yet_comes_back_then_and_has_no_attempt(
    seconds: float, by_time: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = EventSource()
    due = at(source, seconds)
    acts["later"] = lambda: waits_until(due if by_time else seconds)
    (message_id,) = source.send("later")
    assert source.invoke() == [message_id]
    (row,) = source.queue.rows
    assert row.visible_at == row.due_at == source.clock() + seconds * 1000
    assert source.status(message_id) == "none"  # no attempt was counted
    acts.clear()
    source.clock.now_ms = row.visible_at
    assert source.invoke() == []
    record = source.table.records[message_id]
    assert (record.status, record.error_type) == ("processed", None)
    assert [entry.levelname for entry in caplog.records if entry.name.startswith("decoupled")] == ["INFO"]


def test_a_message_may_be_found_not_due_more_often_than_it_may_fail() -> None:
    source = EventSource()
    acts["later"] = lambda: waits_until(60)
    (message_id,) = source.send("later")
    for _ in range(20 * MAX_ATTEMPTS):
        assert source.invoke() == [message_id]
        source.clock.advance(60)
    assert source.status(message_id) == "queued"
    assert source.table.records[message_id].attempts == 0
    acts.clear()
    assert source.invoke() == []
    assert source.status(message_id) == "processed"


@pytest.mark.parametrize("seconds", [0, -86_400])
def test_a_time_that_is_past_is_asked_again_no_sooner_than_in_a_second(seconds: float) -> None:
    source = EventSource()
    due = at(source, seconds)
    acts["later"] = lambda: waits_until(due)
    source.send("later")
    source.invoke()
    assert source.queue.rows[0].visible_at == source.clock() + limits.NOT_YET_S * 1000


def test_a_time_beyond_a_year_is_asked_again_in_a_year() -> None:
    source = EventSource()
    due = at(source, 5 * limits.MAX_LATER_S)
    acts["later"] = lambda: waits_until(due)
    source.send("later")
    source.invoke()
    assert source.queue.rows[0].visible_at == source.clock() + limits.MAX_LATER_S * 1000


@pytest.mark.parametrize("until", [datetime(2027, 1, 1), -1, float("nan"), limits.MAX_LATER_S + 1])  # noqa: DTZ001
def test_not_yet_until_no_time_is_the_workload_s_bug(until: datetime | float) -> None:
    source = EventSource()
    acts["later"] = lambda: waits_until(until)
    (message_id,) = source.send("later")
    source.invoke()
    record = source.table.records[message_id]
    assert (record.attempts, record.error_type) == (1, "ValueError")
    assert "time zone" in (record.error or "") or "0 to 31622400 seconds" in (record.error or "")


def test_what_is_emitted_later_is_due_that_long_after_its_message_was_processed() -> None:
    source = EventSource()
    (message_id,) = source.send("emit later")
    source.clock.advance(500)
    source.invoke()
    (row,) = source.queue.rows
    assert row.due_at == row.visible_at == source.clock() + 3_600_000
    (emit,) = source.table.emits[message_id]
    assert emit.due_at == row.due_at  # what a redelivery would send again


# --- failures -----------------------------------------------------------------


def test_a_failing_message_is_dead_after_its_attempts_with_its_story_and_alone() -> None:
    source = EventSource()
    ids = source.send("", "fail", "")
    source.run()
    dead = source.table.dead_letters[ids[1]]
    assert (dead.status, dead.attempts, dead.error_type, dead.error) == ("dead", MAX_ATTEMPTS, "ValueError", "no")
    assert dead.body == '{"act": "fail", "value": 1}'
    assert dead.first_failed_at is not None
    assert dead.first_failed_at <= (dead.last_failed_at or 0) <= (dead.finished_at or 0)
    assert source.table.records[ids[1]] == dead
    assert [source.status(i) for i in (ids[0], ids[2])] == ["processed"] * 2
    assert list(source.table.dead_letters) == [ids[1]]


def test_a_failure_waits_longer_each_time() -> None:
    source = EventSource(max_attempts=6)
    source.send("fail")
    waits = []
    for _ in range(5):
        source.invoke()
        (row,) = source.queue.rows
        waits.append((row.visible_at - source.clock()) / 1000)
        source.clock.now_ms = row.visible_at
    for attempt, wait in enumerate(waits, start=1):
        ceiling = limits.BACKOFF_FIRST_S * 2 ** (attempt - 1)
        assert ceiling / 2 <= wait <= ceiling


@pytest.mark.parametrize(
    ("body", "error_type"),
    [
        ("nonsense", "DecodeError"),
        ('{"value": "five"}', "ValidationError"),
        ("[" * 50_000, "ValidationError"),
        ('{"x": ' + "[" * 50_000, "RecursionError"),
        ("\ud800", "UnicodeEncodeError"),
        ("", "DecodeError"),
    ],
)
def test_what_cannot_be_decoded_waits_for_a_newer_version_and_takes_nobody_with_it(body: str, error_type: str) -> None:
    source = EventSource()
    source.send("", "")
    source.queue.send([Message("bad", "sums", body, "", 0)])
    assert source.invoke() == ["bad"]
    assert source.total == 2
    source.run(until_s=limits.VERSION_SKEW_S - 1)
    assert source.status("bad") == "queued"
    source.run()
    assert source.table.dead_letters["bad"].error_type == error_type
    assert source.clock() - ManualClock()() >= limits.VERSION_SKEW_S * 1000


def test_a_bug_in_a_schemas_own_checks_is_that_messages_failure() -> None:
    source = EventSource()
    bad, good = source.send("broken schema", "")
    assert source.invoke() == [bad]
    assert source.status(good) == "processed"


def test_the_text_of_an_error_is_bounded_and_storable() -> None:
    acts["fail"] = lambda: fail("\ud800" + "x" * 500_000)
    source = EventSource()
    (message_id,) = source.send("fail")
    source.invoke()
    error = source.table.records[message_id].error or ""
    assert len(error) == limits.MAX_ERROR_CHARS
    error.encode()


def test_an_undecodable_value_is_not_repeated_at_length() -> None:
    decision = processor.decide(
        Message("m", "kinds", json.dumps("x" * 100_000), "", 0),
        {"kinds": Workload("kinds", Kind, lambda kind, message: Effects({}))},
        1.0,
    )
    assert isinstance(decision, Failure)
    assert len(decision.error) <= limits.MAX_ERROR_CHARS


class Kind(msgspec.Struct, array_like=True):
    name: str


def test_a_workload_that_is_not_served_here_is_retried_and_then_dead_with_its_name() -> None:
    source = EventSource()
    source.queue.send([Message("m", "parcels", "{}", "", 0)])
    source.run()
    assert source.table.dead_letters["m"].error_type == "UnknownWorkload"
    assert "parcels" in (source.table.dead_letters["m"].error or "")


def test_a_workload_that_exits_is_one_messages_failure() -> None:
    acts["exit"] = lambda: sys.exit(3)
    source = EventSource()
    bad, good = source.send("exit", "")
    assert source.invoke() == [bad]
    assert source.status(good) == "processed"
    assert source.table.records[bad].error_type == "SystemExit"


def test_effects_that_no_engine_can_apply_are_the_messages_failure() -> None:
    forgets_to_return: Any = lambda entry, message: None  # noqa: E731
    workloads = {"sums": Workload("sums", Entry, forgets_to_return)}
    decision = processor.decide(Message("m", "sums", "{}", "", 0), workloads, 1.0)
    assert isinstance(decision, Failure)
    assert (decision.kind, decision.error_type) == ("failed", "EffectsError")


# --- a bad deployment ---------------------------------------------------------


@pytest.mark.parametrize(("span_s", "dead"), [(0.0, 100), (limits.ATTEMPTS_SPAN_S, 0)])
def test_a_bug_that_fails_everything_costs_nothing_if_it_is_mended_within_the_span(span_s: float, dead: int) -> None:
    source = EventSource(max_attempts=limits.MAX_ATTEMPTS, span_s=span_s)
    source.send(*["fail"] * 100)
    source.run(until_s=limits.ATTEMPTS_SPAN_S - 1)
    acts["fail"] = lambda: None
    source.run()
    assert len(source.table.dead_letters) == dead
    assert source.total == 100 - dead


def test_what_an_older_version_cannot_decode_waits_for_the_whole_span() -> None:
    source = EventSource(span_s=limits.ATTEMPTS_SPAN_S)
    source.send(*["unknown to it"] * 20)
    newer, source.workloads = source.workloads, {}
    source.run(until_s=limits.ATTEMPTS_SPAN_S - 1)
    source.workloads = newer
    source.run()
    assert source.table.dead_letters == {}
    assert source.total == 20


def test_a_bug_that_is_there_for_a_day_kills_nothing_where_an_environment_sees_that_all_fail_alike() -> None:
    source = EventSource(max_attempts=limits.MAX_ATTEMPTS, span_s=limits.ATTEMPTS_SPAN_S)
    source.environments = [Runs(), Runs(), Runs()]
    source.send(*["fail"] * 100)
    source.run(until_s=86_400, invocations=50_000)
    assert source.table.dead_letters == {}
    counted = sum(record.attempts for record in source.table.records.values())
    assert counted <= limits.HOLD_AFTER * len(source.environments)
    acts["fail"] = lambda: None
    source.run()
    assert source.total == 100


def test_poison_among_good_messages_is_dead_after_its_attempts_and_alone() -> None:
    source = EventSource(environments=[Runs()])
    ids = source.send(*[*["fail"] * 9, ""] * 20)
    source.run()
    assert len(source.table.dead_letters) == 180
    assert source.total == len(ids) - 180


def test_failures_that_are_not_alike_are_each_their_messages_own() -> None:
    acts["another"] = unavailable_as_a_bug
    source = EventSource(environments=[Runs()])
    source.send(*["fail", "another"] * 40)
    source.run()
    assert len(source.table.dead_letters) == 80


def unavailable_as_a_bug() -> None:
    raise KeyError("no such field")


def test_a_message_that_kills_its_process_comes_back_after_as_long_as_one_that_fails() -> None:
    acts["die"] = die
    source = EventSource(max_attempts=limits.MAX_ATTEMPTS, span_s=limits.ATTEMPTS_SPAN_S)
    (poison,) = source.send("die")
    source.run()
    assert source.table.dead_letters[poison].error_type == "Crashed"
    assert (source.clock() - ManualClock()()) / 1000 >= limits.ATTEMPTS_SPAN_S


def test_poison_is_dead_within_twice_the_span() -> None:
    source = EventSource(max_attempts=limits.MAX_ATTEMPTS, span_s=limits.ATTEMPTS_SPAN_S)
    (poison,) = source.send("fail")
    source.run()
    assert source.table.dead_letters[poison].attempts == limits.MAX_ATTEMPTS
    assert limits.ATTEMPTS_SPAN_S <= (source.clock() - ManualClock()()) / 1000 <= 2 * limits.ATTEMPTS_SPAN_S


# --- what is not ours ---------------------------------------------------------


def test_a_message_that_the_receiver_did_not_send_is_dead_under_its_sqs_id() -> None:
    record = {
        "messageId": "0f9b6c3e-1c1f-4f55-9d7c-d2b1c1a1e7aa",
        "receiptHandle": "r",
        "body": "hello",
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1795000000000"},
    }
    source = EventSource()
    answer = process_event(sqs_event([record]), source.queue, source.table, WORKLOADS, 3, lambda: 30.0)
    assert answer == {"batchItemFailures": []}
    dead = source.table.dead_letters["0f9b6c3e-1c1f-4f55-9d7c-d2b1c1a1e7aa"]
    assert (dead.error_type, dead.body, dead.accepted_at) == ("NotOurs", "hello", 1795000000000)


@pytest.mark.parametrize(
    "attributes",
    [
        {"id": {"stringValue": "x" * 65, "dataType": "String"}},
        {"id": {"stringValue": "a/b", "dataType": "String"}},
        {"id": {"binaryValue": "AAAA", "dataType": "Binary"}},
        {"id": {"stringValue": None}, "caller": None},
        {"accepted_at": {"stringValue": "9" * 5000, "dataType": "Number"}},
        {"accepted_at": {"stringValue": "١٢", "dataType": "String"}},
        {"accepted_at": {"stringValue": "-1", "dataType": "Number"}},
        None,
    ],
)
def test_strange_attributes_fail_no_batch(attributes: Mapping[str, Any] | None) -> None:
    record = sqs_record(Message("m", "sums", "{}", "", 1_795_000_000_000))
    record["messageAttributes"] = attributes
    (delivery,) = deliveries({"Records": [record]})
    assert delivery.message.id == "sqs-m"
    assert 0 <= delivery.message.accepted_at < 10**14


# --- a sick backend -----------------------------------------------------------


def test_a_sick_backend_never_makes_a_dead_letter_however_long_it_lasts() -> None:
    source = EventSource()
    ids = source.send(*["unavailable"] * 10)
    source.run(until_s=86_400)
    assert source.table.dead_letters == {}
    acts["unavailable"] = lambda: None
    source.run()
    assert [source.status(i) for i in ids] == ["processed"] * 10
    assert source.total == 10


@pytest.mark.parametrize("error", [ConnectionRefusedError("refused"), TimeoutError("slow"), Unavailable("sick")])
def test_connection_trouble_is_a_sick_backend(error: Exception) -> None:
    def trouble() -> None:
        raise error

    acts["trouble"] = trouble
    decision = processor.decide(Message("m", "sums", '{"act": "trouble"}', "", 0), WORKLOADS, 1.0)
    assert isinstance(decision, Failure)
    assert decision.kind == "unavailable"


@pytest.mark.parametrize(("wish", "least"), [(120.0, 120.0), (10**9, 43_200.0), ("soon", 1.0), (float("nan"), 1.0)])
def test_a_backend_is_asked_again_when_it_said_and_nonsense_is_no_wish(wish: Any, least: float) -> None:
    def trouble() -> None:
        raise Unavailable("sick", retry_after_s=wish)

    acts["trouble"] = trouble
    source = EventSource()
    source.send("trouble")
    source.invoke()
    assert source.queue.rows[0].visible_at - source.clock() >= least * 1000


def test_a_sick_table_never_makes_a_dead_letter_and_nothing_is_applied_twice() -> None:
    source = EventSource()
    ids = source.send(*[""] * 5)
    source.table.sick = lambda method, message_id: "throttled"
    source.run(until_s=86_400)
    assert source.table.dead_letters == {}
    assert len(source.queue) == 5
    source.table.sick = lambda method, message_id: None
    source.run()
    assert [source.status(i) for i in ids] == ["processed"] * 5
    assert source.total == 5


def test_a_failure_is_not_forgotten_while_the_table_is_sick() -> None:
    source = EventSource()
    (message_id,) = source.send("fail")
    source.table.sick = lambda method, _: "throttled"
    source.run(until_s=3600)
    assert source.status(message_id) == "none"
    source.table.sick = lambda method, _: None
    source.run()
    assert source.status(message_id) == "dead"


def test_once_the_table_is_sick_the_other_suspects_do_not_wait_for_it() -> None:
    source = EventSource()
    source.send(*["unavailable"] * 5)
    source.invoke()
    source.clock.advance(1000)
    asked = []

    def sick(method: str, message_id: str) -> str:
        asked.append(message_id)
        return "time-out"

    source.table.sick = sick
    assert len(source.invoke()) == 5
    assert asked == ["m0", "m0"]  # its start, and to take that back, for all that is known


def test_a_lost_answer_is_asked_again_and_applied_once() -> None:
    source = EventSource()
    ids = source.send("", "", "")
    source.table.lost = {ids[1]}
    assert source.invoke() == [ids[1]]
    source.run()
    assert source.total == 3


# --- emits --------------------------------------------------------------------


def test_what_a_message_emits_is_sent_and_processed_once() -> None:
    source = EventSource()
    source.send("emit", value=5)
    source.run()
    assert source.total == 0 + 0  # the emitted entry has value 0
    assert source.table.items["sums/totals/all"]["count"] == 1


def test_an_emit_that_could_not_be_sent_is_sent_at_a_later_delivery() -> None:
    source = EventSource()
    (message_id,) = source.send("emit")
    source.queue.fault = NotSent("throttled")
    assert source.invoke() == [message_id]
    assert source.status(message_id) == "processed"
    source.queue.fault = None
    source.run()
    assert source.table.items["sums/totals/all"]["count"] == 1


def test_a_delivery_that_fails_beside_one_that_succeeded_still_sends_what_that_one_emits() -> None:
    """One message, delivered twice: one delivery stores it and dies before it sends what it emits; the other fails."""
    source = EventSource()
    (message_id,) = source.send("emit")
    message = source.queue.rows[0].message
    rival = processor.decide(message, WORKLOADS, 1.0)
    assert isinstance(rival, Commit)

    def fail_after_the_rival() -> None:
        source.table.commit([(message, rival)], source.clock())
        fail()

    acts["emit"] = fail_after_the_rival
    source.invoke()
    del acts["emit"]
    source.run()
    assert source.status(message_id) == "processed"
    assert source.table.items["sums/totals/all"]["count"] == 1, "the emitted message was lost"


def test_a_message_that_was_finished_meanwhile_is_not_buried() -> None:
    source = EventSource(max_attempts=1)
    (message_id,) = source.send("emit")
    message = source.queue.rows[0].message
    decision = processor.decide(message, WORKLOADS, 1.0)
    assert isinstance(decision, Commit)

    def finish_first(method: str, _: str) -> None:
        if method == "bury":
            source.table.sick = lambda method, _: None
            source.table.commit([(message, decision)], source.clock())

    source.table.sick = finish_first
    acts["emit"] = fail
    source.invoke()
    del acts["emit"]
    source.run()
    assert source.table.dead_letters == {}
    assert source.status(message_id) == "processed"
    assert source.table.items["sums/totals/all"]["count"] == 1


# --- crashes ------------------------------------------------------------------


def die() -> None:
    raise Died


def test_a_message_that_kills_its_process_is_dead_in_the_end_and_the_good_ones_are_processed() -> None:
    acts["die"] = die
    source = EventSource()
    good = source.send("", "", "")
    (poison,) = source.send("die")
    more = source.send("", "")
    source.run()
    assert [source.status(i) for i in (*good, *more)] == ["processed"] * 5
    dead = source.table.dead_letters[poison]
    assert dead.error_type == "Crashed"
    assert source.total == 5


def test_good_messages_of_a_batch_that_died_are_not_blamed() -> None:
    acts["die"] = die
    source = EventSource()
    ids = source.send("", "die", "")
    source.run()
    assert list(source.table.dead_letters) == [ids[1]]


def test_a_crash_after_some_failures_keeps_their_story() -> None:
    source = EventSource()
    calls = iter([fail, die, die, die, die])
    acts["mixed"] = lambda: next(calls)()
    (message_id,) = source.send("mixed")
    source.run()
    assert (source.table.dead_letters[message_id].error_type, source.table.dead_letters[message_id].error) == (
        "ValueError",
        "no",
    )


@pytest.mark.parametrize("method", ["retry_later", "bury", "delete"])
def test_a_process_that_dies_at_the_queue_loses_and_doubles_nothing(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = EventSource()
    bad, good = source.send("fail", "")
    owner = source.table if method == "bury" else source.queue
    real, deaths = getattr(owner, method), iter([True, True])

    def dies_twice(*arguments: Any) -> Any:
        if next(deaths, False):
            raise Died
        return real(*arguments)

    monkeypatch.setattr(owner, method, dies_twice)
    source.run()
    assert (source.status(bad), source.status(good)) == ("dead", "processed")
    assert source.total == 1


# --- time ---------------------------------------------------------------------


def test_when_time_runs_out_the_rest_comes_back_unblamed_and_what_is_done_is_stored() -> None:
    clock = iter([10.0, 10.0, 8.0, 2.0, 1.0, 0.5])
    source = EventSource(remaining_s=lambda: next(clock))
    ids = source.send(*[""] * 5)
    assert source.invoke() == ids[2:]
    assert [source.status(i) for i in ids] == ["processed"] * 2 + ["none"] * 3
    source.remaining_s = lambda: 30.0
    source.run()
    assert source.total == 5


def test_a_function_with_a_short_time_out_still_processes() -> None:
    source = EventSource(remaining_s=lambda: 2.0)
    source.send("")
    assert source.invoke() == []


def spin() -> None:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        pass
    raise AssertionError("nobody interrupted")


def test_a_slow_record_is_interrupted_and_the_others_are_processed() -> None:
    acts["slow"] = spin
    started = time.monotonic()
    source = EventSource(remaining_s=lambda: 0.4 - (time.monotonic() - started))
    source.batch = 2
    first, slow = source.send("", "slow")
    assert source.invoke() == [slow]
    assert source.status(first) == "processed"
    record = source.table.records[slow]
    assert (record.error_type, record.attempts) == ("TimeLimitExceeded", 1)


def test_a_record_that_was_left_too_little_time_is_not_blamed_for_running_out_of_it() -> None:
    acts["slow"] = spin
    message = Message("m", "sums", '{"act": "slow"}', "", 0)
    late = processor.decide(message, WORKLOADS, limit_s=0.05, whole_s=10.0)
    assert isinstance(late, Failure)
    assert (late.kind, late.error_type) == ("not_started", "TimeLimitExceeded")
    alone = processor.decide(message, WORKLOADS, limit_s=0.05)
    assert isinstance(alone, Failure)
    assert (alone.kind, alone.error_type) == ("failed", "TimeLimitExceeded")


def test_a_workload_that_swallows_the_interruption_is_interrupted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "INTERRUPT_AGAIN_S", 0.05)

    def stubborn() -> None:
        try:
            spin()
        except BaseException:  # noqa: BLE001  what a workload must not do, and some do
            spin()

    acts["stubborn"] = stubborn
    decision = processor.decide(Message("m", "sums", '{"act": "stubborn"}', "", 0), WORKLOADS, limit_s=0.05)
    assert isinstance(decision, Failure)
    assert decision.error_type == "TimeLimitExceeded"


def test_no_alarm_is_left_behind_and_a_handler_of_the_workload_s_own_is_no_obstacle() -> None:
    previous = signal.getsignal(signal.SIGALRM)
    acts["ours"] = lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN)
    acts["slow"] = spin
    try:
        for act in ("", "fail", "ours", "slow"):
            decision = processor.decide(Message("m", "sums", json.dumps({"act": act}), "", 0), WORKLOADS, limit_s=0.05)
            assert isinstance(decision, Failure) == (act in ("fail", "slow"))
            assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, previous)


def decide_in_batch(limit_s: float, *names: str) -> list[Decision]:
    until = time.monotonic() + limit_s
    messages = [Message("m", "sums", json.dumps({"act": name}), "", 0) for name in names]
    with processor.BatchLimit(limit_s):
        return [processor.decide(message, WORKLOADS, until - time.monotonic()) for message in messages]


def test_a_batch_sets_one_alarm_for_all_of_its_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    was_set: list[float] = []
    setitimer = signal.setitimer

    def noted(which: int, seconds: float, interval: float = 0.0) -> tuple[float, float]:
        was_set.append(seconds)
        return setitimer(which, seconds, interval)

    monkeypatch.setattr(signal, "setitimer", noted)
    decisions = decide_in_batch(30.0, *["", "fail"] * 5)
    assert [type(decision) for decision in decisions] == [Commit, Failure] * 5
    assert was_set == [30.0, 0]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_after_a_batch_each_message_has_an_alarm_of_its_own_again() -> None:
    acts["slow"] = spin
    decide_in_batch(30.0, "")
    decision = processor.decide(Message("m", "sums", '{"act": "slow"}', "", 0), WORKLOADS, 0.1)
    assert isinstance(decision, Failure)
    assert decision.error_type == "TimeLimitExceeded"


def test_what_hangs_is_interrupted_when_the_time_of_its_batch_is_over_and_those_behind_it_are_not_begun() -> None:
    acts["slow"] = spin
    good, slow, *behind = decide_in_batch(0.1, "", "slow", "", "slow")
    assert isinstance(good, Commit)
    assert isinstance(slow, Failure)
    assert (slow.kind, slow.error_type) == ("failed", "TimeLimitExceeded")
    assert behind == [blame.NOT_STARTED] * 2
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_workload_with_a_handler_of_its_own_takes_no_alarm_from_those_behind_it() -> None:
    previous = signal.getsignal(signal.SIGALRM)
    acts["ours"] = lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN)
    acts["slow"] = spin
    try:
        ours, slow = decide_in_batch(0.1, "ours", "slow")
        assert isinstance(ours, Commit)
        assert isinstance(slow, Failure)
        assert slow.error_type == "TimeLimitExceeded"
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_the_alarm_of_a_batch_interrupts_workloads_only() -> None:
    with processor.BatchLimit(0.02):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        until = time.monotonic() + 10
        while signal.getitimer(signal.ITIMER_REAL)[0] <= 0.02:  # from then on it is set for the next time
            assert time.monotonic() < until


def test_in_another_thread_there_is_no_alarm_and_no_error() -> None:
    decisions = []
    message = Message("m", "sums", "{}", "", 0)
    thread = threading.Thread(target=lambda: decisions.append(processor.decide(message, WORKLOADS, 1.0)))
    thread.start()
    thread.join()
    assert isinstance(decisions[0], Commit)


# --- order ----------------------------------------------------------------------


def test_a_message_that_comes_again_holds_its_group_back_and_no_other() -> None:
    source = Ordered()
    first, behind, last = source.send("fail", "", "", group="a")
    other = source.send("", "", group="b")
    assert source.invoke() == [first, behind, last]
    assert [source.status(i) for i in (first, behind, last)] == ["queued", "none", "none"]
    assert [source.status(i) for i in other] == ["processed"] * 2
    assert source.table.records[first].attempts == 1


def test_what_is_behind_is_not_counted_however_often_it_is_given_back() -> None:
    source = Ordered()
    first, behind = source.send("unavailable", "", group="a")
    for _ in range(20):
        assert source.invoke() == [first, behind]
        source.clock.advance(1_000)
    assert source.status(behind) == "none"


def test_neither_the_dead_nor_the_rejected_hold_their_group_back() -> None:
    acts["refuse"] = refuse
    source = Ordered(max_attempts=1)
    ids = source.send("fail", "refuse", "", group="a")
    assert source.invoke() == []
    assert [source.status(i) for i in ids] == ["dead", "rejected", "processed"]


def test_what_is_decided_again_keeps_its_place() -> None:
    source = Ordered()
    happened = []
    acts["first"], acts["second"] = lambda: happened.append("first"), lambda: happened.append("second")
    source.send("first", "second", group="a")
    source.queue.receive(10, 0)  # and the function died
    assert source.invoke() == []
    assert happened == ["first", "second"]


def test_what_is_dead_is_not_tried_again_when_it_comes_again_because_those_behind_it_went_on() -> None:
    source = Ordered(max_attempts=1)
    ids = source.send("fail", "", group="a")
    deliveries, policy = source.queue.receive(10, 0), Policy(1, source.clock)
    processor.process(
        deliveries, source.queue, source.table, source.workloads, policy, lambda: 30.0
    )  # and then it died
    acts["fail"] = lambda: None
    del source.table.dead_letters[ids[0]]  # as if it had died between the record and the dead-letter queue
    assert source.invoke() == []
    assert [source.status(i) for i in ids] == ["dead", "processed"]
    assert (again := source.table.dead_letters[ids[0]]).body
    assert again.attempts == 1


def test_a_sick_table_holds_every_group_back() -> None:
    source = Ordered()
    source.table.sick = lambda method, _: "throttled" if method == "commit" else None
    ids = source.send("", "", group="a") + source.send("", group="b")
    assert sorted(source.invoke()) == sorted(ids)
    assert source.total == 0


def refuse() -> None:
    raise Rejected("no")


@dataclass
class Ordered(EventSource):
    """Of a workload that keeps the order of its groups."""

    workloads: Workloads = field(default_factory=lambda: {"sums": replace(WORKLOADS["sums"], ordered=True)})


# --- anything at all ----------------------------------------------------------

ACT = st.sampled_from(["", "", "fail", "unavailable", "emit", "claim", "die", "broken schema", "flaky"])


@given(
    st.lists(ACT, max_size=25),
    st.integers(1, 10),
    st.lists(st.sampled_from([fail, die, unavailable]), max_size=10),
    st.lists(st.booleans(), max_size=30),
    st.lists(st.booleans(), max_size=30),
)
def test_every_message_ends_in_exactly_one_way(
    batch: list[str],
    size: int,
    flaky: list[Callable[[], None]],
    backend_sick: list[bool],
    table_sick: list[bool],
) -> None:
    acts.update({"fail": fail, "die": die})
    acts["flaky"] = lambda: flaky.pop()() if flaky else None
    acts["unavailable"] = lambda: unavailable() if backend_sick and backend_sick.pop() else None
    source = EventSource(batch=size)
    source.table.sick = lambda method, _: "flapping" if method == "commit" and table_sick and table_sick.pop() else None
    ids = source.send(*batch)
    source.run()
    statuses = {message_id: source.status(message_id) for message_id in ids}
    assert set(statuses.values()) <= {"processed", "rejected", "dead"}
    assert {i for i, status in statuses.items() if status == "dead"} <= set(source.table.dead_letters)
    for message_id, act in zip(ids, batch, strict=True):
        expected = {"fail": "dead", "die": "dead", "broken schema": "dead", "": "processed", "emit": "processed"}
        assert statuses[message_id] == expected.get(act, statuses[message_id]), act
    counted = [i for i, act in zip(ids, batch, strict=True) if act not in ("emit", "claim")]
    applied = sum(statuses[i] == "processed" for i in counted) + batch.count("emit")
    assert source.table.items.get("sums/totals/all", {}).get("count", 0) == applied


def test_a_delivery_reads_as_the_message_that_was_sent() -> None:
    message = Message("m-1", "sums", '{"value": 1}', "iam:1234:AROA1", 1_795_000_000_123)
    expected = SqsDelivery(
        message, "r", 3, waits_since=message.accepted_at, tried_since=message.accepted_at + 5, queue="orders"
    )
    assert deliveries({"Records": [sqs_record(message, 3, "r")]}) == [expected]


def test_a_delivery_waits_since_it_was_put_on_the_queue_or_is_due_there() -> None:
    """A dead letter that is redriven was accepted long before, and so was what a schedule sent."""
    record = sqs_record(Message("m-1", "sums", "{}", "", 1_795_000_000_123))
    for sent_at, due_at, expected in (
        (1_795_000_900_000, "", 1_795_000_900_000),
        (0, "1795000901000", 1_795_000_901_000),
    ):
        record["attributes"]["SentTimestamp"] = str(sent_at)
        record["messageAttributes"]["due_at"] = {"stringValue": due_at}
        assert [it.waits_since for it in deliveries({"Records": [record]})] == [expected]


def test_duplicates_apply_nothing() -> None:
    table = ModelTable()
    message = Message("m", "sums", "{}", "", 0)
    table.commit([(message, Reject("no"))], 1)
    before = dict(table.records)
    outcome = table.stored(message.id)
    assert outcome is not None
    assert outcome.duplicate
    assert table.records == before


def test_a_table_that_is_sick_on_and_off_makes_no_dead_letter_of_a_good_message() -> None:
    source = EventSource()
    (message_id,) = source.send("")
    stuck_mark = [None, "throttled", "throttled"]  # the start is counted; neither commit nor taking back gets through
    rounds = MAX_ATTEMPTS + 3
    no_start = ["throttled"] * 2  # nor is it known whether it was counted, and taking back is refused, too
    answers = iter(["throttled", *[*stuck_mark, *no_start * 3] * rounds])
    source.table.sick = lambda _method, _message_id: next(answers, None)
    for _ in range(1 + 4 * rounds):
        source.invoke()
        source.clock.now_ms = min(row.visible_at for row in source.queue.rows)
    assert source.table.records[message_id].attempts == rounds > MAX_ATTEMPTS
    source.run()
    assert source.table.dead_letters == {}
    assert source.status(message_id) == "processed"
