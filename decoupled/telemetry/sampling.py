"""Which requests are sampled. Whatever OTEL_TRACES_SAMPLER says, what a client's own context decides in favour of is
bounded: a stranger could else have every request of his traced, by its flag, or by ids that a ratio takes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class BoundForClients(Sampler):
    """Asks another sampler. Of the requests that this one takes and whose client has sent a context, so many a second
    are; the others it is asked of again as of new traces."""

    def __init__(self, sampler: Sampler, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._sampler = sampler
        self._per_s = per_s
        self._clock = clock
        self._most = max(per_s, 1.0) if per_s else 0.0
        self._left = self._most
        self._seen_at = clock()

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Of the SDK."""
        result = self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        sampled = result.decision is Decision.RECORD_AND_SAMPLE
        if kind is not SpanKind.SERVER or not parent_context or not sampled or self._take():
            return result
        fresh_id = secrets.randbits(128)
        return self._sampler.should_sample(Context(), fresh_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Of the SDK."""
        return f"BoundForClients{{{self._sampler.get_description()},{self._per_s}}}"

    def _take(self) -> bool:
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._seen_at) * self._per_s)
        self._seen_at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
