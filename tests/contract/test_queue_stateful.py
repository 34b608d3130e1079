"""The SQLite queue and table against a plain model, with a manual clock: whatever is sent, received, settled, given
back, buried, or cut off by a crash, in whatever order, every id is in exactly one status, and the model
agrees on which."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from decoupled.core.outcomes import REUSED, Commit, Delivery, Failure, NotSent, Page, Record, Reject, Stored
from decoupled.core.status import Status
from decoupled.core.workload import Add, Delete, Message, Put, Update
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.table import SqliteTable
from tests.support.audited import sound
from tests.support.engines import ReceivingSqliteQueue

START = 1_795_430_130_123
FULL = 5  # the counter's ceiling
WORKLOADS = ("orders", "readings", "transactions")
FAILURE = Failure("failed", "ValueError", "no such thing")

delays_s = st.sampled_from([0, 0.001, 1, 30, 900])
laters_s = st.sampled_from([1, 60, 50_000, 300 * 86_400])
timeouts_s = st.sampled_from([1, 30, 180])


@dataclass
class Known:
    """What the model knows of a message."""

    message: Message
    visible_at: int
    status: Status = "queued"
    receive_count: int = 0
    in_flight: bool = False
    attempts: int = 0
    counted: int = 0  # the receive count that was counted last,
    taken_back: bool = False  # and whether that was taken back
    failed: bool = False
    first_failed_at: int | None = None
    last_failed_at: int | None = None
    finished_at: int | None = None
    reason: str | None = None
    due_at: int | None = None
    digest: str = ""  # the queue hands a message out without

    def is_visible(self, now: int) -> bool:
        return self.status == "queued" and self.visible_at <= now

    def record(self) -> Record:
        """What GET is to find."""
        return Record(
            id=self.message.id,
            workload=self.message.workload,
            status=self.status,
            accepted_at=self.message.accepted_at,
            caller=self.message.caller,
            result=f'{{"by":"{self.message.id}"}}' if self.status == "processed" else None,
            reason=self.reason,
            finished_at=self.finished_at,
            attempts=self.attempts,
            digest=self.digest,
            error_type=FAILURE.error_type if self.failed else None,
            error=FAILURE.error if self.failed else None,
            first_failed_at=self.first_failed_at,
            last_failed_at=self.last_failed_at,
            due_at=self.due_at,
            body=self.message.body if self.status == "dead" else None,
        )


@dataclass
class Model:
    """A queue, a table and a clock in plain Python."""

    now: int = START
    time_ms: int = START  # of day, which can be set
    messages: dict[str, Known] = field(default_factory=dict)
    counter: int = 0
    items: dict[str, str] = field(default_factory=dict)  # workload to "new" or "seen"

    def holder(self, delivery: Delivery) -> Known | None:
        """The message that this receipt is still good for."""
        known = self.messages.get(delivery.message.id)
        if known is None or known.status != "queued" or known.receive_count != delivery.receive_count:
            return None
        return known


class Engine(RuleBasedStateMachine):
    """Every rule does one thing to the engine and to the model, and compares what both say."""

    sent = Bundle("sent")
    deliveries = Bundle("deliveries")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.file = Path(self.directory.name) / "decoupled.sqlite3"
        self.model = Model()
        self.numbers = itertools.count()
        self.handed_out: list[Delivery] = []

    @initialize()
    def open(self) -> None:
        self.database = Database(self.file)
        self.reader = Database(self.file)
        self.queue = ReceivingSqliteQueue(self.database, lambda: self.model.now, lambda: self.model.time_ms)
        self.table = SqliteTable(self.database, clock_ms=lambda: self.model.now)
        self.reading_table = SqliteTable(self.reader)

    def teardown(self) -> None:
        sound(self.reader)
        self.reader.close()
        self.database.close()
        self.directory.cleanup()

    def new(self, workload: str) -> Message:
        number = next(self.numbers)
        message = Message(f"id-{number}", workload, f'{{"n": {number}}}', "anonymous", self.model.now)
        return msgspec.structs.replace(message, digest="" if number % 3 == 0 else f"digest-{number}")

    def accepted(self, message: Message, visible_at: int, **known: Any) -> Known:
        """What the queue knows of a message from then on."""
        handed_out = msgspec.structs.replace(message, due_at=None, digest="")
        return Known(handed_out, visible_at, digest=message.digest, **known)

    # --- the queue ------------------------------------------------------------

    @rule(target=sent, workloads=st.lists(st.sampled_from(WORKLOADS), max_size=4))
    def send(self, workloads: list[str]) -> Any:
        messages = [self.new(workload) for workload in workloads]
        assert self.queue.send(messages) == [None] * len(messages)
        for message in messages:
            self.model.messages[message.id] = self.accepted(message, self.model.now)
        return multiple(*messages)

    @rule(target=sent, workload=st.sampled_from(WORKLOADS), delay_s=laters_s, claimed=st.booleans())
    def send_later(self, workload: str, delay_s: float, claimed: bool) -> Any:
        """Neither of the two ways to send hands out what is due later."""
        message = msgspec.structs.replace(self.new(workload), due_at=self.model.time_ms + int(delay_s * 1000))
        if claimed:
            assert self.queue.send_claimed([message], 30) == []
        else:
            assert self.queue.send([message]) == [None]
        self.model.messages[message.id] = self.due(message)
        return message

    def due(self, message: Message) -> Known:
        assert message.due_at is not None
        visible_at = self.model.now + message.due_at - self.model.time_ms
        return self.accepted(message, visible_at, due_at=message.due_at)

    @rule(message=sent, digest=st.sampled_from(["", "its own", "another"]), claimed=st.booleans())
    def send_again(self, message: Message, digest: str, claimed: bool) -> None:
        """As under one idempotency key; what was deleted would be a new message."""
        if (known := self.model.messages.get(message.id)) is None:
            return
        digest = known.digest if digest == "its own" else digest
        again = msgspec.structs.replace(message, body="{}", accepted_at=0, due_at=None, digest=digest)
        reused = bool(known.digest and digest and digest != known.digest)
        refused: list[tuple[Message, NotSent]] = []
        if claimed:
            assert self.queue.send_claimed([again], 30, lambda *it: refused.append(it)) == []
            assert refused == ([(again, REUSED)] if reused else [])
        else:
            assert self.queue.send([again]) == [REUSED if reused else None]

    @rule(target=deliveries, maximum=st.integers(1, 10), timeout_s=timeouts_s)
    def receive(self, maximum: int, timeout_s: float) -> Any:
        now = self.model.now
        visible = [known for known in self.model.messages.values() if known.is_visible(now)]
        deliveries = self.queue.receive(maximum, timeout_s)
        received = [self.model.messages[delivery.message.id] for delivery in deliveries]
        assert len(deliveries) == len({delivery.message.id for delivery in deliveries}) == min(maximum, len(visible))
        for known, delivery in zip(received, deliveries, strict=True):
            assert known.is_visible(now)
            for other in visible:  # the longest-waiting first
                if other.message.workload == known.message.workload and other not in received:
                    assert known.visible_at <= other.visible_at
            assert delivery.message == known.message
            assert delivery.receive_count == known.receive_count + 1
        for known in received:
            known.receive_count += 1
            known.visible_at = now + int(timeout_s * 1000)
            known.in_flight = True
        self.handed_out += deliveries
        return multiple(*deliveries)

    @rule(target=deliveries, workload=st.sampled_from(WORKLOADS), known=st.none() | sent, timeout_s=timeouts_s)
    def send_claimed(self, workload: str, known: Message | None, timeout_s: float) -> Any:
        """A new message goes out at once; one that was accepted before stays as it is."""
        fresh = self.new(workload)
        again = [] if known is None or known.id not in self.model.messages else [known]
        (delivery,) = self.queue.send_claimed([*again, fresh], timeout_s)
        assert (delivery.message, delivery.receive_count) == (fresh, 1)
        visible_at = self.model.now + int(timeout_s * 1000)
        self.model.messages[fresh.id] = self.accepted(fresh, visible_at, receive_count=1, in_flight=True)
        self.handed_out.append(delivery)
        return delivery

    @rule(limit=st.integers(1, 3))
    def look(self, limit: int) -> None:
        """What is ready, the longest-waiting first, and how much is not finished."""
        unfinished = [known for known in self.model.messages.values() if known.status == "queued"]
        counted = Counter(known.message.workload for known in unfinished)
        assert self.queue.queued(limit) == {workload: min(count, limit) for workload, count in counted.items()}
        since: dict[str, int] = {}
        for known in unfinished:
            if known.is_visible(self.model.now):
                workload = known.message.workload
                since[workload] = min(known.visible_at, since.get(workload, known.visible_at))
        ready = self.queue.ready()
        assert sorted(ready) == sorted(since)
        assert [since[workload] for workload in ready] == sorted(since.values())

    @rule(target=deliveries, delivery=deliveries)
    def deliver_again(self, delivery: Delivery) -> Any:
        self.retry_later([(delivery, 0)])
        return self.receive(10, 30)

    def lapsed(self) -> list[Delivery]:
        """Whose message was handed out again since, or is gone from the queue."""
        return [delivery for delivery in self.handed_out if self.model.holder(delivery) is None]

    @precondition(lambda self: self.lapsed())
    @rule(data=st.data())
    def a_lapsed_receipt_changes_nothing(self, data: st.DataObject) -> None:
        self.queue.retry_later([(data.draw(st.sampled_from(self.lapsed())), 0)])

    @rule(several=st.lists(st.tuples(deliveries, delays_s), max_size=5, unique_by=lambda pair: pair[0].message.id))
    def retry_later(self, several: list[tuple[Delivery, float]]) -> None:
        self.queue.retry_later(several)
        for delivery, delay_s in several:
            if (known := self.model.holder(delivery)) is not None:
                known.visible_at, known.due_at = self.model.now + int(delay_s * 1000), None
                known.in_flight = False

    @rule(several=st.lists(st.tuples(deliveries, laters_s), max_size=5, unique_by=lambda pair: pair[0].message.id))
    def defer(self, several: list[tuple[Delivery, float]]) -> None:
        due = [(delivery, self.model.time_ms + int(later_s * 1000)) for delivery, later_s in several]
        assert self.queue.defer(due, self.model.time_ms) == [delivery for delivery, _ in several]
        for delivery, due_at in due:
            if (known := self.model.holder(delivery)) is not None:
                known.visible_at, known.due_at = self.model.now + due_at - self.model.time_ms, due_at
                known.in_flight = False

    @rule(seconds=st.sampled_from([0.001, 1, 29, 180, 1_000, 40_000]))
    def time_passes(self, seconds: float) -> None:
        self.model.now += int(seconds * 1000)
        self.model.time_ms += int(seconds * 1000)

    @rule(seconds=st.sampled_from([-40_000, -1, 1, 40_000]))
    def the_time_of_day_is_set(self, seconds: int) -> None:
        self.model.time_ms += seconds * 1000

    # --- the table ------------------------------------------------------------

    def known(self, message: Message) -> Known:
        """A message that this queue never had, or no more, is known from its first attempt, and never visible here."""
        return self.model.messages.setdefault(message.id, self.accepted(message, visible_at=1 << 62))

    @rule(message=sent, step=st.sampled_from(["begin", "undo", "record", "record begun"]), count=st.integers(1, 4))
    def count_attempts(self, message: Message, step: str, count: int) -> None:
        known, now, delivery = self.known(message), self.model.now, Delivery(message, "a receipt", count)
        match step:
            case "begin":
                self.table.begin_attempt(delivery)
            case "undo":
                self.table.undo_attempt(delivery)
            case _:
                self.table.record_failure(delivery, FAILURE, now, begun=step == "record begun")
        if known.status in ("queued", "dead"):
            counts = step in ("begin", "record") and count > known.counted
            if counts:
                known.attempts, known.counted, known.taken_back = known.attempts + 1, count, False
            elif step == "undo" and count == known.counted and not known.taken_back:
                known.attempts, known.taken_back = known.attempts - 1, True
            if step == "record begun" or (step == "record" and counts):
                known.failed = True
                known.first_failed_at = known.first_failed_at or now
                known.last_failed_at = now
        assert self.table.get(message.id) == known.record()

    @rule(message=sent)
    def bury(self, message: Message) -> None:
        known = self.known(message)
        now = self.model.now
        is_final = known.status in ("processed", "rejected")
        dead = msgspec.structs.replace(
            known.record(),
            status="dead",
            finished_at=now,
            error_type=FAILURE.error_type,
            error=FAILURE.error,
            body=message.body,
        )
        assert self.table.bury(Delivery(message, "a receipt", 1), dead) is not is_final
        if not is_final:
            known.status, known.finished_at, known.in_flight, known.failed = "dead", now, False, True

    @rule(
        messages=st.lists(sent, min_size=1, max_size=5, unique_by=lambda message: message.id),
        kind=st.sampled_from(["plain", "add", "put", "update", "delete", "emit", "emit later", "reject"]),
    )
    def commit(self, messages: list[Message], kind: str) -> None:
        decided = [(message, self.decision(message, kind)) for message in messages]
        outcomes = self.table.commit(decided, self.model.time_ms)
        assert outcomes == [self.committed(message, kind) for message in messages]  # all that is emitted is sent

    def decision(self, message: Message, kind: str) -> Commit | Reject:
        result = f'{{"by":"{message.id}"}}'
        match kind:
            case "add":
                return Commit(result, [Add("counter", {"n": 1}, ceiling={"n": FULL}, otherwise="full")])
            case "put":
                key = f"items/{message.workload}"
                return Commit(result, [Put(key, {"by": message.id}, if_absent="taken"), Add("puts", {"n": 1})])
            case "update":
                key = f"items/{message.workload}"
                return Commit(result, [Update(key, {"seen": 1}, if_present="gone", absent=["seen"], otherwise="seen")])
            case "delete":
                key = f"items/{message.workload}"
                return Commit(result, [Delete(key, equal={"seen": 1}, otherwise="not seen"), Add("puts", {"n": -1})])
            case "emit":
                return Commit(result, [], [self.emitted(message)])
            case "emit later":
                return Commit(result, [], [self.emitted(message, self.model.time_ms + 60_000)])
            case "reject":
                return Reject("no")
        return Commit(result)

    def emitted(self, message: Message, due_at: int | None = None) -> Message:
        return Message(f"{message.id}-emitted", "readings", "{}", message.caller, message.accepted_at, due_at=due_at)

    def committed(self, message: Message, kind: str) -> Stored:
        """What the model says to `commit`."""
        known = self.known(message)
        if known.status in ("processed", "rejected"):
            return Stored(known.status, known.reason, duplicate=True)
        late = known.status == "dead"
        known.status, known.finished_at, known.in_flight = "processed", self.model.time_ms, False
        match kind:
            case "add" if self.model.counter == FULL:
                known.reason = "full"
            case "add":
                self.model.counter += 1
            case "put" if message.workload in self.model.items:
                known.reason = "taken"
            case "put":
                self.model.items[message.workload] = "new"
            case "update" if (before := self.model.items.get(message.workload)) != "new":
                known.reason = "gone" if before is None else "seen"
            case "update":
                self.model.items[message.workload] = "seen"
            case "delete" if self.model.items.get(message.workload) != "seen":
                known.reason = "not seen"
            case "delete":
                del self.model.items[message.workload]
            case "emit later":
                emitted = self.emitted(message, self.model.time_ms + 60_000)
                self.model.messages.setdefault(emitted.id, self.due(emitted))
            case "emit":
                emitted = self.emitted(message)
                self.model.messages.setdefault(emitted.id, Known(emitted, self.model.now))
            case "reject":
                known.reason = "no"
        if known.reason is not None:
            known.status = "rejected"
        return Stored(known.status, known.reason, late=late)

    # --- the process ----------------------------------------------------------

    @rule()
    def restart(self) -> None:
        """The server died and another one starts: what was in flight is visible again, and what waits, waits."""
        self.reader.close()
        self.database.close()
        self.open()
        in_flight = [k for k in self.model.messages.values() if k.status == "queued" and k.in_flight]
        assert self.queue.release_in_flight() == len(in_flight)
        for known in in_flight:
            known.visible_at, known.due_at, known.in_flight = self.model.now, None, False
        now = self.model.now
        for known in self.model.messages.values():
            if known.status == "queued" and known.due_at is not None:
                left = known.due_at - self.model.time_ms
                if (left > 0 or known.visible_at > now) and abs(known.visible_at - now - max(0, left)) > 1_000:
                    known.visible_at = now + max(0, left)

    @rule(message=sent, workload=st.sampled_from(WORKLOADS), delivery=deliveries)
    def crash_before_the_commit(self, message: Message, workload: str, delivery: Delivery) -> None:
        """Nothing of a transaction that was not committed is there afterwards."""
        self.database.begin()
        self.queue.send([Message("never-sent", workload, "{}", "anonymous", self.model.now)])
        self.queue.receive(10, 30)
        self.table.commit([(message, Commit("{}", [Add("counter", {"n": 1})]))], self.model.now)
        self.queue.retry_later([(delivery, 0)])
        self.restart()

    @rule(message=sent, other=sent)
    def a_part_that_fails_is_undone_alone(self, message: Message, other: Message) -> None:
        """As in the writer's groups: one operation raises, and the others of its transaction stand."""
        with self.database.transaction():
            outcomes = self.table.commit([(message, Reject("no"))], self.model.time_ms)
            with contextlib.suppress(ZeroDivisionError), self.database.savepoint():
                self.table.commit([(other, Commit("{}", [Add("counter", {"n": 1})]))], self.model.time_ms)
                _ = 1 / 0
        assert outcomes == [self.committed(message, "reject")]

    # --- always ---------------------------------------------------------------

    @invariant()
    def every_id_is_in_exactly_one_status(self) -> None:
        rows = self.reader.execute(
            "SELECT id, status, coalesce(status = 'queued' AND visible_at <= ?, 0) FROM messages ORDER BY id",
            (self.model.now,),
        ).fetchall()
        messages = self.model.messages.items()
        assert rows == sorted((message_id, it.status, it.is_visible(self.model.now)) for message_id, it in messages)
        for message_id, known in self.model.messages.items():
            assert self.reading_table.get(message_id) == known.record()

    @invariant()
    def what_is_listed_is_what_is_there(self) -> None:
        first = self.reading_table.page("items/", "", 2)
        rest = self.reading_table.page("items/", first.items[-1][0], 9) if first.more else Page([], more=False)
        assert [key for key, _ in first.items + rest.items] == sorted(f"items/{name}" for name in self.model.items)

    @invariant()
    def effects_are_applied_once(self) -> None:
        assert (self.reading_table.item("counter") or {"n": 0}) == {"n": self.model.counter}
        assert (self.reading_table.item("puts") or {"n": 0}) == {"n": len(self.model.items)}


TestEngine = Engine.TestCase
TestEngine.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,  # replays a failure
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
