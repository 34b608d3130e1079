"""A history of one ordered workload on SQLite, in one thread: clients, a server with workers, redrives and a manual
clock, with everything that goes wrong drawn from a seed. Queue, table, processor and settlement are the real ones. A
judge beside them knows only in which order messages were accepted, which are handed out, and their statuses."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from msgspec import Struct

from decoupled.core.dead_letters import DeadLetter, Wanted
from decoupled.core.outcomes import Commit, Decision, Delivery
from decoupled.core.status import ENDED, FINAL
from decoupled.core.workload import Add, Effects, Emit, Message, Rejected, Unavailable, Workload
from decoupled.engines.sqlite import ordered
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline import blame, processor, settlement
from tests.support.model_engine import ManualClock

GROUPS = ("", "a", "b")
TIMEOUT_S = 180.0


class Step(Struct, frozen=True):
    group: str


class Source(Struct, frozen=True):
    groups: list[str]


class SickStoreError(Exception):
    """The transaction was not committed."""


@dataclass
class Life:
    """What the judge knows of a message."""

    message: Message
    status: str = "queued"
    redriven: bool = False
    held_until: dict[str, int] = field(default_factory=dict)  # by receipt, of deliveries that nobody has settled

    def ended(self) -> bool:
        return self.status in ENDED


class Judge:
    """Raises AssertionError at the first message that is out of turn. `lives` are in the order of acceptance."""

    def __init__(self, clock: ManualClock, counts: Counter[str]) -> None:
        self.clock = clock
        self.counts = counts
        self.groups: defaultdict[str, list[Life]] = defaultdict(list)
        self.lives: dict[str, Life] = {}

    def accepted(self, message: Message) -> None:
        if message.workload == "steps" and message.id not in self.lives:
            self.lives[message.id] = Life(message)
            self.groups[message.group].append(self.lives[message.id])
            self.counts["accepted"] += 1

    def handed_out(self, delivery: Delivery) -> None:
        """Those before it have ended, and no other of its group is in anybody's hands."""
        if (life := self.lives.get(delivery.message.id)) is None:
            return
        line = self.groups[life.message.group]
        for before in line[: line.index(life)]:
            assert before.ended(), f"{life.message.id} is handed out before {before.message.id} has ended"
        for other in line:
            held = [until for until in other.held_until.values() if until > self.clock()]
            assert other is life or other.ended() or not held, f"{life.message.id} beside {other.message.id}"
        life.held_until[delivery.receipt] = self.clock() + int(TIMEOUT_S * 1000)
        self.counts["delivered again"] += delivery.receive_count > 1

    def purged(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            if (life := self.lives.get(letter.id)) is not None:
                life.redriven = True  # a person, and no delivery, changes it out of turn

    def settled(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if (life := self.lives.get(delivery.message.id)) is not None:
                life.held_until.pop(delivery.receipt, None)

    def look(self, statuses: Sequence[tuple[str, str]]) -> None:
        """After each step: whose status has changed, and was it its turn?"""
        for message_id, status in statuses:
            life = self.lives[message_id]
            before, life.status = life.status, status
            if status == before:
                continue
            assert before not in FINAL, f"{message_id} was {before}, and is {status}"
            if status == "queued":
                life.redriven = True  # it comes after those that went on without it
                self.counts["redriven"] += 1
            elif not life.redriven:
                self._in_turn(life)
            if life.ended():
                life.held_until.clear()  # its group goes on, whoever still has it in hand
                self.counts[status] += 1

    def _in_turn(self, life: Life) -> None:
        line = self.groups[life.message.group]
        place = line.index(life)
        for before in line[:place]:
            assert before.ended() or before.redriven, f"{life.message.id} has ended before {before.message.id}"
        for behind in line[place + 1 :]:
            assert behind.status not in FINAL or life.status == "dead", (
                f"{life.message.id} is {life.status} after {behind.message.id}"
            )


@dataclass
class Batch:
    """Messages in a worker's hands, and what it decided of them."""

    deliveries: list[Delivery]
    decided: list[tuple[Delivery, Decision]] | None = None


class History:
    """One run. Rates are drawn for each, so that some see much of one fault."""

    def __init__(self, seed: int, counts: Counter[str]) -> None:
        self.rng = random.Random(seed)
        self.counts = counts
        self.clock = ManualClock()
        self.judge = Judge(self.clock, counts)
        self.database = Database(":memory:")
        self.store_rate, self.bug_rate, self.sick_rate, self.reject_rate = (
            self.rng.choice(rates) for rates in ((0, 0.3), (0.1, 0.3, 0.8), (0, 0.2), (0, 0.2))
        )
        self.pauses_s = self.rng.choice(((0.1, 3, 10, 60), (3, 10, TIMEOUT_S + 1)))
        self.groups = GROUPS[: self.rng.randint(1, len(GROUPS))]
        steps = Workload("steps", Step, self._process, group=lambda step: step.group, ordered=True)
        self.workloads = {"steps": steps, "sources": Workload("sources", Source, self._emit, emits_to=("steps",))}
        self.policy = settlement.Policy(self.rng.choice((1, 2)), self.clock, self.rng.random)
        self.sent: list[Message] = []
        self._start()

    def run(self) -> None:
        """Any steps in any order; then the trouble ends, and everything ends."""
        actions = (
            (self._accept, 4),
            (self._send_again, 1),
            (self._claim, 6),
            (self._decide, 6),
            (self._settle, 6),
            (self._worker_dies, 1),
            (self._time_passes, 4),
            (self._redrive, 2),
            (self._server_dies, 0.3),
        )
        steps, weights = zip(*actions, strict=True)
        for step in self.rng.choices(steps, weights, k=self.rng.randint(20, 60)):
            step()
            self._look()
        self.store_rate = self.bug_rate = self.sick_rate = 0
        self._redrive()
        self._drain()
        for group, line in self.judge.groups.items():
            item = self.table.item(f"steps/groups/{group}") or {"count": 0}
            assert item["count"] == sum(life.status == "processed" for life in line), "not once each"

    def _drain(self) -> None:
        for _ in range(500):
            if not self.database.execute("SELECT 1 FROM messages WHERE status = 'queued' LIMIT 1").fetchone():
                return
            for step in (self._claim, self._decide, self._settle):
                step()
                self._look()
            self.clock.advance(self.rng.choice((0, 10)))
        raise AssertionError("some never end")

    def _look(self) -> None:
        rows = self.database.execute("SELECT id, status FROM messages WHERE workload = 'steps' ORDER BY finished_at")
        self.judge.look(rows.fetchall())

    # --- clients ------------------------------------------------------------------

    def _accept(self) -> None:
        """As the writer does: to the queue, or at once into a worker's hands; all of it, or nothing."""
        messages = [self._message() for _ in range(self.rng.choice((1, 1, 3)))]
        at_once = self.rng.choice((0, len(messages)))
        handed_out = []
        try:
            with self._transaction():
                handed_out = self.queue.send_claimed(messages[:at_once], TIMEOUT_S)
                self.queue.send(messages[at_once:])
        except SickStoreError:
            return
        self.sent += messages
        for message in messages:
            self.judge.accepted(message)
        self._take(handed_out)

    def _message(self) -> Message:
        number, now = len(self.sent) + self.rng.getrandbits(40), self.clock()
        if self.rng.random() < 0.2:
            body = json.dumps({"groups": self.rng.choices(self.groups, k=self.rng.randint(1, 2))})
            return Message(f"source-{number}", "sources", body, "ana", now)
        group = self.rng.choice(self.groups)
        return Message(f"step-{number}", "steps", json.dumps({"group": group}), "ana", now, group)

    def _send_again(self) -> None:
        if self.sent:
            (message,) = self.rng.choices(self.sent)
            assert self.queue.send_claimed([message], TIMEOUT_S) == []

    def _redrive(self) -> None:
        letters = list(self.letters.find(Wanted(), bodies=True))
        chosen = [letter for letter in letters if self.rng.random() < 0.5]
        if self.rng.random() < 0.2:  # purged by mistake, and some are brought back from an export
            self.letters.purge(chosen)
            self.judge.purged(chosen)
            chosen = [letter for letter in chosen if self.rng.random() < 0.5]
            self.letters.restore(chosen)
        self.letters.redrive(chosen)

    # --- the server -----------------------------------------------------------------

    def _start(self) -> None:
        self.queue = SqliteQueue(self.database, self.clock)
        self.table = SqliteTable(self.database, clock_ms=self.clock)
        self.letters = SqliteDeadLetters(self.database, self.clock, self.clock)
        self.batches: list[Batch] = []
        self.queue.release_in_flight()
        ordered.adopt(self.database, self.workloads)

    def _server_dies(self) -> None:
        """With all that is in memory; a tool may redrive something before the next one starts."""
        for batch in self.batches:
            self.judge.settled(batch.deliveries)  # nobody has them in hand any more
        if self.rng.random() < 0.3:
            self.database.ordered = frozenset()  # a tool knows no workloads
            self._redrive()
            self._look()
        self._start()

    def _claim(self) -> None:
        deliveries: list[Delivery] = []
        try:
            with self._transaction():
                for workload in self.queue.ready():
                    deliveries += self.queue.claim(workload, self.rng.randint(1, 4), TIMEOUT_S)
        except SickStoreError:
            return
        self._take(deliveries)

    def _take(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.judge.handed_out(delivery)
        for workload in self.workloads:
            if mine := [delivery for delivery in deliveries if delivery.message.workload == workload]:
                self.batches.append(Batch(mine))

    def _decide(self) -> None:
        """Any worker that is at it; some dawdle."""
        undecided = [batch for batch in self.batches if batch.decided is None]
        if undecided:
            batch = self._some(undecided)
            batch.decided = [
                (delivery, processor.decide(delivery.message, self.workloads, 30.0)) for delivery in batch.deliveries
            ]

    def _some(self, batches: list[Batch]) -> Batch:
        """Often the newest, so that older ones are late."""
        return batches[-1] if self.rng.random() < 0.6 else self.rng.choice(batches)

    def _worker_dies(self) -> None:
        """Its batch goes again one message at a time; one that was alone is to blame."""
        undecided = [batch for batch in self.batches if batch.decided is None]
        if undecided:
            batch = self.rng.choice(undecided)
            if (culprit := blame.after_crash(batch.deliveries, "a crash")) is not None:
                batch.decided = [(batch.deliveries[0], culprit)]
            else:
                self.batches.remove(batch)
                self.batches += [Batch([delivery]) for delivery in batch.deliveries]

    def _settle(self) -> None:
        """Any batch that is decided, however late; where the store is sick it stays decided, and is settled later."""
        if not (ready := [batch for batch in self.batches if batch.decided is not None]):
            return
        batch = self._some(ready)
        decided = batch.decided or []
        try:
            with self._transaction():
                settlement.settle(decided, self.queue, self.table, self.policy)
        except SickStoreError:
            self.counts["settled again"] += 1
            return
        self.batches.remove(batch)
        self.judge.settled(batch.deliveries)
        for delivery, decision in decided:
            record = self.table.get(delivery.message.id)
            if isinstance(decision, Commit) and record is not None and record.status == "processed":
                for emitted in decision.emits:
                    self.judge.accepted(emitted)

    def _time_passes(self) -> None:
        self.clock.advance(self.rng.choice(self.pauses_s))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Raises SickStoreError, and nothing of it is done."""
        with self.database.transaction():
            yield
            if self.rng.random() < self.store_rate:
                raise SickStoreError

    # --- the workloads ----------------------------------------------------------------

    def _process(self, step: Step, _message: Message) -> Effects:
        if self.rng.random() < self.bug_rate:
            raise RuntimeError("a bug that comes and goes")
        if self.rng.random() < self.sick_rate:
            raise Unavailable("the backend is ill", self.rng.choice((None, 5.0, 600.0)))
        if self.rng.random() < self.reject_rate:
            raise Rejected("against the rules")
        return Effects({}, [Add(f"steps/groups/{step.group}", {"count": 1})])

    def _emit(self, source: Source, _message: Message) -> Effects:
        return Effects({"groups": source.groups}, emits=[Emit("steps", Step(group)) for group in source.groups])
