"""Names of spans as OpenTelemetry's conventions have them, who is sampled, and when there are traces at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating.attributes import (
    messaging_attributes,
    process_attributes,
    service_attributes,
)
from opentelemetry.semconv.attributes import (
    error_attributes,
    exception_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
)
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

from decoupled.core import outcomes, semconv, tracing
from decoupled.core.outcomes import Commit, Failure
from decoupled.core.workload import Message
from decoupled.telemetry.process import asked, unusable
from decoupled.telemetry.sampling import BoundForClients
from decoupled.telemetry.spans import OpenTelemetry

THEIRS = (
    error_attributes,
    exception_attributes,
    http_attributes,
    messaging_attributes,
    network_attributes,
    process_attributes,
    server_attributes,
    service_attributes,
    url_attributes,
)
OURS = {name: value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}


def test_names_are_those_of_the_conventions_or_say_that_they_are_ours() -> None:
    assert stable
    known = {name: value for module in THEIRS for name, value in vars(module).items() if name.isupper()}
    for name, value in OURS.items():
        if "." in value and not value.startswith(("decoupled.", "https:", "1.")):
            assert known[name] == value
    assert messaging_attributes.MessagingSystemValues.AWS_SQS.value == semconv.MESSAGING_SYSTEM_SQS
    operations = {it.value for it in messaging_attributes.MessagingOperationTypeValues}
    assert {"send", "process"} <= operations


def test_their_version_is_one_that_there_is() -> None:
    assert semconv.SCHEMA_URL in {schema.value for schema in Schemas}


# --- who is sampled


def parent(trace_id: int = 7, sampled: bool = True) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, 9, True, flags)), Context())


def taken(sampler: Sampler, context: Context, kind: SpanKind = SpanKind.SERVER, trace_id: int = 7) -> bool:
    return sampler.should_sample(context, trace_id, "POST", kind).decision is Decision.RECORD_AND_SAMPLE


def test_clients_have_so_many_a_second_sampled_and_then_the_sampler_decides() -> None:
    now = [0.0]
    sampler = BoundForClients(ParentBased(ALWAYS_OFF), 3, lambda: now[0])
    assert [taken(sampler, parent()) for _ in range(6)] == [True] * 3 + [False] * 3
    now[0] = 1.0
    assert [taken(sampler, parent()) for _ in range(6)] == [True] * 3 + [False] * 3
    now[0] = 1_000.0
    assert [taken(sampler, parent()) for _ in range(6)] == [True] * 3 + [False] * 3


def test_no_rate_is_none_and_a_small_one_still_one() -> None:
    assert not taken(BoundForClients(ParentBased(ALWAYS_OFF), 0, lambda: 0.0), parent())
    assert taken(BoundForClients(ParentBased(ALWAYS_OFF), 0.1, lambda: 0.0), parent())


def test_an_id_that_a_ratio_takes_buys_no_more_than_a_flag_does() -> None:
    sampler = BoundForClients(TraceIdRatioBased(0.000001), 2, lambda: 0.0)
    assert sum(taken(sampler, parent(trace_id=1, sampled=False), trace_id=1) for _ in range(100)) == 2


def test_those_without_a_context_and_messages_are_not_bounded() -> None:
    sampler = BoundForClients(ParentBased(ALWAYS_ON), 0, lambda: 0.0)
    assert all(taken(sampler, Context()) for _ in range(20))
    assert all(taken(sampler, parent(), SpanKind.CONSUMER) for _ in range(20))
    assert not taken(sampler, parent(sampled=False))


# --- when there are traces


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_SERVICE_NAME": "shop"}, False),
    ],
)
def test_the_environment_asks_for_traces(environment: dict[str, str], on: bool) -> None:
    assert asked(environment) == on


def test_what_the_environment_asks_for_may_not_be_here() -> None:
    assert unusable({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}) is None
    assert "console" in (unusable({"OTEL_TRACES_EXPORTER": "console"}) or "")
    assert "grpc" in (unusable({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}) or "")


# --- a library's trouble --------------------------------------------------------

SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenTelemetry]:
    tracer = OpenTelemetry("front", "decoupled", {})
    monkeypatch.setattr(tracing, "active", tracer)
    yield tracer
    tracer.stop(1.0)


def on_its_way(decided: outcomes.Decision) -> tuple[Message, outcomes.Decision]:
    """A message from its request to its commit, as each process has it decided."""
    message = Message("1", "orders", "{}", "anonymous", 0)
    span, passed = tracing.request("POST", "/orders", "http", {"traceparent": SAMPLED})
    if span is None:
        sent = tracing.stamped([message], passed)[0]
    else:
        sending, (sent,) = tracing.sending(span, "POST", [message])
        tracing.sent(sending, "the disk is full")
        tracing.responded(span, 500)
    with tracing.Calling("POST", {}) as calling:
        calling.answered(500)
    decision = tracing.traced(msgspec.structs.replace(sent, trace=sent.trace or SAMPLED), lambda _: decided)
    tracing.committed([SAMPLED], "messages", 1)
    return sent, decision


@pytest.mark.parametrize(
    ("where", "name"),
    [(BoundForClients, "should_sample"), (BatchSpanProcessor, "on_start"), (BatchSpanProcessor, "on_end")],
)
@pytest.mark.parametrize("decided", [Commit("{}"), Failure("failed", "KeyError", "x", traceback="y")])
def test_what_the_library_raises_costs_spans_and_no_message(
    tracer: OpenTelemetry, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, decided: outcomes.Decision
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a plug-in's fault")

    monkeypatch.setattr(where, name, fail)
    sent, decision = on_its_way(decided)
    assert sent.id == "1"
    assert type(decision) is type(decided)
    assert tracer.system == "decoupled"
