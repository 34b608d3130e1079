"""A stack in time that a test lets pass, for its alarms: the real processor with its backoff and what it tells, behind
a queue as SQS's documents tell of it. Of many messages one in `each` is simulated, and the queue's limit likewise. For
tests only."""

from __future__ import annotations

import heapq
import json
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from decoupled.core import limits
from decoupled.core.outcomes import Delivery, NotSent, Record
from decoupled.core.workload import Effects, Message, Unavailable, Workload
from decoupled.engines.aws.sqs_format import batch_item_failures, deliveries
from decoupled.engines.aws.unmeasured import Unmeasured
from decoupled.pipeline.processor import process
from decoupled.pipeline.runs import Runs
from decoupled.pipeline.settlement import Policy
from tests.support import alarms, template
from tests.support.alarms import STACK, Alarm, Metrics
from tests.support.events import sqs_record
from tests.support.model_engine import ModelTable

State = Literal["well", "sick", "buggy", "cannot start", "off"]
MINUTE_MS = 60_000
IN_FLIGHT = 120_000  # AWS: of a queue
FORGETS_AFTER = 3  # AWS: receives, after which a message's age is left out
ACTIVE_MS = 6 * 3_600_000  # AWS: that SQS goes on measuring an empty queue
EPOCH_MS = 1_795_000_020_000 // MINUTE_MS * MINUTE_MS


class Entry(msgspec.Struct):
    """A message; poison fails on its own."""

    poison: bool = False


@dataclass
class Held:
    """A message on the queue."""

    message: Message
    sent_ms: int
    receives: int = 0
    first_ms: int = 0
    visible_ms: int = 0
    record: dict[str, Any] = field(default_factory=dict)  # as the event source mapping hands it over


