"""What an audit says of a stack on an emulator, long after its last message. For tests only."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest

from decoupled.cli import stack_audit
from decoupled.core.audit import Report
from decoupled.engines.aws.audit import AwsAudit
from decoupled.engines.sqlite.audit import unheard
from decoupled.server.options import Options
from tests.support.engines import AwsEngine

LATER_MS = 20 * 24 * 3_600_000
WORKLOADS = ("transactions", "readings", "registrations", "notifications")
NOW = time.time_ns() // 1_000_000


def audit(
    engine: AwsEngine, ledger: Iterable[str] = (), *, after_ms: int = LATER_MS, group: str | None = None, **options: Any
) -> Report:
    """As `decoupled audit --stack` does it, so long after the last message."""
    found = {
        "QueueUrl": engine.queue_url,
        "DeadLetterQueueUrl": engine.dead_letter_queue_url,
        "TableName": engine.table_name,
    }
    clients = {"dynamodb": engine.dynamodb, "sqs": engine.sqs, "scheduler": engine.scheduler}
    pauses: list[float] = []
    one = AwsAudit("shop", found, group, 100.0, clients.__getitem__, lambda: NOW + after_ms, pauses.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack_audit, "audit_of_stack", lambda *_: one)
        report = stack_audit.audit_stack("shop", 100, ledger, False, Options(workloads=WORKLOADS), unheard)
    assert sum(pauses) == pytest.approx(one.units / 100.0)  # at the pace that was asked for
    return report
