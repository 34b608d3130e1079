"""Spans of OpenTelemetry's SDK. They wait in a queue that is bounded, and leave in batches, in a thread of their own: a
collector that hangs, or is gone, costs spans, which is said once. So does whatever the SDK raises, or a sampler that
somebody has plugged in: it reaches no message."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence

from opentelemetry import context as contexts
from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from decoupled import __version__
from decoupled.core import limits, semconv, traces
from decoupled.core.tracing import Attributes, Error, Kind, Tracer
from decoupled.telemetry.sampling import BoundForClients

log = logging.getLogger("decoupled.telemetry")

_KINDS: Mapping[Kind, api.SpanKind] = {
    "server": api.SpanKind.SERVER,
    "producer": api.SpanKind.PRODUCER,
    "consumer": api.SpanKind.CONSUMER,
    "internal": api.SpanKind.INTERNAL,
    "client": api.SpanKind.CLIENT,
}


class OpenTelemetry:
    """Implements Tracer."""

    def __init__(self, role: str, system: str, environ: Mapping[str, str]) -> None:
        self.system = system
        # Of its own thread it would say the same every second, and more than that; `_Exporter` says it once.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._provider = TracerProvider(resource=_resource(role), shutdown_on_exit=False)
        self._provider.sampler = BoundForClients(self._provider.sampler, _clients_per_s(environ))
        every_ms = None if "OTEL_BSP_SCHEDULE_DELAY" in environ else limits.TRACE_EXPORT_EVERY_S * 1000
        self._provider.add_span_processor(
            BatchSpanProcessor(_Exporter(OTLPSpanExporter()), schedule_delay_millis=every_ms)
        )
        self._tracer = self._provider.get_tracer(semconv.SCOPE, __version__, schema_url=semconv.SCHEMA_URL)
        self._flushing: threading.Thread | None = None

    def request(self, name: str, parent: str, attributes: Attributes) -> OpenTelemetrySpan | None:
        """Of Tracer."""
        made = self._made("server", name, parent, attributes)
        return OpenTelemetrySpan(made, self) if made.is_recording() else None

    def span(
        self, kind: Kind, name: str, parent: str, attributes: Attributes, began_ns: int | None = None
    ) -> OpenTelemetrySpan:
        """Of Tracer."""
        return OpenTelemetrySpan(self._made(kind, name, parent, attributes, began_ns), self)

    def _made(
        self, kind: Kind, name: str, parent: str, attributes: Attributes, began_ns: int | None = None
    ) -> api.Span:
        """One that goes on with its parent's context, and is sent to nobody, where none can be made."""
        around = _context(parent)
        with _careful():
            return self._tracer.start_span(name, around, _KINDS[kind], attributes, start_time=began_ns)
        return api.NonRecordingSpan(api.get_current_span(around).get_span_context())

    def flush(self, seconds: float) -> None:
        """Send what has ended. Where that has hung before and does so still, nobody waits again."""
        if self._flushing is None or not self._flushing.is_alive():
            self._flushing = threading.Thread(target=self._provider.force_flush, daemon=True)
            self._flushing.start()
            self._flushing.join(seconds)

    def stop(self, seconds: float) -> None:
        """Send what is left, and nothing more. The SDK itself would wait for half a minute."""
        stopping = threading.Thread(target=self._provider.shutdown, daemon=True)
        stopping.start()
        stopping.join(seconds)


class OpenTelemetrySpan:
    """Implements Span."""

    __slots__ = ("_span", "trace", "tracer")

    def __init__(self, span: api.Span, tracer: Tracer) -> None:
        self._span = span
        self.tracer = tracer
        its = span.get_span_context()
        trace_id, span_id = api.format_trace_id(its.trace_id), api.format_span_id(its.span_id)
        self.trace = traces.context(trace_id, span_id, its.trace_flags.sampled, its.trace_state.to_header())

    def enter(self) -> None:
        """Of Span."""
        with _careful():
            contexts.attach(api.set_span_in_context(self._span))

    def name(self, name: str, attributes: Attributes) -> None:
        """Of Span."""
        with _careful():
            self._span.update_name(name)
            self._span.set_attributes(attributes)

    def end(self, attributes: Attributes | None = None, error: Error | None = None) -> None:
        """Of Span."""
        with _careful():
            if attributes:
                self._span.set_attributes(attributes)
            if error is not None:
                self._fail(error)
            self._span.end()

    def _fail(self, error: Error) -> None:
        text = _text(error.text)
        self._span.set_attribute(semconv.ERROR_TYPE, error.type)
        self._span.set_status(api.StatusCode.ERROR, text or None)
        if error.raised:
            said = {semconv.EXCEPTION_TYPE: error.type, semconv.EXCEPTION_MESSAGE: text}
            said |= {semconv.EXCEPTION_STACKTRACE: _text(error.traceback)} if error.traceback else {}
            self._span.add_event(semconv.EXCEPTION, said)


@contextlib.contextmanager
def _careful() -> Iterator[None]:
    """What is raised here costs a span: the writer, a front or a worker would else end for it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  of a library, and of what was plugged into it
        if (kind := type(error).__name__) not in _said:
            _said.add(kind)
            log.warning("a span could not be made, and no further one like it", extra={"error": f"{kind}: {error}"})


_said: set[str] = set()  # kinds of errors, each once


class _Exporter(SpanExporter):
    """An exporter that says once that it does not get through, and once that it does again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0  # spans, since it got through

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Of the SDK."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                log.warning("spans do not get to their collector, and are dropped", extra={"spans": len(spans)})
            self._lost += len(spans)
        elif self._lost:
            log.info("spans get to their collector again", extra={"dropped": self._lost})
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """Of the SDK."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Of the SDK."""
        return self._exporter.force_flush(timeout_millis)


def _context(trace: str) -> contexts.Context:
    """What the SDK takes for a parent: nothing around it counts."""
    if not trace:
        return contexts.Context()
    state = traces.state(trace)
    parent = api.SpanContext(
        int(traces.trace_id(trace), 16),
        int(traces.span_id(trace), 16),
        is_remote=True,
        trace_flags=api.TraceFlags(1 if traces.sampled(trace) else 0),
        trace_state=api.TraceState.from_header([state]) if state else None,
    )
    return api.set_span_in_context(api.NonRecordingSpan(parent), contexts.Context())


def _resource(role: str) -> Resource:
    """What a process is; what the environment says of it counts."""
    ours: dict[str, str | int] = {
        semconv.SERVICE_INSTANCE_ID: str(uuid.uuid4()),
        semconv.SERVICE_VERSION: __version__,
        semconv.PROCESS_PID: os.getpid(),
        semconv.ROLE: role,
    }
    named = Resource.create(ours).merge(Resource.create())
    if str(named.attributes.get(semconv.SERVICE_NAME)).startswith("unknown_service"):
        return named.merge(Resource({semconv.SERVICE_NAME: "decoupled"}))
    return named


def _clients_per_s(environ: Mapping[str, str]) -> float:
    """Raises ValueError."""
    text = environ.get("TRACE_CLIENTS_PER_S", "")
    rate = float(text) if text else limits.CLIENT_TRACES_PER_S
    if not 0 <= rate <= limits.MAX_RATE:
        raise ValueError(f"TRACE_CLIENTS_PER_S is 0 to {limits.MAX_RATE}, and not {text}")
    return rate


def _text(text: str) -> str:
    """So much of it as a span takes, in characters that its encoding has."""
    return text[-limits.MAX_SPAN_ERROR_CHARS :].encode(errors="replace").decode()
