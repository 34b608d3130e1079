"""What the contract suite sends, and how it asks what became of it. For tests only."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from decoupled.core.identifiers import derived_id
from decoupled.core.outcomes import Commit, Delivery, Failure, NotStored, Record, Reject, Stored
from decoupled.core.workload import Message
from tests.support.engines import Engine

NOW = 1_700_000_000_123  # in the past, where an engine may look whether a message is due


_numbers = itertools.count()


T = TypeVar("T")


def message(body: str = '{"n": 1}', **changes: object) -> Message:
    original = Message(f"{next(_numbers):08x}-id_", "orders", body, "iam:1:AROA", NOW - 7)
    return msgspec.structs.replace(original, **changes)


def wait_for(found: Callable[[], T], until: Callable[[T], bool], seconds: float = 10) -> T:
    """As a server's tests do, see `tests.support.server`: an emulator's answer costs more than a server's."""
    started = time.monotonic()
    while not until(value := found()):
        waited = time.monotonic() - started
        assert waited < seconds, f"not within {seconds} s: {value}"
        time.sleep(min(0.02 + waited / 10, 0.1))
    return value


def receive_one(engine: Engine, visibility_timeout_s: float = 60) -> Delivery:
    (delivery,) = wait_for(lambda: engine.queue.receive(1, visibility_timeout_s), until=bool)
    return delivery


def commit_one(engine: Engine, sent: Message, decision: Commit | Reject, now_ms: int = NOW) -> Stored | NotStored:
    (outcome,) = engine.table.commit([(sent, decision)], now_ms)
    if isinstance(outcome, Stored):
        return msgspec.structs.replace(outcome, emits=tuple(outcome.emits))
    return outcome


def result_of(record: Record) -> Any:
    """The result, with exact numbers; None if there is none."""
    return None if record.result is None else json.loads(record.result, parse_float=Decimal)


def record_of(engine: Engine, sent: Message) -> Record:
    record = engine.table.get(sent.id)
    assert record is not None
    return record


def received_ids(engine: Engine) -> list[str]:
    """The ids of all that the queue holds; delivers each of them."""
    batches = iter(lambda: engine.queue.receive(10, 60), [])
    return sorted(delivery.message.id for batch in batches for delivery in batch)


def stored(outcomes: Sequence[Stored | NotStored]) -> list[Stored]:
    return [outcome for outcome in outcomes if isinstance(outcome, Stored)]


def emitted(sent: Message, index: int) -> Message:
    return Message(derived_id(sent.id, str(index)), "notifications", f'{{"n": {index}}}', sent.caller, sent.accepted_at)


FAILURE = Failure("failed", "KeyError", "'sku'")


def delivered(sent: Message, receive_count: int = 1) -> Delivery:
    """A message that is with a processor for so many a time."""
    return Delivery(sent, f"receipt {receive_count}", receive_count)


def dead_record(sent: Message, **changes: object) -> Record:
    record = Record(
        id=sent.id,
        workload=sent.workload,
        status="dead",
        accepted_at=sent.accepted_at,
        caller=sent.caller,
        finished_at=NOW + 5,
        attempts=5,
        error_type="KeyError",
        error="'sku'",
        first_failed_at=NOW,
        last_failed_at=NOW + 4,
        body=sent.body,
    )
    return msgspec.structs.replace(record, **changes)


def bury(engine: Engine, dead: Record) -> bool:
    """Store a dead record for a message that is with a processor."""
    message = Message(dead.id, dead.workload, dead.body or "", dead.caller, dead.accepted_at)
    return engine.table.bury(Delivery(message, "a receipt", 1), dead)
