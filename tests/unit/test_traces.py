"""A trace's context: W3C's and X-Ray's headers as OpenTelemetry's propagators read them, and nothing that is none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace as api
from opentelemetry.propagators.aws import AwsXRayPropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from decoupled.core import limits, traces
from decoupled.core.workload import Message
from decoupled.engines.aws import sqs_format

W3C, XRAY = TraceContextTextMapPropagator(), AwsXRayPropagator()

IDS = st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
KEYS = st.from_regex(r"[a-z][a-z0-9_*/-]{0,20}|[a-z0-9][a-z0-9_*/-]{0,10}@[a-z][a-z0-9_*/-]{0,13}", fullmatch=True)
VALUES = st.from_regex(r"[ !-+\--<>-~]{0,20}[!-+\--<>-~]", fullmatch=True)
STATES = st.dictionaries(KEYS, VALUES, max_size=8).map(lambda it: ",".join(f"{key}={it[key]}" for key in it))
Context = tuple[int, int, bool]


def of(ids: Context, state: str = "") -> str:
    return traces.context(f"{ids[0]:032x}", f"{ids[1]:016x}", ids[2], state)


def read(propagator: TraceContextTextMapPropagator | AwsXRayPropagator, headers: Mapping[str, str]) -> str:
    """What the propagator takes headers for, as a message carries it."""
    context = api.get_current_span(propagator.extract(headers)).get_span_context()
    if not context.is_valid:
        return ""
    return of((context.trace_id, context.span_id, context.trace_flags.sampled), context.trace_state.to_header())


@given(ids=IDS, state=STATES)
def test_w3c_headers_say_to_others_what_they_say_to_us(ids: Context, state: str) -> None:
    trace = of(ids, state)
    assert traces.kept(trace) == traces.carried(traces.headers(trace)) == trace
    assert read(W3C, traces.headers(trace)) == trace
    assert traces.sampled(trace) == ids[2]
    assert (int(traces.trace_id(trace), 16), int(traces.span_id(trace), 16)) == ids[:2]


@given(ids=IDS)
def test_xray_s_header_says_to_others_what_it_says_to_us(ids: Context) -> None:
    trace = of(ids)
    header = traces.xray(trace)
    assert traces.of_xray(header) == trace
    assert read(XRAY, {"X-Amzn-Trace-Id": header}) == trace
    injected: dict[str, str] = {}
    XRAY.inject(injected, XRAY.extract({"X-Amzn-Trace-Id": header}))
    assert injected["X-Amzn-Trace-Id"] == header


@given(header=st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{2}(-[!-~]{0,5})?", fullmatch=True))
def test_what_is_taken_for_a_context_others_take_for_the_same(header: str) -> None:
    taken = traces.carried({"traceparent": header})
    assert taken in ("", read(W3C, {"traceparent": header}))


@given(
    header=st.text(max_size=100)
    | st.from_regex(r"00-[0-9a-fA-F]{30,34}-[0-9a-fA-F]{16}-[0-9a-f]{1,3}", fullmatch=True),
    state=st.text(max_size=100),
)
def test_nothing_but_a_context_gets_through(header: str, state: str) -> None:
    for found in (
        traces.carried({"traceparent": header, "tracestate": state}),
        traces.carried({"x-amzn-trace-id": header}),
        traces.kept(header),
    ):
        assert found == "" or re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]( [!-~][ -~]*)?", found, re.ASCII)
        assert len(found) <= limits.MAX_TRACE_CHARS


PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (PARENT, PARENT),
        (f" {PARENT}\t", PARENT),
        (f"{PARENT[:-2]}03", PARENT),  # flags that are not known are not passed on
        (f"cc-{PARENT[3:]}", PARENT),  # a later version begins as this one,
        (f"cc-{PARENT[3:]}-what-follows", PARENT),
        (f"cc-{PARENT[3:]}.what-follows", ""),  # and goes on behind a dash
        (f"ff-{PARENT[3:]}", ""),
        (f"{PARENT}-what-follows", ""),
        (f"{PARENT},{PARENT}", ""),
        (PARENT.upper(), ""),
        (PARENT.replace("4", "\uff14"), ""),  # a digit, to some
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01", ""),
        ("", ""),
    ],
)
def test_traceparent(header: str, taken: str) -> None:
    assert traces.carried({"traceparent": header}) == taken


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=1,b=2", "a=1,b=2"),
        ("a=1, ,\tb=2,", "a=1,b=2"),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a=1,b", ""),
        ("a=\u00e9", ""),
        (",".join(f"k{it}=1" for it in range(32)), ",".join(f"k{it}=1" for it in range(32))),
        (",".join(f"k{it}=1" for it in range(33)), ""),
        (f"a={'x' * limits.MAX_TRACESTATE_CHARS}", ""),
    ],
)
def test_tracestate(state: str, kept: str) -> None:
    expected = f"{PARENT} {kept}" if kept else PARENT
    assert traces.carried({"traceparent": PARENT, "tracestate": state}) == expected


ROOT = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (f"{ROOT};Parent=00f067aa0ba902b7;Sampled=1", PARENT),
        (f"Sampled=1; Parent=00f067aa0ba902b7 ;{ROOT};Lineage=a:0", PARENT),
        (f"Self=1-67891234-12456789abcdef012345678;{ROOT};Parent=00f067aa0ba902b7;Sampled=1", PARENT),
        (ROOT, ""),  # as API Gateway makes it
        (f"{ROOT};Parent=00f067aa0ba902b7", ""),
        (f"{ROOT};Parent=00f067aa0ba902b7;Sampled=?", ""),
        (f"{ROOT};Parent={'0' * 16};Sampled=1", ""),
        ("Root=1-4bf92f35-77b3;Parent=00f067aa0ba902b7;Sampled=1", ""),
        ("", ""),
    ],
)
def test_xray(header: str, taken: str) -> None:
    assert traces.carried({"x-amzn-trace-id": header}) == taken


def test_what_a_sampler_adds_beyond_what_a_message_carries_is_left_out() -> None:
    """Else nobody could import what was exported with it."""
    state = f"a={'x' * 254},b={'y' * 253}"
    assert len(state) == limits.MAX_TRACESTATE_CHARS
    assert traces.state(traces.context("1" * 32, "2" * 16, True, state)) == state
    for more in (f"{state}y", "a=1\nb: 2", "\u00e9"):
        assert traces.context("1" * 32, "2" * 16, True, more) == traces.context("1" * 32, "2" * 16, True)


def test_w3c_counts_where_both_are_there() -> None:
    other = f"{ROOT.replace('4bf9', '5bf9')};Parent=00f067aa0ba902b7;Sampled=0"
    assert traces.carried({"traceparent": PARENT, "x-amzn-trace-id": other}) == PARENT
    assert traces.carried({"traceparent": "nonsense", "x-amzn-trace-id": other}) == ""


@given(ids=IDS, state=STATES)
def test_a_schedule_and_sqs_carry_it_each_in_its_own_way(ids: Context, state: str) -> None:
    sent = Message("0123456789-abcdef", "orders", "{}", "ana", 1, trace=of(ids, state))
    entry, later = sqs_format.entry(sent), sqs_format.scheduled(sent)
    assert "MessageSystemAttributes" not in json.loads(json.dumps(later))
    for each in (entry, later):
        system = {name: it["StringValue"] for name, it in each.get("MessageSystemAttributes", {}).items()}
        received = {name: it["StringValue"] for name, it in each["MessageAttributes"].items()}
        system["MessageGroupId"] = each["MessageGroupId"]
        assert sqs_format.message_of("sqs-id", each["MessageBody"], received, system) == sent
