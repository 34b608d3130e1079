"""A webhook as Standard Webhooks has it, signed with the operator's secret; and whether one could be sent at all. Knows
not what it says, or why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from standardwebhooks import Webhook as Signer

from decoupled.core.workload import Message
from decoupled.outbound import webhook
from decoupled.outbound.settings import setting


async def post(url: str, type_: str, data: Mapping[str, Any], message: Message) -> int:
    """POST to a host that a client named, under the message's id; the status of the answer. Raises as `webhook.post`,
    and NotConfigured."""
    now, accepted = datetime.now(UTC), datetime.fromtimestamp(message.accepted_at / 1000, UTC)
    body = msgspec.json.encode({"type": type_, "timestamp": accepted, "data": data})
    signature = Signer(setting("WEBHOOK_SECRET")).sign(message.id, now, body.decode())
    headers = {"content-type": "application/json", "webhook-id": message.id}
    headers |= {"webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    return await webhook.post(url, headers, body, _trusted_hosts())


def check(url: str) -> None:
    """Raises ValueError for what could never be posted to from here, without asking DNS. On AWS only the processor has
    the secret, and it says what is missing in a dead letter."""
    webhook.check_target(url, _trusted_hosts())
    if not os.environ.get("WEBHOOK_SECRET") and "AWS_LAMBDA_FUNCTION_NAME" not in os.environ:
        raise ValueError("it could not be signed, because WEBHOOK_SECRET is not set here")


def _trusted_hosts() -> list[str]:
    return os.environ.get("WEBHOOK_TRUSTED_HOSTS", "").split(",")
