"""A collector of traces: takes OTLP over HTTP on 127.0.0.1, in protobuf, as OpenTelemetry's own does, and keeps the
spans. It can be told to answer nothing, or that it is sick."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.server import wait_for


@dataclass(frozen=True, slots=True)
class Collected:
    """A span, as a collector gets it."""

    name: str
    kind: str  # SERVER, PRODUCER, ...
    trace_id: str
    span_id: str
    parent_id: str  # "" of a root
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    failed: bool
    events: list[tuple[str, dict[str, Any]]]
    state: str


@dataclass
class Collector:
    """What came."""

    port: int = 0
    status: int = 200
    silent: threading.Event = field(default_factory=threading.Event)  # set: it takes requests, and answers nothing
    spans: list[Collected] = field(default_factory=list)
    requests: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that sends here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}"}

    def trace(self, trace_id: str, *names: str) -> list[Collected]:
        """The spans of a trace in the order in which they began, once there is one of each of these names."""
        found = wait_for(
            lambda: [span for span in list(self.spans) if span.trace_id == trace_id],
            lambda spans: not set(names) - {span.name for span in spans},
        )
        return sorted(found, key=lambda span: span.began_ns)


@contextmanager
def collecting() -> Iterator[Collector]:
    """While it listens."""
    collector = Collector()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.requests += 1
            if collector.silent.is_set():
                over.wait()
            if collector.status == 200:
                collector.spans += _spans(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            assert self.path == "/v1/traces", self.path
            self.send_response(collector.status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield collector
    finally:
        over.set()
        server.shutdown()
        server.server_close()


def _spans(body: bytes) -> Iterator[Collected]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Collected(
                    span.name,
                    span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    _plain(span.attributes),
                    _plain(resource.resource.attributes),
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    [(event.name, _plain(event.attributes)) for event in span.events],
                    span.trace_state,
                )


def _plain(attributes: Sequence[Any]) -> dict[str, Any]:
    return {it.key: getattr(it.value, it.value.WhichOneof("value")) for it in attributes}
