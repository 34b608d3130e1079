"""A history of the whole system in one thread: clients, processors, redrives and a manual clock, with faults drawn from
a seed. The functions and the engine are the real ones. `invariants.py` judges what is left at the end."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from unittest import mock

from decoupled.core.outcomes import Commit, Delivery, Reject, Stored
from decoupled.core.workload import Effects, Message, NotYet, Rejected, Unavailable, Workload
from decoupled.engines.protocols import Table
from decoupled.engines.sqlite.database import Database
from decoupled.outbound.mail import Mail
from decoupled.pipeline import processor, receiver, settlement
from decoupled.pipeline.loading import load
from tests.support.clients import NAMES, Request, some_request
from tests.support.engines import HandingOut
from tests.support.events import process_event, receive_event
from tests.support.faults import Crash, Faults, FaultyQueue, FaultyTable
from tests.support.model_engine import ManualClock, ModelTable

T = TypeVar("T")
VISIBILITY_TIMEOUT_S = 180.0
MAX_ATTEMPTS = 2
SEATS = str(Path(__file__).with_name("trial") / "workloads" / "seats.py")
WORKLOADS = load([*NAMES, SEATS, f"{SEATS}:RELEASES"])


@dataclass
class Engine:
    """An engine under simulation. With a `database`, settlements can ride in its transactions, as the poller's do."""

    queue: HandingOut
    table: Table
    waiting: Callable[[], int]
    dead_letters: Callable[[], list[Message]]
    redrive: Callable[[Message], None]
    holds: Callable[[str], bool] = lambda _: False  # on the queue, where the table does not know of it
    database: Database | None = None
    close: Callable[[], None] = lambda: None
    arm: Callable[[Faults], None] = lambda _: None  # faults within an engine's own steps


