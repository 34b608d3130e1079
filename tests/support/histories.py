"""What may happen to the messages of a data directory, in an order that chance makes, without a server. For tests
only."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from random import Random

from decoupled.core.dead_letters import DeadLetter, Edit, Wanted
from decoupled.core.outcomes import Commit, Delivery, Record, Reject
from decoupled.core.retention import Found
from decoupled.core.workload import Add, Message, Put
from decoupled.engines.sqlite import edits, removal
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable

NOW = 1_795_000_000_000
KEPT = {"processed": frozenset({"kept"}), "rejected": frozenset({"kept"})}
WORKLOADS = ("orders", "ordered", "kept")


class History:
    """One step after the other. `ids`: of all that was ever accepted and not removed since."""

    def __init__(self, path: Path, random: Random) -> None:
        self.random = random
        self.sent = 0
        self.now = NOW
        self.removed = 0
        self.exported: list[DeadLetter] = []
        self.database = Database(path)
        self.database.ordered = frozenset({"ordered"})
        self.queue = SqliteQueue(self.database, lambda: self.now)
        self.table = SqliteTable(self.database, clock_ms=lambda: self.now, keeps=KEPT)  # type: ignore[arg-type]
        self.letters = SqliteDeadLetters(self.database, lambda: self.now, lambda: self.now)

    def step(self) -> None:
        """One change, of a moment of its own."""
        self.now += self.random.randrange(1, 50)
        actions = (self.send, self.settle, self.settle, self.bury, self.purge, self.restore, self.redrive, self.remove)
        self.random.choice(actions)()

    def send(self) -> None:
        """Some messages, with all that one may have."""
        some = []
        for _ in range(self.random.randrange(1, 6)):
            self.sent += 1
            due_at = self.now + self.random.randrange(1, 10_000_000) if self.random.random() < 0.2 else None
            names = (f"m{self.sent}", self.random.choice(WORKLOADS), f'{{"n": {self.sent}}}')
            caller, group = self.random.choice(("anonymous", "ada", "key:bob")), self.random.choice(("", "a", "b"))
            digest = self.random.choice(("", f"d{self.sent}"))
            some.append(Message(*names, caller, self.now, group, due_at, digest, trace=self.random.choice(("", "t"))))
        self.queue.send(some)

    def settle(self) -> None:
        """Some end, in whatever order."""
        deliveries = self._claimed()
        self.random.shuffle(deliveries)
        keep = self.random.randrange(len(deliveries) + 1)  # the others stay in flight
        self.table.commit([(it.message, self._decided(it)) for it in deliveries[:keep]], self.now)

    def _claimed(self) -> list[Delivery]:
        return self.queue.claim(self.random.choice(WORKLOADS), self.random.randrange(1, 6), 0.02)

    def _decided(self, delivery: Delivery) -> Commit | Reject:
        if self.random.random() < 0.3:
            return Reject("not in stock")
        key = f"orders/things/{self.random.randrange(5)}"
        write = self.random.choice(
            (Add(key, {"n": 1, "of": Decimal("0.10")}), Put(key, {"n": 2**70, "of": Decimal("1.50"), "é": None}))
        )
        return Commit(f'{{"total": 1.{self.sent}0}}', [write] if delivery.message.group else [])

    def bury(self) -> None:
        """Some die, with a story."""
        for delivery in self._claimed():
            message = delivery.message
            dead = Record(
                *(message.id, message.workload, "dead", message.accepted_at, message.caller),
                finished_at=self.now,
                attempts=3,
                error_type="KeyError",
                error=f"no {message.id}",
                first_failed_at=self.now - 2,
                last_failed_at=self.now,
                traceback="Traceback: ...",
                body=message.body,
            )
            self.table.bury(delivery, dead)

    def redrive(self) -> None:
        """One with a body that was changed, too."""
        for letter in self._some_letters():
            edits.put(self.database, letter.id, Edit(self.now, "ana", letter.body or ""))
            self.letters.redrive([letter])

    def purge(self) -> None:
        """Some are given up, after an export."""
        self.exported += (some := self._some_letters())
        self.letters.purge(some)

    def restore(self) -> None:
        """Of an export."""
        self.letters.restore(self.exported[-2:])

    def _some_letters(self) -> list[DeadLetter]:
        return [it for it in self.letters.find(Wanted(), bodies=True) if self.random.random() < 0.5]

    def remove(self) -> None:
        """What has ended for long enough."""
        rows = self.database.execute(
            "SELECT seq, finished_at FROM messages WHERE status IN ('processed', 'rejected') ORDER BY seq LIMIT 2"
        ).fetchall()
        if self.random.random() < 0.3:
            self.removed += removal.remove(self.database, [Found(*row) for row in rows]).total()

    def close(self) -> None:
        """The end of it."""
        self.database.close()
