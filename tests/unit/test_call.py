"""What a request says, taken in by the gateway of one machine and by API Gateway: the event of format 2.0 that it is
there, and that both come to the same call."""

from __future__ import annotations

import base64
import calendar
import json
import re
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import functions.receiver
import functions.status
from decoupled.core.outcomes import Record
from decoupled.core.problem import Problem
from decoupled.core.signed_ids import keys_of
from decoupled.core.workload import ANONYMOUS
from decoupled.pipeline import call
from decoupled.pipeline.call import Call
from decoupled.pipeline.issued import Issued
from decoupled.pipeline.loading import load
from decoupled.server.http import gateway
from decoupled.server.http.request import Request
from tests.support import events
from tests.support.api_gateway import to_event
from tests.support.model_engine import ManualClock, ModelQueue, ModelTable
from tests.support.wire import Found

ENTRY = b'{"account": 1, "amount": 1}'


def parsed(method: str, target: str | bytes, body: bytes = b"", *headers: str | bytes) -> Request:
    """A request as it is when it was read."""
    where = target.encode() if isinstance(target, str) else target
    lines = [b"%s %s HTTP/1.1" % (method.encode(), where), b"host: shop.example.com"]
    lines += [header.encode() if isinstance(header, str) else header for header in headers]
    lines += [b"content-length: %d" % len(body)] if body else []
    found = Found()
    found.reader.feed(b"\r\n".join([*lines, b"", body]))
    assert not found.problems
    (request,) = found.requests
    request.client = "192.0.2.7"
    return request


def event_of(method: str, target: str, body: bytes = b"", *headers: str, now_ms: int = 1) -> dict[str, Any]:
    return to_event(parsed(method, target, body, *headers), now_ms)


# --- the event ----------------------------------------------------------------


def test_a_post_becomes_an_event_of_format_2_0() -> None:
    now_ms = time.time_ns() // 1_000_000
    headers = ("content-type: application/json", "user-agent: till/1", "X-Shop: 9")
    event = event_of("POST", "/ledger", ENTRY, *headers, now_ms=now_ms)
    context = event["requestContext"]
    assert set(event) == {
        "version",
        "routeKey",
        "rawPath",
        "rawQueryString",
        "headers",
        "pathParameters",
        "requestContext",
        "body",
        "isBase64Encoded",
    }
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "POST /{workload}", "/ledger")
    assert event["rawQueryString"] == ""
    assert event["pathParameters"] == {"workload": "ledger"}
    assert (event["body"], event["isBase64Encoded"]) == (ENTRY.decode(), False)
    assert event["headers"]["x-shop"] == "9"
    assert event["headers"]["content-length"] == str(len(ENTRY))
    assert set(context) == {
        "accountId",
        "apiId",
        "domainName",
        "domainPrefix",
        "http",
        "requestId",
        "routeKey",
        "stage",
        "time",
        "timeEpoch",
    }
    assert context["http"] == {
        "method": "POST",
        "path": "/ledger",
        "protocol": "HTTP/1.1",
        "sourceIp": "192.0.2.7",
        "userAgent": "till/1",
    }
    assert (context["routeKey"], context["stage"]) == ("POST /{workload}", "$default")
    assert context["timeEpoch"] == now_ms
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])
    at = time.strptime(context["time"], "%d/%b/%Y:%H:%M:%S +0000")
    assert calendar.timegm(at) == context["timeEpoch"] // 1000


def test_every_request_has_an_id_of_its_own() -> None:
    ids = [event_of("GET", f"/ledger/{number}")["requestContext"]["requestId"] for number in range(3)]
    assert len(set(ids)) == 3


def test_a_get_has_no_body_and_no_key_for_what_it_does_not_have() -> None:
    event = event_of("GET", "/ledger/some-id")
    assert event["routeKey"] == "GET /{workload}/{id}"
    assert event["pathParameters"] == {"workload": "ledger", "id": "some-id"}
    for absent in ("body", "cookies", "queryStringParameters", "stageVariables"):
        assert absent not in event
    event = event_of("GET", "/ledger/accounts/1")
    assert event["routeKey"] == "GET /{workload}/{collection}/{key}"
    assert event["pathParameters"] == {"workload": "ledger", "collection": "accounts", "key": "1"}


