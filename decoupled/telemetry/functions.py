"""Traces of Lambda's functions: each invocation sends its spans before it answers, since nothing runs between two of
them. Waits for a collector for a bounded time, and not again while it hangs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from decoupled.core import tracing
from decoupled.core.outcomes import NotSent
from decoupled.core.tracing import Span
from decoupled.core.workload import Message
from decoupled.engines.protocols import Producer
from decoupled.pipeline.call import EventResponse
from decoupled.telemetry.process import flush


def answering(event: Mapping[str, Any], queue: Producer, answer: Callable[[Producer], EventResponse]) -> EventResponse:
    """What `answer` says to a request, in its span; what it sends on the queue carries that on."""
    if tracing.active is None:
        return answer(queue)
    headers = event.get("headers") or {}
    scheme = headers.get("x-forwarded-proto", "https")
    span, passed = tracing.request("POST", event.get("rawPath") or "/", scheme, headers)
    if span is None:
        return answer(_Passing(queue, passed) if passed else queue)
    response = answer(_Sending(queue, span))
    tracing.responded(span, response["statusCode"])
    flush()
    return response


class _Sending:
    """Implements Producer: sends in a span."""

    def __init__(self, queue: Producer, span: Span) -> None:
        self._queue = queue
        self._span = span

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        """Of Producer."""
        if not messages:
            return self._queue.send(messages)
        span, messages = tracing.sending(self._span, "POST", messages)
        outcomes = self._queue.send(messages)
        tracing.sent(span, next((it.detail for it in outcomes if it is not None), ""))
        return outcomes


class _Passing:
    """Implements Producer: hands on a context that is not sampled."""

    def __init__(self, queue: Producer, trace: str) -> None:
        self._queue = queue
        self._trace = trace

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        """Of Producer."""
        return self._queue.send(tracing.stamped(messages, self._trace))
