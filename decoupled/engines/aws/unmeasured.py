"""Whether a function measures what it does. By default it does not, and `measuring.py` is not even imported."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from decoupled.core.metrics import Numbers
from decoupled.core.outcomes import Delivery
from decoupled.engines.protocols import Producer, Queue

if TYPE_CHECKING:
    from decoupled.engines.aws.measuring import Measuring

Answer = TypeVar("Answer", bound=Mapping[str, object])
Process = Callable[[Sequence[Delivery], Queue, Numbers | None], list[Delivery]]
"""Deliveries of a batch, a queue to send to, and what is told what became of them: those to deliver again."""


def measuring_of(environ: Mapping[str, str], workloads: Collection[str]) -> Measuring | Unmeasured:
    """As the function's environment says, in METRICS_NAMESPACE."""
    if not (namespace := environ.get("METRICS_NAMESPACE")):
        return Unmeasured()
    from decoupled.engines.aws.measuring import Measuring

    return Measuring(namespace, workloads)


class Unmeasured:
    """Does what Measuring does, and measures nothing."""

    def taken(self, producer: Producer, answer: Callable[[Producer], Answer]) -> Answer:
        """What a request is answered that puts messages on the queue."""
        return answer(producer)

    def answered(self, answer: Callable[[], Answer]) -> Answer:
        """What a request is answered that only asks."""
        return answer()

    def processed(
        self,
        deliveries: Sequence[Delivery],
        queue: Queue,
        process: Process,
        held: Collection[str],  # noqa: ARG002
    ) -> list[Delivery]:
        """What of a batch is to be delivered again."""
        return process(deliveries, queue, None)