def test_repeated_headers_are_joined_by_commas_and_cookies_stand_apart() -> None:
    event = event_of("POST", "/ledger", ENTRY, "X-Tag: a", "x-tag: b", "Cookie: one=1; two=2", "cookie: three=3")
    assert event["headers"]["x-tag"] == "a,b"
    assert event["cookies"] == ["one=1", "two=2", "three=3"]
    assert [name for name in event["headers"] if name != name.lower()] == []
    assert "cookie" not in event["headers"]


def test_the_query_string_is_given_raw_and_decoded() -> None:
    event = event_of("GET", "/ledger/x?b=2&a=1%20%2B&b=3&empty=&flag&z=%C3%A9+e")
    assert event["rawQueryString"] == "b=2&a=1%20%2B&b=3&empty=&flag&z=%C3%A9+e"
    assert event["queryStringParameters"] == {"b": "2,3", "a": "1 +", "empty": "", "flag": "", "z": "é e"}
    assert event["rawPath"] == "/ledger/x"


@pytest.mark.parametrize(
    ("content_type", "is_text"),
    [
        ("text/plain", True),
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("application/xml", True),
        ("application/javascript", True),
        ("application/problem+json", False),
        ("application/jsonlines", False),
        ("application/json-patch+json", False),
        ("application/json ; charset=utf-8", True),
        ("application/x-www-form-urlencoded", False),
        ("application/octet-stream", False),
        (None, False),
    ],
)
def test_only_text_types_are_handed_over_as_text(content_type: str | None, is_text: bool) -> None:
    event = event_of("POST", "/ledger", ENTRY, *([] if content_type is None else [f"content-type: {content_type}"]))
    assert event["isBase64Encoded"] is not is_text
    assert (event["body"].encode() if is_text else base64.b64decode(event["body"])) == ENTRY


# --- the call -----------------------------------------------------------------


def test_a_call_has_what_the_request_says_as_it_came() -> None:
    request = parsed("POST", "/ledger?a=%20", b"\xff\x00", "X-Tag: a", "x-tag: b", "cookie: one=1")
    headers = {"host": "shop.example.com", "x-tag": "a,b", "content-length": "2"}
    assert gateway.call_of(request) == Call(["ledger"], "a=%20", headers, b"\xff\x00", ANONYMOUS)
    assert gateway.call_of(parsed("HEAD", "/a/%C3%A9%20")).path == ["a", "é "]
    assert gateway.call_of(parsed("GET", "/a/b/c")).path == ["a", "b", "c"]


ODD_PARTS = [b"orders", b"..", b"%zz", b"a+b", b"%c3%A9"]
PARTS = st.sampled_from(ODD_PARTS) | st.binary(min_size=1, max_size=8).map(lambda part: quote(part, safe="").encode())
HOSTS = ("x", "shop.example.com:8080", "[::1]", "")
TYPES = (
    "text/plain",
    "text/html; charset=latin-1",
    "application/json",
    "Application/JSON",
    "application/xml",
    "application/order+json",
    "application/octet-stream",
    "multipart/form-data; boundary=x",
)
HEADERS = st.lists(
    st.sampled_from(["cookie: a=1; b=2", "cookie: c=3", "x-tag: a", "X-Tag: b", "accept: */*"])
    | st.sampled_from(TYPES).map("content-type: {}".format)
    | st.binary(max_size=8).map(lambda value: b"x-raw: " + re.sub(rb"[\x00-\x1f\x7f]", b"", value)),
    max_size=6,
)
BODIES = st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    parts = draw(st.lists(PARTS, min_size=1, max_size=3))
    target = b"".join(b"/" + part for part in parts)
    if draw(st.booleans()):
        target += b"?" + draw(st.text("ab=&+%20C3A9;,", max_size=20)).encode()
    method = "POST" if len(parts) == 1 else draw(st.sampled_from(["GET", "HEAD"]))
    request = parsed(method, target, draw(BODIES), *draw(HEADERS))
    request.headers["host"] = draw(st.sampled_from(HOSTS))
    return request


