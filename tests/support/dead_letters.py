"""Dead letters as the processor and SQS make them. For tests only."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from decoupled.core.dead_letters import DeadLetter
from decoupled.core.outcomes import Delivery, Failure
from decoupled.core.workload import Message
from decoupled.engines.aws.dead_letter_queue import DeadLetterQueue
from decoupled.engines.aws.dead_letters import AwsDeadLetters
from decoupled.engines.aws.messages import SqsQueue
from decoupled.engines.protocols import DeadLetters
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.pipeline.settlement import Policy, settle
from decoupled.workloads import orders
from tests.support import engines
from tests.support.server import wait_for

POISON = Failure("failed", "KeyError", "no such product")


_numbers = itertools.count()


def receive_one(engine: engines.Engine) -> Delivery:
    return wait_for(lambda: engine.queue.receive(1, 60))[0]


def letters_of(engine: Any) -> DeadLetters:
    """A tool's view of an engine."""
    if isinstance(engine, engines.EmbeddedEngine):
        return SqliteDeadLetters(engine.table.database)
    queue = DeadLetterQueue(engine.sqs, [engine.dead_letter_queue_url], receive_wait_s=0)
    return AwsDeadLetters(engine.dynamodb, engine.table_name, engine.queue, queue)


def message(workload: str = "orders", body: str = '{"bad":true}') -> Message:
    return Message(f"message-{next(_numbers)}", workload, body, "anonymous", time.time_ns() // 1_000_000)


def bury(engine: engines.Engine, failure: Failure = POISON, workload: str = "orders") -> Message:
    """Send a message that fails once, and is given up at once."""
    sent = message(workload)
    engine.queue.send([sent])
    delivery = receive_one(engine)
    assert settle([(delivery, failure)], engine.queue, engine.table, Policy(max_attempts=1)) == []
    engine.queue.delete([delivery])
    return sent


def let_sqs_move(engine: engines.AwsEngine, sent: Message) -> None:
    """As the redrive policy does: the message with its attributes, and no story."""
    SqsQueue(engine.sqs, engine.dead_letter_queue_url, "").send([sent])


THREE_ERRORS = (
    ("KeyError", "no such product: 'sku-{n}'"),
    ("ValueError", "order {n} of customer-{n}@example.com is over its limit of {n}.00"),
    ("ConnectionError", "https://bank.example/charges/{n}?of={n} answered after {n} ms"),
)
"""As types and texts, with what differs from one message to the next; three groups."""

AN_ORDER = msgspec.json.encode(orders.WORKLOAD.example).decode()


def dead_letters(
    count: int,
    errors: Sequence[tuple[str, str]] = THREE_ERRORS,
    workload: str = "orders",
    bodies: Iterable[str] = itertools.repeat(AN_ORDER),
) -> list[DeadLetter]:
    """So many, one error after the other, whose texts all differ; they died within the last hour, one by one."""
    now, step = time.time_ns() // 1_000_000, 3_600_000 / max(count, 1)
    letters = []
    for n, (error_type, error), body in zip(range(count), itertools.cycle(errors), bodies, strict=False):
        dead_at = now - 3_600_000 + int(n * step)
        letters.append(
            DeadLetter(
                id=f"{dead_at - 5_000:012x}{n:021x}",
                workload=workload,
                caller="anonymous",
                accepted_at=dead_at - 5_000,
                dead_at=dead_at,
                attempts=5,
                buried_by="processor",
                error_type=error_type,
                error=error.format(n=1_000_000 + n),
                first_failed_at=dead_at - 4_000,
                last_failed_at=dead_at,
                traceback=f'Traceback (most recent call last):\n  File "orders.py", line 7\n{error_type}',
                body=body,
            )
        )
    return letters


def fill(data: Path, letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
    """Put them into a data directory, as an import does, while no server has it: 10,000 in a second."""
    directory = DataDirectory(data)
    with contextlib.closing(directory.own()) as database, database.transaction():
        outcomes = SqliteDeadLetters(database).restore(letters)
    directory.unlock()
    assert all(outcome.done for outcome in outcomes)
    return letters
