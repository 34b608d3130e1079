"""One trace goes through the functions and their queue to the webhook, on moto, to a collector that reads OTLP; each
invocation has sent its spans when it answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest

import functions.processor
from decoupled.core import tracing
from decoupled.engines.aws.table import DynamoTable
from decoupled.pipeline.loading import load
from decoupled.pipeline.settlement import Policy
from decoupled.telemetry import process as telemetry
from tests.support import api_gateway, events, stack
from tests.support.collector import Collected, Collector, collecting
from tests.support.engines import AwsEngine
from tests.support.events import ORDER
from tests.support.receivers import HttpReceiver, http_receiver

WORKLOADS = load(["orders", "notifications"])
TRACE_ID, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE_ID}-{CLIENT}-01"
AMAZON = f"Root=1-{TRACE_ID[:8]}-{TRACE_ID[8:]};Parent={CLIENT};Sampled=1"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpReceiver]:
    monkeypatch.setenv("WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    monkeypatch.setenv("WEBHOOK_TRUSTED_HOSTS", "127.0.0.1")
    with http_receiver() as running:
        yield running


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Of this process, where both functions run: it has one tracer."""
    with collecting() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")  # what is not flushed does not come
        telemetry.start("processor", "aws_sqs")
        try:
            yield running
        finally:
            telemetry.stop()
            assert tracing.active is None


def path_to(span: Collected, spans: list[Collected]) -> list[str]:
    above = {each.span_id: each for each in spans}
    return [*(path_to(above[span.parent_id], spans) if span.parent_id in above else []), span.name]


@pytest.mark.parametrize("headers", [{"traceparent": SAMPLED, "tracestate": "shop=a1"}, {"x-amzn-trace-id": AMAZON}])
def test_one_trace_from_post_to_commit_to_webhook(
    moto_engine: AwsEngine, collector: Collector, receiver: HttpReceiver, headers: dict[str, str]
) -> None:
    with stack.serving(moto_engine, WORKLOADS) as url:
        status, _ = ask(url, "POST", "/orders", ORDER, **headers, **callback(receiver))
        assert status == 202
        assert [span.name for span in collector.spans] == ["send orders", "POST /orders", "process orders", "commit"]
        process_waiting(moto_engine)
    spans = collector.spans
    to_process = ["POST /orders", "send orders", "process orders"]
    assert sorted(path_to(span, spans) for span in spans) == sorted(
        [
            ["POST /orders"],
            ["POST /orders", "send orders"],
            to_process,
            [*to_process, "commit"],
            [*to_process, "process notifications"],
            [*to_process, "process notifications", "POST"],
            [*to_process, "process notifications", "commit"],
        ]
    )
    assert {span.trace_id for span in spans} == {TRACE_ID}
    assert next(span for span in spans if span.name == "POST /orders").parent_id == CLIENT
    ((_, sent, _),) = receiver.requests
    assert sent["traceparent"].split("-")[2] == next(span for span in spans if span.name == "POST").span_id
    assert sent.get("tracestate") == headers.get("tracestate")
    systems = {it for span in spans if (it := span.attributes.get("messaging.system"))}
    assert systems == {"aws_sqs"}


def test_one_that_is_not_sampled_is_passed_on_without_a_span(
    moto_engine: AwsEngine, collector: Collector, receiver: HttpReceiver
) -> None:
    unsampled = f"{SAMPLED[:-2]}00"
    with stack.serving(moto_engine, WORKLOADS) as url:
        ask(url, "POST", "/orders", ORDER, traceparent=unsampled, **callback(receiver))
        process_waiting(moto_engine)
    ((_, sent, _),) = receiver.requests
    assert sent["traceparent"] == unsampled
    assert collector.requests == 0


def test_what_is_due_later_than_sqs_can_delay_keeps_its_trace(moto_engine: AwsEngine, collector: Collector) -> None:
    with stack.serving(moto_engine, WORKLOADS) as url:
        ask(url, "POST", "/orders", ORDER, traceparent=SAMPLED, tracestate="shop=a1", delay="86400")
        (schedule,) = moto_engine.scheduled()
        assert "MessageSystemAttributes" not in json.loads(schedule["Target"]["Input"])
        moto_engine.fire()
        process_waiting(moto_engine)
    spans = collector.spans
    processed = next(span for span in spans if span.name == "process orders")
    assert path_to(processed, spans) == ["POST /orders", "send orders", "process orders"]
    assert processed.state == "shop=a1"


def test_a_collector_that_hangs_keeps_a_client_waiting_once_and_for_a_moment(
    moto_engine: AwsEngine, collector: Collector
) -> None:
    collector.silent.set()
    with stack.serving(moto_engine, WORKLOADS) as url:
        for _ in range(5):
            assert ask(url, "POST", "/orders", ORDER, traceparent=SAMPLED)[0] == 202
    assert collector.requests == 1


def ask(url: str, method: str, path: str, entry: Any, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        fields = {"content-type": "application/json", **headers}
        connection.request(method, path, json.dumps(entry), fields)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def callback(receiver: HttpReceiver) -> dict[str, str]:
    return {"callback-url": f"http://127.0.0.1:{receiver.port}/hooks"}


def process_waiting(engine: AwsEngine) -> None:
    """As the event source mapping does, until nothing waits."""
    table = DynamoTable(engine.dynamodb, engine.table_name)
    connected = (engine.queue, table, WORKLOADS, Policy(5))
    with mock.patch.object(functions.processor, "connect", return_value=connected):
        while deliveries := engine.queue.receive(10, 60):
            batch = [events.sqs_record(it.message, it.receive_count, it.receipt) for it in deliveries]
            functions.processor.handler(events.sqs_event(batch), api_gateway.Context())
            engine.queue.delete(deliveries)