@given(requests())
def test_a_request_comes_to_the_call_that_its_event_is_on_aws(request: Request) -> None:
    try:
        ours = gateway.call_of(request)
    except Problem:
        assert b"%2F" in request.target  # a slash that was encoded makes it another path
        return
    event = json.loads(json.dumps(to_event(request)))  # as Lambda gets it
    assert call.call_of(event) == ours


def test_an_event_without_what_is_optional_is_a_call_of_nothing() -> None:
    for event in ({}, {"pathParameters": None, "headers": None, "body": None, "requestContext": None}):
        assert call.call_of(event) == Call([], "", {}, b"")


def test_a_body_that_is_not_the_base64_it_says_it_is_is_a_problem_and_no_failure() -> None:
    response = call.answered({"body": "e30", "isBase64Encoded": True}, lambda _: pytest.fail("there is no call"))
    assert (response["statusCode"], response["headers"]["content-type"]) == (400, "application/problem+json")


def test_the_functions_answer_events_and_bad_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, table, workloads = ModelQueue(ManualClock()), ModelTable(), load(["orders"])
    monkeypatch.setattr(functions.receiver, "connect", lambda: (queue, workloads, Issued(keys_of(""))))
    monkeypatch.setattr(functions.status, "connect", lambda: (table, workloads, Issued(keys_of(""))))
    accepted = functions.receiver.handler(events.post(events.ORDER), None)
    (sent,) = [row.message for row in queue.rows]
    assert (accepted["statusCode"], accepted["headers"]["location"]) == (202, f"/orders/{sent.id}")
    assert functions.receiver.handler(events.post("{}", workload="parcels"), None)["statusCode"] == 404
    table.records[sent.id] = Record(sent.id, "orders", "processed", 0, result='{"total":"79.80"}')
    shown = functions.status.handler(events.get("orders", sent.id), None)
    assert (shown["statusCode"], json.loads(shown["body"])["result"]) == (200, {"total": "79.80"})
    assert functions.status.handler(events.get("orders", "nothing"), None)["statusCode"] == 404


def test_two_callers_of_the_functions_with_one_key_have_two_orders_and_each_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue, table, workloads = ModelQueue(ManualClock()), ModelTable(), load(["orders"])
    monkeypatch.setattr(functions.receiver, "connect", lambda: (queue, workloads, Issued(keys_of(""))))
    monkeypatch.setattr(functions.status, "connect", lambda: (table, workloads, Issued(keys_of(""))))
    callers = [events.iam("AIDAANA"), events.jwt("ben")]
    for who in callers:
        answer = functions.receiver.handler(events.post(events.ORDER, key="1001", authorizer=who), None)
        assert answer["statusCode"] == 202
    sent = [row.message for row in queue.rows]
    for message in sent:
        table.records[message.id] = Record(message.id, "orders", "processed", 0, caller=message.caller, result="{}")
    asked = [[events.get("orders", message.id, authorizer=who) for message in sent] for who in callers]
    seen = [[functions.status.handler(event, None)["statusCode"] for event in events_] for events_ in asked]
    assert seen == [[200, 404], [404, 200]]


@pytest.mark.parametrize(
    ("operators", "authorizer", "status"),
    [
        ("jwt:https://issuer.example#ops", events.jwt("ops"), 200),
        ("iam:123456789012:AIDABEN,jwt:https://issuer.example#ops", events.iam("AIDABEN"), 200),
        ("jwt:https://issuer.example#ops", events.jwt("op"), 404),
        ("jwt:https://issuer.example#ops", events.iam("AIDABEN"), 404),
        ("", events.jwt("ops"), 404),
    ],
)
def test_the_functions_show_everything_to_operators(
    operators: str, authorizer: dict[str, Any], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record("m-1", "orders", "queued", 0, caller="iam:123456789012:AIDAANA")
    table, workloads = ModelTable(), load(["orders"])
    table.records["m-1"] = record
    monkeypatch.setattr(functions.status, "connect", lambda: (table, workloads, Issued(keys_of(""))))
    monkeypatch.setattr(functions.status, "operators", functions.status.operators.__wrapped__)  # asked anew
    monkeypatch.setenv("OPERATORS", operators)
    event = events.get("orders", "m-1", authorizer=authorizer)
    assert functions.status.handler(event, None)["statusCode"] == status
