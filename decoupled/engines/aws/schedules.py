"""What is due later than SQS can delay: a one-time schedule of EventBridge Scheduler for each message, which puts it on
the queue at its time. Until then it is neither on the queue nor in flight.

    send, or NotYet ── due within 15 minutes ──▶ SQS's own delay
                    └─ later ──▶ CreateSchedule at(...) ── its time ──▶ SendMessage, as the receiver would
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from decoupled.core import limits
from decoupled.core.outcomes import NotSent
from decoupled.engines.aws.client import AwsError, client, code, detail, never_left
from decoupled.engines.aws.sqs_format import Entry

TARGET = "scheduler:::aws-sdk:sqs:sendMessage"  # the templated target of SQS takes no message attributes


class Schedules:
    """Makes schedules in the stack's group. They send in the name of `role_arn`; what cannot be sent for a day goes to
    the dead-letter queue. `key_arn`: of the KMS key that encrypts them, if not AWS's own."""

    def __init__(
        self,
        make_client: Callable[[], Any],
        group: str,
        queue_url: str,
        role_arn: str,
        dead_letter_queue_arn: str,
        key_arn: str = "",
    ) -> None:
        """The client is made for the first schedule: most functions never need it."""
        self._make_client = make_client
        self._client: Any = None
        self._making = threading.Lock()
        self._group = group
        self._queue_url = queue_url
        partition = ":".join(role_arn.split(":")[:2])  # arn:aws, or that of China
        self._target = {
            "Arn": f"{partition}:{TARGET}",
            "RoleArn": role_arn,
            "DeadLetterConfig": {"Arn": dead_letter_queue_arn},
        }
        self._key = {"KmsKeyArn": key_arn} if key_arn else {}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], queue_url: str) -> Schedules | None:
        """Those of a queue, in the group that the function's environment names by SCHEDULE_GROUP; None where it
        names none."""
        if not environ.get("SCHEDULE_GROUP"):
            return None
        return cls(
            lambda: client("scheduler"),
            environ["SCHEDULE_GROUP"],
            queue_url,
            environ["SCHEDULE_ROLE_ARN"],
            environ["SCHEDULE_DEAD_LETTER_ARN"],
            environ.get("SCHEDULE_KEY_ARN", ""),
        )

    def create(self, entry: Entry, due_at: int, name: str) -> NotSent | None:
        """Have an entry sent at a time: EventBridge keeps to the minute, so it comes up to a minute later. To do it
        again under the same name changes nothing. Returns None (durable) or why it is not."""
        sent = {**entry, "QueueUrl": self._queue_url}
        # The scheduler fills in what looks like <aws.scheduler.scheduled-time>; escaped, the JSON says the same.
        sent["MessageBody"] = sent["MessageBody"].replace("<aws.scheduler.", r"\u003caws.scheduler.")
        text = json.dumps(sent, ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) > limits.MAX_SCHEDULE_BYTES:
            return NotSent("the entry is too large to be due that late", transient=False)
        try:
            self._scheduler().create_schedule(
                Name=name,
                GroupName=self._group,
                ScheduleExpression=f"at({minute(due_at)})",
                ScheduleExpressionTimezone="UTC",
                FlexibleTimeWindow={"Mode": "OFF"},
                ActionAfterCompletion="DELETE",
                Target={**self._target, "Input": text},
                **self._key,
            )
        except AwsError as error:
            if code(error) == "ConflictException":
                return None  # it was made before
            return NotSent(detail(error), unknown=not never_left(error))
        return None

    def _scheduler(self) -> Any:
        with self._making:
            if self._client is None:
                self._client = self._make_client()
            return self._client


def at(expression: str) -> int:
    """The time of a schedule of ours, in milliseconds: at(2026-11-18T11:07:00), in UTC."""
    text = expression.removeprefix("at(").removesuffix(")")
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def minute(due_at: int) -> str:
    """The minute in which a time lies, or the next: never before it."""
    at = datetime.fromtimestamp(due_at / 1000, UTC).replace(tzinfo=None)
    whole = at.replace(second=0, microsecond=0)
    return (whole if whole == at else whole + timedelta(minutes=1)).isoformat(timespec="seconds")
