"""Messages of ordered workloads, of one batch: in rounds, the next one of each group in each, so that none is processed
before the one ahead of it is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from decoupled.core.outcomes import Delivery
from decoupled.pipeline import blame

Store = Callable[..., list[Delivery]]
"""As `settlement.settle`, in some queue and table: of decided deliveries, gives back those to deliver again."""


def process_in_order(
    deliveries: Sequence[Delivery],
    process_some: Callable[[Sequence[Delivery]], list[Delivery]],
    store: Store,
) -> list[Delivery]:
    """Once a message has to be delivered again, those of its group behind it are given back as they are."""
    waiting: dict[tuple[str, str], list[Delivery]] = {}
    for delivery in deliveries:
        waiting.setdefault((delivery.message.workload, delivery.message.group), []).append(delivery)
    failed: list[Delivery] = []
    while waiting:
        came_back = process_some([group[0] for group in waiting.values()])
        held = {(delivery.message.workload, delivery.message.group) for delivery in came_back}
        behind = [(delivery, blame.BEHIND) for name in held for delivery in waiting[name][1:]]
        failed += came_back + store(behind)
        waiting = {name: group[1:] for name, group in waiting.items() if name not in held and group[1:]}
    return failed