@dataclass
class Stack:
    """`state` tells of a time how the processor and what is behind it are. Times are milliseconds since the start."""

    state: Callable[[int], State]
    each: int = 1
    seed: int = 1
    looks: dict[str, dict[str, Alarm]] = field(default_factory=dict)  # the same alarms, by how far they look back

    def __post_init__(self) -> None:
        parameters = template.defaults()
        every = template.load()["Mappings"]["VisibilityTimeout"][str(parameters["ProcessorTimeout"])]
        self.hidden_ms, self.max_receives = every["Seconds"] * 1000, every["Receives"]
        self.metrics = Metrics()
        self.looks = {
            "two more": alarms.of_template(parameters, lambda _: 2),
            "as many more": alarms.of_template(parameters, lambda periods: periods),
        }
        self.now_ms = 0
        self.table = Table(self._bury)
        self.hidden: list[tuple[int, int]] = []  # when it is visible, and its number
        self.ready: deque[int] = deque()
        self.held: dict[int, Held] = {}
        self.fresh: dict[int, None] = {}  # of these, those whose age SQS tells
        self.dead: list[Message] = []
        self.dead_until_ms = -1
        self.processed = 0
        rng = random.Random(self.seed)
        self.policy = Policy(
            int(parameters["MaxAttempts"]), self.clock_ms, rng.random, float(parameters["AttemptsSpanSeconds"])
        )
        self.workloads = {"orders": Workload("orders", Entry, self._process)}
        self.measuring = Unmeasured(f"Decoupled/{STACK}", ("orders",), self._told, self.clock_ms)
        self._numbers = iter(range(10**9))
        self._delays: dict[str, float] = {}

    def clock_ms(self) -> int:
        """The time of day."""
        return EPOCH_MS + self.now_ms

    # --- time passes

    def run(self, minutes: int, arrivals: Iterable[int] = (), poison: Iterable[int] = ()) -> None:
        """Let that many minutes pass, with messages that are sent at these times."""
        sent = sorted([(at, False) for at in arrivals] + [(at, True) for at in poison], reverse=True)
        for _ in range(minutes):
            end = (self.now_ms // MINUTE_MS + 1) * MINUTE_MS
            while True:
                due = min(sent[-1][0] if sent else end, self.hidden[0][0] if self.hidden else end)
                if due >= end:
                    break
                self.now_ms = max(self.now_ms, due)
                while sent and sent[-1][0] <= self.now_ms:
                    self._send(sent.pop()[1])
                self._hand_out()
            self.now_ms = end
            self._measure(end // MINUTE_MS - 1)

    def _measure(self, minute: int) -> None:
        """SQS's metrics, and then what alarms make of all."""
        put = self.metrics.put
        put("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", minute, len(self.hidden) * self.each, QueueName="Queue")
        if self.fresh:
            age_ms = self.now_ms - self.held[next(iter(self.fresh))].sent_ms
            put("AWS/SQS", "ApproximateAgeOfOldestMessage", minute, age_ms / 1000, QueueName="Queue")
        if self.dead:
            self.dead_until_ms = self.now_ms + ACTIVE_MS
        if self.now_ms < self.dead_until_ms:
            put("AWS/SQS", "ApproximateNumberOfMessagesVisible", minute, len(self.dead), QueueName="DeadLetterQueue")
        for look in self.looks.values():
            for alarm in look.values():
                alarm.look(self.metrics, minute)

    def changes(self) -> dict[str, dict[str, list[str]]]:
        """The states that each alarm came into, by how far it looks back; without those that kept silent."""
        return {
            how: {name: [state for _, state in alarm.changes] for name, alarm in look.items() if alarm.changes}
            for how, look in self.looks.items()
        }

    def redrive(self) -> None:
        """All that is dead, put back on the queue."""
        dead, self.dead = self.dead, []
        for message in dead:
            self._put(msgspec.structs.replace(message))
        self._hand_out()

    # --- the queue

    def _send(self, is_poison: bool) -> None:
        body = '{"poison": true}' if is_poison else "{}"
        self._put(Message(f"m-{next(self._numbers)}", "orders", body, "ana", self.clock_ms()))

    def _put(self, message: Message) -> None:
        number = next(self._numbers)
        self.held[number] = Held(message, self.now_ms)
        self.ready.append(number)
        self.fresh[number] = None

    def _hand_out(self) -> None:
        while self.hidden and self.hidden[0][0] <= self.now_ms:
            self.ready.append(heapq.heappop(self.hidden)[1])
        if self.state(self.now_ms) == "off":
            return
        while self.ready and len(self.hidden) < IN_FLIGHT // self.each:
            room = min(limits.RECEIVE_MAX, IN_FLIGHT // self.each - len(self.hidden), len(self.ready))
            numbers = [number for number in [self.ready.popleft() for _ in range(room)] if self._receive(number)]
            if numbers:
                self._invoke(numbers)

    def _receive(self, number: int) -> bool:
        held = self.held[number]
        held.receives += 1
        if held.receives > self.max_receives:
            self.dead.append(self.held.pop(number).message)
            self.fresh.pop(number, None)
            return False
        held.first_ms = held.first_ms or self.clock_ms()
        held.visible_ms = self.now_ms + self.hidden_ms
        if held.receives >= FORGETS_AFTER:
            self.fresh.pop(number, None)
        return True

    # --- the function

    def _invoke(self, numbers: Sequence[int]) -> None:
        minute = self.now_ms // MINUTE_MS
        if self.state(self.now_ms) == "cannot start":
            self.metrics.put("AWS/Lambda", "Errors", minute, self.each, FunctionName="Processor")
            failed = {f"{number}" for number in numbers}
        else:
            self.metrics.put("AWS/Lambda", "Errors", minute, 0, FunctionName="Processor")
            failed = self._handled(numbers)
        for number in numbers:
            if str(number) in failed:
                heapq.heappush(self.hidden, (self.held[number].visible_ms, number))
            else:
                del self.held[number]
                self.fresh.pop(number, None)

    def _handled(self, numbers: Sequence[int]) -> set[str]:
        """As functions/processor.py does it."""
        event = {"Records": [self._record(number) for number in numbers]}
        failed = self.measuring.processed(
            deliveries(event),
            self,
            lambda some, queue, tally: process(
                some, queue, self.table, self.workloads, self.policy, lambda: 30.0, tally
            ),
            self.policy.runs.held,
        )
        return {failure["itemIdentifier"] for failure in batch_item_failures(event, failed)["batchItemFailures"]}

    def _record(self, number: int) -> dict[str, Any]:
        held = self.held[number]
        if not held.record:
            held.record = sqs_record(held.message, held.receives, str(number))
            held.record["messageId"] = str(number)
            held.record["attributes"]["SentTimestamp"] = str(EPOCH_MS + held.sent_ms)
            held.record["attributes"]["ApproximateFirstReceiveTimestamp"] = str(held.first_ms)
        held.record["attributes"]["ApproximateReceiveCount"] = str(held.receives)
        return held.record

    def _process(self, entry: Entry, _message: Message) -> Effects:
        state = self.state(self.now_ms)
        if state == "sick":
            raise Unavailable("the backend is away")
        if state == "buggy" or entry.poison:
            raise ValueError("a bug")
        self.processed += 1
        return Effects({})

    def _told(self, line: str) -> None:
        told = json.loads(line)
        for directive in told["_aws"]["CloudWatchMetrics"]:
            for metric in directive["Metrics"]:
                value = told[metric["Name"]] * (self.each if metric["Unit"] == "Count" else 1)
                minute = (told["_aws"]["Timestamp"] - EPOCH_MS) // MINUTE_MS
                assert [] in directive["Dimensions"]  # of all workloads, which is what alarms are on
                self.metrics.put(directive["Namespace"], metric["Name"], minute, value)

    def forget_runs(self) -> None:
        """Lambda replaces the processor's environment."""
        self.policy.runs = Runs()

    # --- what the processor does with the queue

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        """Nothing here emits anything."""
        raise AssertionError(messages)

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        """Implements Consumer, in whole seconds as SQS has them."""
        for delivery, delay_s in delays:
            self.held[int(delivery.receipt)].visible_ms = self.now_ms + 1000 * -int(-delay_s // 1)

    def defer(self, due: Sequence[tuple[Delivery, int]], now_ms: int) -> list[Delivery]:
        """Nothing here is due later."""
        raise AssertionError((due, now_ms))

    def _bury(self, message: Message) -> None:
        self.dead.append(message)


class Table(ModelTable):
    """With a copy of each dead letter for the queue of these."""

    def __init__(self, bury: Callable[[Message], None]) -> None:
        super().__init__()
        self._bury = bury

    def bury(self, delivery: Delivery, dead: Record) -> bool:
        buried = super().bury(delivery, dead)
        if buried:
            self._bury(delivery.message)
        return buried
