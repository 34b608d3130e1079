"""Dead letters as the processor and SQS make them. For tests only."""

from __future__ import annotations

import itertools
import time
from typing import Any

from decoupled.core.outcomes import Delivery, Failure
from decoupled.core.workload import Message
from decoupled.engines.aws.dead_letter_queue import DeadLetterQueue
from decoupled.engines.aws.dead_letters import AwsDeadLetters
from decoupled.engines.aws.messages import SqsQueue
from decoupled.engines.protocols import DeadLetters
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.pipeline.settlement import Policy, settle
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