@dataclass
class History:
    """One run, and what the world outside of the system saw of it."""

    seed: int
    engine: Engine
    clock: ManualClock
    counts: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, str] = field(default_factory=dict)  # id → workload, of every 202
    sent: dict[str, str] = field(default_factory=dict)  # and of all that was ever tried to be put on the queue
    due: dict[str, int] = field(default_factory=dict)  # id → the earliest time at which it may be processed
    delivered: Counter[str] = field(default_factory=Counter)  # webhook-id and Message-ID, as the receivers saw them
    oracle: ModelTable = field(default_factory=ModelTable)
    repaired: bool = False  # the bugs that kill messages are fixed

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.faults = Faults(self.rng, self.counts)
        self.faults.rival = self._rival
        self.engine.arm(self.faults)
        self.queue = FaultyQueue(self.engine.queue, self.faults, self._sending)
        self.table = FaultyTable(self.engine.table, self.faults, self._applied)
        self.workloads = {
            name: replace(workload, process=self._shaky(workload)) for name, workload in WORKLOADS.items()
        }
        self.requests: list[Request] = []
        self._uncommitted: list[tuple[Message, Commit | Reject, Stored]] | None = None
        self._rivals = 0
        self._numbers = iter(range(1_000_000))

    # --- the history ------------------------------------------------------------

    def run(self) -> None:
        """Some clients and processors, in any order; then the trouble ends, and everything is processed."""
        with self._outside_world():
            for _ in range(self.rng.randint(4, 14)):
                self._step()
            self.faults.on = False
            self.drain()
            self.repaired = self.rng.random() < 0.8
            if self.repaired:
                self.redrive(everything=True)
                self.drain()

    def _step(self) -> None:
        action = self.rng.choices(
            (self._client_sends, self._client_sends_again, self._one_processor, self._time_passes, self.redrive),
            (4, 1, 5, 2, 0.3),
        )[0]
        self.counts[action.__name__] += 1
        action()
        if self.rng.random() < 0.2:
            self._nothing_is_lost()

    def _nothing_is_lost(self) -> None:
        """At any moment, each accepted message is on the queue or has a record."""
        for message_id in self.accepted:
            assert self.engine.holds(message_id) or self.engine.table.get(message_id), f"lost: {message_id}"

    def _client_sends(self) -> None:
        request = some_request(self.rng)
        self.requests.append(request)
        self._post(request)

    def _client_sends_again(self) -> None:
        if self.requests:
            self._post(self.rng.choice(self.requests))

    def _post(self, request: Request) -> None:
        try:
            response = receive_event(request.event(), self.queue, WORKLOADS)
        except Crash:
            return  # the client saw its connection break
        body = json.loads(response["body"])
        if response["statusCode"] == 202:
            for entry in body.get("accepted", [body]):
                self.accepted[entry["id"]] = request.workload
            self.counts["accepted"] += 1
        else:
            assert response["statusCode"] == 503, (request, response)
            assert response["headers"]["retry-after"], response

    def _one_processor(self) -> None:
        """Receives a batch and processes it, on Lambda's path or on the embedded engine's."""
        try:
            deliveries = self.queue.receive(self.rng.randint(1, 10), VISIBILITY_TIMEOUT_S)
            if deliveries and self.engine.database is not None and self.rng.random() < 0.7:
                self._as_the_poller_does(deliveries, self.engine.database)
            elif deliveries:
                self._as_lambda_does(deliveries)
        except Crash:
            self.counts["processor died"] += 1

    def _as_lambda_does(self, deliveries: Sequence[Delivery]) -> None:
        event = {"Records": [_sqs_record(delivery, f"m{next(self._numbers)}") for delivery in deliveries]}
        try:
            answer = process_event(event, self.queue, self.table, self.workloads, MAX_ATTEMPTS, lambda: 30.0)
        except ConnectionError:
            return  # the function failed: the whole batch comes back
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        receipts = {record["receiptHandle"] for record in event["Records"] if record["messageId"] not in failed}
        self.queue.delete([delivery for delivery in deliveries if delivery.receipt in receipts])

    def _as_the_poller_does(self, deliveries: Sequence[Delivery], database: Database) -> None:
        """Decides in a worker; settles and deletes in one transaction, again until that transaction succeeds."""
        decided = [(each, processor.decide(each.message, self.workloads, 30.0)) for each in deliveries]
        policy = settlement.Policy(MAX_ATTEMPTS)
        if self.faults.happens(self.faults.rival_rate):
            self._rival()
        for _ in range(100):
            try:
                with self._transaction(database):
                    rivals, self._rivals = self._rivals, 9  # one connection: nobody comes between
                    try:
                        given_back = {
                            each.receipt for each in settlement.settle(decided, self.queue, self.table, policy)
                        }
                        self.queue.delete([each for each in deliveries if each.receipt not in given_back])
                    finally:
                        self._rivals = rivals
                if not self.faults.store_fails("committed, unknown"):
                    return
            except (ConnectionError, Unavailable):
                self.counts["settled again"] += 1
        raise AssertionError("a hundred transactions in a row failed")

    @contextmanager
    def _transaction(self, database: Database) -> Iterator[None]:
        self._uncommitted = []
        try:
            with database.transaction():
                yield
            for told in self._uncommitted:
                self._compare(*told)
        finally:
            self._uncommitted = None

    def _rival(self) -> None:
        """While a processor dawdles, its messages become visible again, and another one takes them."""
        if self._rivals < 2:
            self._rivals += 1
            self.clock.advance(VISIBILITY_TIMEOUT_S + 1)
            self._one_processor()
            self._rivals -= 1

    def _time_passes(self) -> None:
        self.clock.advance(self.rng.choice((0.1, 3, 60, VISIBILITY_TIMEOUT_S + 1, 1000)))

    def redrive(self, everything: bool = False) -> None:
        """Put dead letters back on the queue, as `decoupled dead redrive` does."""
        for message in self.engine.dead_letters():
            if everything or self.rng.random() < 0.5:
                self.counts["redriven"] += 1
                self.engine.redrive(message)

    def drain(self) -> None:
        """Process until the queue is empty; how long that may take is bounded."""
        for _ in range(2_000):
            if not self.engine.waiting():
                return
            self._one_processor()
            self.clock.advance(100)
        raise AssertionError(f"{self.engine.waiting()} messages never leave the queue")

    def known(self) -> dict[str, str]:
        """Every id that the system may hold, with its workload: what clients sent, and what that emitted."""
        known = dict(self.sent)
        for message_id, workload in list(known.items()):
            target = "releases" if workload == "seats" else "notifications"
            known |= dict.fromkeys(self.emitted(message_id, workload), target)
        return known

    def emitted(self, message_id: str, workload: str) -> list[str]:
        """The ids of what a message emitted, by its own record."""
        record = self.engine.table.get(message_id)
        if record is None or record.result is None:
            return []
        result = json.loads(record.result)
        if workload == "registrations":
            return [result["welcome_url"].rpartition("/")[2]]
        if workload == "seats":
            return [result["release"]] if "release" in result else []
        return [url.rpartition("/")[2] for url in result.get("deliveries", [])]

    def _sending(self, message: Message) -> None:
        self.sent[message.id] = message.workload
        due_at = message.due_at or message.accepted_at
        self.due[message.id] = min(due_at, self.due.get(message.id, due_at))

    # --- the oracle ---------------------------------------------------------------

    def _applied(self, message: Message, decision: Commit | Reject, outcome: Stored) -> None:
        if self._uncommitted is None:
            self._compare(message, decision, outcome)
        else:
            self._uncommitted.append((message, decision, outcome))

    def _compare(self, message: Message, decision: Commit | Reject, outcome: Stored) -> None:
        (expected,) = self.oracle.commit([(message, decision)], self.clock())
        seen = (outcome.status, outcome.reason, outcome.duplicate)
        assert isinstance(expected, Stored)
        assert seen == (expected.status, expected.reason, expected.duplicate), (message, outcome, expected)

    # --- the world outside --------------------------------------------------------

    def _shaky(self, workload: Workload) -> Callable[[Any, Message], Effects]:
        def process(entry: Any, message: Message) -> Effects:
            self.faults.at("before process")
            if self.faults.happens(self.faults.bug_rate):
                raise RuntimeError("a bug that comes and goes")
            if self.faults.happens(self.faults.not_yet_rate):
                self.counts["not yet"] += 1
                seconds = self.rng.choice((0, 1, 60, 1_000))
                raise NotYet(self.rng.choice((seconds, datetime.fromtimestamp(self.clock() / 1000 + seconds, UTC))))
            effects = workload.process(entry, message)
            if isinstance(effects, Coroutine):
                effects = _without_waiting(effects)
            self.faults.at("after process")
            return cast(Effects, effects)

        return process

    async def _receive_webhook(self, url: str, headers: Mapping[str, str], _body: bytes, _trusted: Any) -> int:
        return self._receive(url, headers["webhook-id"])

    async def _receive_mail(self, _server: str, mail: Mail) -> None:
        self._receive(mail.recipient, mail.message_id.strip("<>").partition("@")[0])

    def _receive(self, recipient: str, message_id: str) -> int:
        if "poison" in recipient and not self.repaired:
            raise RuntimeError("a bug that always strikes here")
        if "gone" in recipient:
            raise Rejected("410")
        if self.faults.store_fails("recipient unavailable"):
            raise Unavailable("503", self.rng.choice((None, 5.0, 3600.0)))
        self.delivered[message_id] += 1
        if self.faults.store_fails("delivered, unknown"):
            raise Unavailable("timed out")
        return 204

    @contextmanager
    def _outside_world(self) -> Iterator[None]:
        """Clock, ids, randomness, receivers and settings of this history."""
        clock = self.clock

        now = SimpleNamespace(
            now=lambda tz: datetime.fromtimestamp(clock() / 1000, tz), fromtimestamp=datetime.fromtimestamp
        )
        random.seed(self.seed)  # the backoff's spread
        names = SimpleNamespace(token_hex=lambda _: f"{next(self._numbers):018x}")
        time = SimpleNamespace(time_ns=lambda: clock() * 1_000_000)
        settings = {"WEBHOOK_SECRET": "whsec_c2ltdWxhdGlvbg==", "SMTP_URL": "smtp://m", "MAIL_FROM": "a@example.com"}
        patches: list[AbstractContextManager[Any]] = [
            mock.patch.object(receiver, "secrets", names),
            mock.patch("decoupled.core.times.time", time),
            mock.patch.object(settlement.log, "disabled", True),
            mock.patch("decoupled.workloads.notifications.datetime", now),
            mock.patch("decoupled.outbound.webhook.post", self._receive_webhook),
            mock.patch("decoupled.outbound.mail.send_in_thread", self._receive_mail),
            mock.patch.dict("os.environ", settings),
        ]
        with ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            yield


def _without_waiting(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns. In here nothing takes time: it has no reason to wait."""
    try:
        coroutine.send(None)
    except StopIteration as returned:
        value: T = returned.value
        return value
    raise AssertionError("it waits")


def _sqs_record(delivery: Delivery, message_id: str) -> dict[str, Any]:
    message = delivery.message
    attributes = {
        "id": message.id,
        "workload": message.workload,
        "caller": message.caller,
        "accepted_at": str(message.accepted_at),
    }
    return {
        "messageId": message_id,
        "receiptHandle": delivery.receipt,
        "body": message.body,
        "attributes": {"ApproximateReceiveCount": str(delivery.receive_count), "SentTimestamp": "0"},
        "messageAttributes": {name: {"stringValue": value, "dataType": "String"} for name, value in attributes.items()},
    }
