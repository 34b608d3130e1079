"""How messages that were claimed are divided into batches for workers that decide one after the other. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from decoupled.core import limits
from decoupled.core.outcomes import Delivery
from decoupled.server.workers.child import Batch
from decoupled.server.workers.pool import AHEAD_S


def batches(
    workload: str, deliveries: Sequence[Delivery], message_s: float, suspects: Sequence[Delivery]
) -> list[Batch]:
    """Up to ten messages each, fewer where one takes long: `message_s`. Of these, suspects go alone, as their group may
    hang, and nothing is handed to their worker behind them."""
    alone = [Batch(workload, [delivery], AHEAD_S) for delivery in suspects]
    deliveries = [it for it in deliveries if it not in suspects] if suspects else deliveries
    size = max(1, min(limits.RECEIVE_MAX, int(AHEAD_S / message_s)))
    parts = [deliveries[start : start + size] for start in range(0, len(deliveries), size)]
    return [Batch(workload, part, message_s * len(part)) for part in parts] + alone
