"""Whether a function measures what it does. By default it does not, and `measuring.py` is not even imported; then the
processor writes nothing but the signals that alarms are on (`signals.py`), and only when there are some."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from decoupled.core.metrics import Numbers
from decoupled.core.outcomes import Delivery
from decoupled.core.times import now_ms
from decoupled.engines.aws.signals import Signals
from decoupled.engines.protocols import Producer, Queue

if TYPE_CHECKING:
    from decoupled.engines.aws.measuring import Measuring

Answer = TypeVar("Answer", bound=Mapping[str, object])
Process = Callable[[Sequence[Delivery], Queue, Numbers | None], list[Delivery]]
"""Deliveries of a batch, a queue to send to, and what is told what became of them: those to deliver again."""


def log_line(line: str) -> None:
    """To the function's log, in one piece; which stream that is, Lambda decides after we were imported."""
    sys.stdout.write(line)


def measuring_of(environ: Mapping[str, str], workloads: Collection[str]) -> Measuring | Unmeasured:
    """As the function's environment says, in METRICS_NAMESPACE; where signals go without, SIGNALS_NAMESPACE says."""
    if not (namespace := environ.get("METRICS_NAMESPACE")):
        return Unmeasured(environ.get("SIGNALS_NAMESPACE", ""), workloads)
    from decoupled.engines.aws.measuring import Measuring

    return Measuring(namespace, workloads)


class Unmeasured:
    """Does what Measuring does, and measures nothing but signals, for which it has a namespace in the processor."""

    def __init__(
        self,
        namespace: str = "",
        workloads: Collection[str] = (),
        write: Callable[[str], None] = log_line,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._namespace = namespace
        self._workloads = workloads
        self._write = write
        self._clock_ms = clock_ms

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
        if not self._namespace:
            return process(deliveries, queue, None)
        signals = Signals(now_ms=self._clock_ms())
        failed = process(deliveries, queue, signals)
        if signals.gauges:
            self._tell(signals)
        return failed

    def _tell(self, signals: Signals) -> None:
        from decoupled.engines.aws.emf import lines

        for line in lines(signals, self._namespace, self._workloads, signals.now_ms):
            self._write(f"{line}\n")
