"""Measuring of the functions, where the stack asks for it (`Metrics=on`): what an invocation has put on the queue, what
it came to and how long it took, written to its log when it is done. Where nobody asks, none of this is imported."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from decoupled.core.metrics import Numbers
from decoupled.core.outcomes import Delivery, NotSent
from decoupled.core.times import now_ms
from decoupled.core.workload import Message
from decoupled.engines.aws.emf import Measured, lines
from decoupled.engines.aws.unmeasured import Answer, Process, log_line
from decoupled.engines.protocols import Producer, Queue

_ERRORS = 400  # and more


class Measuring:
    """Of one function. `workloads`: those that the stack serves. `write` takes a line with its end."""

    def __init__(
        self,
        namespace: str,
        workloads: Collection[str],
        write: Callable[[str], None] = log_line,
        clock_ms: Callable[[], int] = now_ms,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._namespace = namespace
        self._workloads = workloads
        self._write = write
        self._clock_ms = clock_ms
        self._timer = timer

    def taken(self, producer: Producer, answer: Callable[[Producer], Answer]) -> Answer:
        """What a request is answered that puts messages on the queue: how many, and how long that took."""
        measured, began = Measured(), self._timer()
        taking = _Taking(producer, measured, lambda: self._timer() - began)
        return self._refusal(answer(taking), measured)

    def answered(self, answer: Callable[[], Answer]) -> Answer:
        """What a request is answered that only asks."""
        return self._refusal(answer(), Measured())

    def _refusal(self, response: Answer, measured: Measured) -> Answer:
        if isinstance(status := response["statusCode"], int) and status >= _ERRORS:
            measured.count("refused", str(status))
        self._tell(measured)
        return response

    def processed(
        self,
        deliveries: Sequence[Delivery],
        queue: Queue,
        process: Process,
        held: Collection[str],
    ) -> list[Delivery]:
        """What of a batch is to be delivered again. `process` tells its tally what the others came to; `held`: the
        workloads that are held after that."""
        now = self._clock_ms()
        measured = Measured(now_ms=now)
        for delivery in deliveries:
            if delivery.receive_count == 1:
                waited_ms = max(0, now - (delivery.waits_since or delivery.message.accepted_at))
                measured.observe("waiting_seconds", waited_ms / 1000, delivery.message.workload)
        failed = process(deliveries, _Sending(queue, measured), measured)
        for workload in {delivery.message.workload for delivery in deliveries} & {*held}:
            measured.gauges.setdefault("held", {})[workload] = 1.0
        self._tell(measured)
        return failed

    def _tell(self, measured: Measured) -> None:
        for line in lines(measured, self._namespace, self._workloads, self._clock_ms()):
            self._write(f"{line}\n")


class _Taking:
    """Implements Producer."""

    def __init__(self, producer: Producer, measured: Numbers, took_s: Callable[[], float]) -> None:
        self._producer = producer
        self._measured = measured
        self._took_s = took_s

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        outcomes = self._producer.send(messages)
        if _count(messages, outcomes, self._measured):
            self._measured.observe("accept_seconds", self._took_s(), messages[0].workload)
        return outcomes


class _Sending:
    """Implements Queue: counts what is emitted."""

    def __init__(self, queue: Queue, measured: Numbers) -> None:
        self._queue = queue
        self._measured = measured
        self.retry_later = queue.retry_later
        self.defer = queue.defer

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        outcomes = self._queue.send(messages)
        _count(messages, outcomes, self._measured)
        return outcomes


def _count(messages: Sequence[Message], outcomes: Sequence[NotSent | None], measured: Numbers) -> bool:
    """SQS knows no ids: what is sent again counts again."""
    for message, outcome in zip(messages, outcomes, strict=True):
        if outcome is None:
            measured.count("accepted", message.workload)
    return None in outcomes
