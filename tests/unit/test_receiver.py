"""The front: what it answers, and what it puts on the queue, for events as API Gateway sends them."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.identifiers import derived_id
from decoupled.core.outcomes import REUSED, NotSent, Quota
from decoupled.core.workload import Effects, Message, Workload, decoder
from decoupled.pipeline import receiver
from decoupled.pipeline.call import Call, EventResponse, call_of
from decoupled.pipeline.loading import load
from tests.support.almost_orders import JSON, almost_orders
from tests.support.events import ORDER, http_event, post, receive_event
from tests.support.model_engine import ManualClock, ModelQueue

WORKLOADS = load(["orders"])


class Reading(msgspec.Struct):
    device: str
    at: int


class Notes(msgspec.Struct):
    data: Any


READINGS = {
    "readings": Workload(
        "readings",
        Reading,
        lambda entry, message: Effects({}),
        natural_key=lambda reading: f"{reading.device}@{reading.at}",
    )
}


class LossyQueue(ModelQueue):
    """A queue that refuses messages, for a reason that a test gives."""

    def __init__(self, refuse: Callable[[int], NotSent | None]) -> None:
        super().__init__(ManualClock())
        self.refuse = refuse

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        outcomes = [self.refuse(place) for place in range(len(messages))]
        super().send([m for m, outcome in zip(messages, outcomes, strict=True) if outcome is None])
        return outcomes


def handle(
    event: dict[str, Any], queue: ModelQueue | None = None, workloads: Any = WORKLOADS
) -> tuple[EventResponse, Any]:
    response = receive_event(event, ModelQueue(ManualClock()) if queue is None else queue, workloads)
    return response, json.loads(response["body"])


def sent(queue: ModelQueue) -> list[Message]:
    return [row.message for row in queue.rows]


# --- accepted -----------------------------------------------------------------


def test_an_order_is_on_the_queue_when_it_is_answered_202() -> None:
    queue = ModelQueue(ManualClock())
    body = json.dumps(ORDER)
    response, answer = handle(post(body), queue)
    (message,) = sent(queue)
    assert response["statusCode"] == 202
    assert answer == {"id": message.id, "status_url": f"/orders/{message.id}"}
    assert response["headers"] == {"content-type": "application/json", "location": f"/orders/{message.id}"}
    assert (message.workload, message.body, message.caller) == ("orders", body, "anonymous")
    assert len(message.id) <= limits.MAX_ID_CHARS
    assert message.id.isalnum()


def test_a_body_in_base64_is_taken_as_its_bytes() -> None:
    queue = ModelQueue(ManualClock())
    order = ORDER | {"customer": {"email": "zoe@example.com", "name": "Zoë 雪 🛒"}}
    text = json.dumps(order, ensure_ascii=False)
    response, _ = handle(post(text.encode()), queue)
    assert response["statusCode"] == 202
    assert sent(queue)[0].body == text


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/order+json",
        'application/json ;a="b, c;\\"d" ; e=f;;',
        " application/vnd.shop.order+json\t",
    ],
)
def test_json_media_types_are_taken(media_type: str) -> None:
    assert handle(post(ORDER, headers={"content-type": media_type}))[0]["statusCode"] == 202


def test_two_orders_without_a_key_are_two_orders() -> None:
    queue = ModelQueue(ManualClock())
    handle(post(ORDER), queue)
    handle(post(ORDER), queue)
    assert len({message.id for message in sent(queue)}) == 2


def test_new_ids_grow_with_time_and_place_in_the_batch() -> None:
    first = receiver.admit(call_of(post([ORDER] * 1000)), WORKLOADS, now_ms=1_795_000_000_000).messages
    later = receiver.admit(call_of(post(ORDER)), WORKLOADS, now_ms=1_795_000_000_001).messages
    ids = [message.id for message in [*first, *later]]
    assert ids == sorted(ids)


# --- later --------------------------------------------------------------------


def test_a_delay_says_after_how_many_seconds_a_request_s_messages_are_due() -> None:
    for body in (ORDER, [ORDER, ORDER]):
        messages = receiver.admit(call_of(post(body, headers={"delay": "3600"})), WORKLOADS, now_ms=1_000).messages
        assert {(message.accepted_at, message.due_at) for message in messages} == {(1_000, 3_601_000)}
    for none in ({}, {"delay": "0"}):
        assert receiver.admit(call_of(post(ORDER, headers=none)), WORKLOADS, now_ms=1_000).messages[0].due_at is None


@pytest.mark.parametrize("delay", ["", " ", "-1", "1.5", "1e3", "soon", "31622401", "9" * 5_000, "60, 60", "\u0661"])
def test_what_is_no_delay_is_refused_and_named(delay: str) -> None:
    response, problem = handle(post(ORDER, headers={"delay": delay}))
    assert response["statusCode"] == 400
    assert problem["detail"].startswith("Delay is a whole number of seconds, 0 to 31622400; this was ")
    assert len(problem["detail"]) < 200


def test_an_entry_that_is_due_late_fits_a_schedule() -> None:
    text = json.dumps("x" * limits.MAX_LATER_ENTRY_BYTES)
    workloads = {"notes": Workload("notes", Notes, lambda entry, message: Effects({}))}

    def status(delay: str, body: str) -> int:
        event = post(body, workload="notes", headers={"delay": delay})
        return handle(event, workloads=workloads)[0]["statusCode"]

    assert status("900", f'{{"data": {text}}}') == 202
    assert status("901", f'{{"data": {text}}}') == 413
    assert status("901", f'[{{"data": {text}}}]') == 413
    assert status("901", '{"data": 1}') == 202


# --- who may send --------------------------------------------------------------


def test_an_internal_workload_has_no_route_and_is_named_to_nobody() -> None:
    inside = Workload("inside", Notes, lambda entry, message: Effects({}), internal=True)
    unknown, inner = (
        handle(post({"data": 1}, workload=it), workloads={**WORKLOADS, "inside": inside})
        for it in ("unknown", "inside")
    )
    assert unknown[0]["statusCode"] == inner[0]["statusCode"] == 404
    assert inner[1]["detail"] == unknown[1]["detail"].replace("unknown", "inside")
    assert "these are served: orders." in inner[1]["detail"]


# --- groups -------------------------------------------------------------------


class Text(str):
    """What a library's own kind of text may be."""


def grouped(group: Any) -> Workload:
    return Workload("notes", Notes, lambda entry, message: Effects({}), group=lambda _entry: group)


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("shop", "shop"),
        ("", ""),
        ("a\0b", "a\0b"),
        ("b\xfccher", "b\xfccher"),
        ("\ud800", "?"),
        (Text("shop"), "shop"),
        ("x" * 255, "x" * 255),
    ],
)
def test_the_name_of_a_group_is_plain_text_that_every_store_takes(group: str, name: str) -> None:
    call = call_of(post({"data": 1}, workload="notes"))
    (message,) = receiver.admit(call, {"notes": grouped(group)}, now_ms=0).messages
    assert message.group == name
    assert type(message.group) is str


def test_the_name_of_a_group_that_is_too_long_is_told_by_its_digest() -> None:
    names = {grouped("x" * length).group_of(None, "ana") for length in (256, 257, 1_000_000)}
    assert len(names) == 3
    assert {len(name) for name in names} == {40}


@pytest.mark.parametrize("group", [None, 5, b"shop", ("shop", 1), ["shop"]])
def test_what_is_no_name_of_a_group_never_gets_as_far_as_the_queue(group: Any) -> None:
    queue, workloads = ModelQueue(ManualClock()), {"notes": grouped(group)}
    with pytest.raises(TypeError, match="the group of an entry of 'notes' is text, and not a "):
        receive_event(post([{"data": 1}], workload="notes"), queue, workloads)
    assert not sent(queue)


# --- identity -----------------------------------------------------------------

IAM = {
    "iam": {"accountId": "1234", "userId": "AROA1:session-1", "callerId": "AROA1:session-1", "cognitoIdentity": None}
}
OTHER_SESSION = {"iam": {**IAM["iam"], "userId": "AROA1:session-2"}}
JWT = {"jwt": {"claims": {"iss": "https://idp.example", "sub": "ana"}, "scopes": None}}
OTHER_ISSUER = {"jwt": {"claims": {"iss": "https://other.example", "sub": "ana"}, "scopes": None}}


def id_of(event: dict[str, Any], workloads: Any = WORKLOADS) -> str:
    return receiver.admit(call_of(event), workloads, now_ms=0).messages[0].id


def test_the_same_key_of_the_same_caller_gives_the_same_id() -> None:
    assert id_of(post(ORDER, key='"cart-8417"')) == id_of(post(ORDER, key='"cart-8417"'))
    assert id_of(post(ORDER, key='"cart-8417"')) != id_of(post(ORDER, key='"cart-8418"'))


def test_a_key_in_quotes_and_the_bare_key_are_one_key() -> None:
    assert id_of(post(ORDER, key='"cart-8417"')) == id_of(post(ORDER, key="cart-8417"))
    assert id_of(post(ORDER, key=r'"a\"b\\c"')) == id_of(post(ORDER, key=r'  "a\"b\\c" '))


def test_keys_are_scoped_by_caller() -> None:
    events = [post(ORDER, key='"k"', authorizer=who) for who in (None, IAM, JWT, OTHER_ISSUER)]
    assert len({id_of(event) for event in events}) == 4


def test_sessions_of_one_role_are_one_caller() -> None:
    assert id_of(post(ORDER, key='"k"', authorizer=IAM)) == id_of(post(ORDER, key='"k"', authorizer=OTHER_SESSION))


def test_entries_of_a_batch_under_one_key_have_their_own_ids_that_a_resend_repeats() -> None:
    first, again = (receiver.admit(call_of(post([ORDER] * 3, key='"b"')), WORKLOADS, 0).messages for _ in range(2))
    assert len({message.id for message in first}) == 3
    assert [message.id for message in first] == [message.id for message in again]


READING = {"device": "d-1", "at": 7}


def test_a_natural_key_identifies_under_whatever_key() -> None:
    ids = {id_of(post(READING, workload="readings", key=key), READINGS) for key in (None, '"a"', '"b"')}
    assert len(ids) == 1
    assert id_of(post({"device": "d-1", "at": 8}, workload="readings"), READINGS) not in ids


def test_a_natural_key_is_its_callers_and_nobody_can_take_it_away() -> None:
    events = [post(READING, workload="readings", authorizer=who) for who in (None, IAM, JWT, OTHER_ISSUER)]
    assert len({id_of(event, READINGS) for event in events}) == 4
    again = post({"at": 7, "device": "d-1"}, workload="readings", authorizer=JWT, key='"a"')
    assert id_of(again, READINGS) == id_of(events[2], READINGS)


def test_an_id_made_of_a_natural_key_that_nobody_in_particular_sent_is_that_of_earlier_versions() -> None:
    made_by_0_2 = derived_id("readings", "natural", "d-1@7")
    assert id_of(post(READING, workload="readings"), READINGS) == made_by_0_2


# --- what came under a key ----------------------------------------------------


def digest(entry: str | bytes, key: str | None = '"k"', workload: str = "notes", workloads: Any = None) -> str:
    """Of what is sent as it is."""
    body = entry if isinstance(entry, str) else entry.decode()
    event = post(None, workload=workload, key=key) | {"body": body}
    (message,) = receiver.admit(call_of(event), workloads or NOTES, 0).messages
    return message.digest


NOTES = {"notes": Workload("notes", Notes, lambda entry, message: Effects({}))}


def test_white_space_order_and_escapes_make_no_other_entry() -> None:
    plain = digest('{"data": {"a": 1, "b": ["x", null]}}')
    assert re.fullmatch("[0-9a-f]{24}", plain)
    assert digest('{ "data" : {"b":["\\u0078",null ],"a":1}}\n') == plain
    assert digest('{"data": {"b": ["x", null], "a": 1}}') == plain


@pytest.mark.parametrize(
    "other",
    [
        '{"data": {"a": 2, "b": 1.5}}',
        '{"data": {"a": 1, "b": 1.50}}',
        '{"data": {"a": 1.0, "b": 1.5}}',
        '{"data": {"a": "1", "b": 1.5}}',
        '{"data": {"a": true, "b": 1.5}}',
        '{"data": {"a": 1, "b": "1.5"}}',
        '{"data": {"a": 1, "b": 1.5, "c": null}}',
        '{"data": {"a": 1, "b": [1.5]}}',
        '{"data": {"a": 1, "B": 1.5}}',
        '{"data": {"a": 1, "b": 1.5000000000000000001}}',
        '{"data": {"a": 1, "b": 1.5}, "more": 1}',
    ],
)
def test_every_value_and_each_of_its_digits_counts(other: str) -> None:
    assert digest(other) != digest('{"data": {"a": 1, "b": 1.5}}')


@pytest.mark.parametrize("number", ["9" * 5_000, "1e400", "-0", "1E-9999999", "1e99999999999999999999", "1" * 30])
def test_an_entry_with_any_number_has_a_digest(number: str) -> None:
    class Open(msgspec.Struct):
        data: msgspec.Raw

    workloads = {"open": Workload("open", Open, lambda entry, message: Effects({}))}
    digests = {digest(f'{{"data": {value}}}', workload="open", workloads=workloads) for value in (number, "7")}
    assert len(digests) == 2


def test_a_deployment_that_adds_a_field_changes_no_digest() -> None:
    class More(msgspec.Struct):
        data: Any
        priority: int = 0

    more = {"notes": Workload("notes", More, lambda entry, message: Effects({}))}
    assert digest('{"data": 1}', workloads=more) == digest('{"data": 1}')


def test_what_has_no_key_or_a_natural_one_has_no_digest() -> None:
    assert digest('{"data": 1}', key=None) == ""
    (natural,) = receiver.admit(call_of(post(READING, workload="readings", key='"k"')), READINGS, 0).messages
    assert natural.digest == ""


def test_each_entry_of_a_batch_has_its_own_digest() -> None:
    batch = call_of(post([{"data": 1}, {"data": 2}, {"data": 1}], workload="notes", key='"k"'))
    first, second, third = (message.digest for message in receiver.admit(batch, NOTES, 0).messages)
    assert first == third == digest('{"data":1}') != second


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aZ"\\/é🛒'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_an_entry_that_is_written_anew_has_the_same_digest(value: Any) -> None:
    compact = json.dumps({"data": value}, separators=(",", ":"), ensure_ascii=False)
    assert digest(compact) == digest(json.dumps({"data": value}, indent=1, sort_keys=True))


@pytest.mark.parametrize(
    "key", ["", '""', '"open', 'a"b', '"a";v=1', '"a","b"', "a b", '"naïve"', "naïve", '"a\x01"', "k" * 256, '"\\x"']
)
def test_a_malformed_idempotency_key_is_refused(key: str) -> None:
    queue = ModelQueue(ManualClock())
    response, _ = handle(post(ORDER, key=key), queue)
    assert response["statusCode"] == 400
    assert not queue.rows


# --- refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, ""),
        (400, "{"),
        (400, "two keyboards"),
        (400, '{"customer": NaN}'),
        (400, "{} {}"),
        (400, "\ufeff{}"),
        (400, '{"customer": "\\ud800"}'),  # half of a surrogate pair
        (400, '{"customer": "\ud800"}'),
        (400, b'{"customer": "\xff"}'),
        (400, b'{"customer": "\xed\xa0\x80"}'),
        (400, '{"customer": "a\nb"}'),
        (400, '{"x": ' + "[" * 50_000 + "]" * 50_000 + "}"),
        (400, "[" * 50_000),
        (400, '[{"customer": 1}, nonsense]'),
        (422, "null"),
        (422, '"order"'),
        (422, "17"),
        (422, "{}"),
        (422, '{"customer": 1e999}'),  # JSON, but not a number that Python has
        (422, '{"customer": 1' + "0" * 5000 + "}"),
        (422, "[]"),
        (422, json.dumps([ORDER] * 1001)),
    ],
)
def test_a_bad_body_is_refused_with_a_problem_and_sends_nothing(status: int, body: str | bytes) -> None:
    queue = ModelQueue(ManualClock())
    response, problem = handle(post(body), queue)
    assert (response["statusCode"], problem.get("status")) == (status, status), problem
    assert response["headers"]["content-type"] == "application/problem+json"
    assert not queue.rows


def test_every_bad_field_is_named_by_pointer() -> None:
    order = {
        **ORDER,
        "currency": "DOGE",
        "coupon/~": "FREE",
        "lines": [{"sku": "a b", "quantity": 0, "unit_price": 39.9}, {"sku": "A", "unit_price": "1e3"}],
    }
    del order["shipping_address"]
    _, problem = handle(post(order))
    assert {fault["pointer"] for fault in problem["errors"]} == {
        "#/currency",
        "#/coupon~1~0",
        "#/lines/0/sku",
        "#/lines/0/quantity",
        "#/lines/0/unit_price",
        "#/lines/1/quantity",
        "#/lines/1/unit_price",
        "#/shipping_address",
    }


def test_of_a_repeated_name_the_last_counts_and_both_readers_agree() -> None:
    text = json.dumps(ORDER)[:-1] + ', "currency": "JPY"}'
    _, problem = handle(post(text))
    assert [fault["pointer"] for fault in problem["errors"]] == ["#/lines/0/unit_price"]  # 39.90 yen


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/+json",
        "application/é+json",
        "application/json, application/json",
        "application/json; charset=utf-8, text/html",
        "application/json, text/html; a=b+json",
        "text/html, application/json",
        "application/json; a",
        'application/json; a="b',
        "application/json; a = b",
        "application/json a=b",
        "application/json" + ";   " * 4_000 + "!",
        'application/json; a="' + "\\\\" * 4_000,
    ],
)
def test_what_does_not_say_once_that_it_is_json_is_refused(media_type: str) -> None:
    response, problem = handle(post(ORDER, headers={"content-type": media_type}))
    assert (response["statusCode"], response["headers"]["accept"]) == (415, "application/json")
    assert len(problem["detail"]) < 200


@pytest.mark.parametrize(("coding", "status"), [("gzip", 415), ("identity, br", 415), ("", 202), ("Identity", 202)])
def test_a_coding_that_is_not_undone_here_is_refused(coding: str, status: int) -> None:
    response, _ = handle(post(ORDER, headers={"content-encoding": coding}))
    assert response["statusCode"] == status
    assert (response["headers"].get("accept-encoding") == "identity") == (status == 415)


def test_an_entry_over_its_limit_is_refused_and_one_at_the_limit_is_taken() -> None:
    text = json.dumps(ORDER)
    at_limit = text + " " * (limits.MAX_ENTRY_BYTES - len(text))
    assert handle(post(at_limit))[0]["statusCode"] == 202
    assert handle(post(at_limit + " "))[0]["statusCode"] == 413


@pytest.mark.parametrize(
    ("number", "times", "status"),
    [
        ("1e300", 1_000, 202),
        ("1e300", 1_001, 422),
        ("1.5E-0310", 1_001, 422),
        ("1e+308", 30_000, 422),
        ("1e28", 40_000, 202),
    ],
)
def test_thousands_of_numbers_that_take_long_to_read_are_refused(number: str, times: int, status: int) -> None:
    workloads = {"notes": Workload("notes", Notes, lambda entry, message: Effects({}))}
    body = f'{{"data": [{",".join([number] * times)}]}}'
    assert handle(post(body, workload="notes"), workloads=workloads)[0]["statusCode"] == status


def test_a_request_over_its_limit_is_refused_whole() -> None:
    assert handle(post(" " * (limits.MAX_REQUEST_BYTES + 1)))[0]["statusCode"] == 413


def test_an_answer_does_not_repeat_what_was_sent_at_length() -> None:
    order = {**ORDER, "currency": "X" * 200_000, "z" * 50_000: 1}
    response, problem = handle(post(order))
    assert response["statusCode"] == 422
    assert {fault["pointer"] for fault in problem["errors"]} == {"#/currency", "#"}
    assert len(response["body"]) < 2_000


def test_characters_that_sqs_does_not_take_are_refused_and_their_escapes_are_not() -> None:
    for raw in "\ufffe\uffff":
        order = {**ORDER, "customer": {"email": "ana@example.com", "name": raw}}
        assert handle(post(json.dumps(order, ensure_ascii=False)))[0]["statusCode"] == 422
        assert handle(post(json.dumps(order)))[0]["statusCode"] == 202


def test_an_unknown_workload_is_404_whatever_is_sent() -> None:
    for name in ("nothing", "", "../orders", "ord\udcffers"):
        event = http_event("POST", "/x", {"workload": name}, {}, "nonsense")
        assert handle(event)[0]["statusCode"] == 404


def test_base64_that_is_none_is_refused() -> None:
    for text in ("%%%", "é", "abc"):
        event = post(ORDER) | {"body": text, "isBase64Encoded": True}
        assert handle(event)[0]["statusCode"] == 400


def test_keys_that_emulators_leave_out_or_send_as_null_are_no_error_of_ours() -> None:
    event = post(ORDER)
    event["requestContext"]["authorizer"] = None
    assert handle(event)[0]["statusCode"] == 202
    assert handle(event | {"pathParameters": None})[0]["statusCode"] == 404
    assert handle(event | {"headers": None})[0]["statusCode"] == 415
    assert handle(event | {"body": None})[0]["statusCode"] == 400
    del event["body"], event["isBase64Encoded"]
    assert handle(event)[0]["statusCode"] == 400


# --- batches ------------------------------------------------------------------


def test_each_entry_of_a_batch_is_accepted_or_rejected_on_its_own() -> None:
    queue = ModelQueue(ManualClock())
    too_large = {**ORDER, "customer": {"email": "a@b.c", "name": "x" * limits.MAX_ENTRY_BYTES}}
    response, answer = handle(post([ORDER, {**ORDER, "lines": []}, 17, too_large, ORDER]), queue)
    assert response["statusCode"] == 202
    assert [(entry["index"], entry["id"]) for entry in answer["accepted"]] == [
        (place, message.id) for place, message in zip((0, 4), sent(queue), strict=True)
    ]
    assert [(entry["index"], entry["status"]) for entry in answer["rejected"]] == [(1, 422), (2, 422), (3, 413)]
    assert answer["rejected"][0]["errors"][0]["pointer"] == "#/lines"


def test_a_batch_of_a_thousand_is_taken_and_keeps_its_order() -> None:
    queue = ModelQueue(ManualClock())
    orders = [{**ORDER, "lines": [{"sku": f"S-{n}", "quantity": 1, "unit_price": "1"}]} for n in range(1000)]
    response, answer = handle(post(orders), queue)
    assert response["statusCode"] == 202
    assert [entry["index"] for entry in answer["accepted"]] == list(range(1000))
    assert [json.loads(message.body)["lines"][0]["sku"] for message in sent(queue)] == [f"S-{n}" for n in range(1000)]


def test_a_batch_with_nothing_good_is_no_202() -> None:
    response, answer = handle(post([17, {}]))
    assert response["statusCode"] == 422
    assert (answer["accepted"], [entry["index"] for entry in answer["rejected"]]) == ([], [0, 1])


def test_of_an_array_far_too_long_no_more_is_read_than_is_too_much() -> None:
    body = post("[" + "0," * 1_000_000 + "0]")
    tracemalloc.start()
    try:
        response, problem = handle(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (response["statusCode"], problem["detail"]) == (422, "A batch has 1 to 1000 entries.")
    assert peak < 10 * len(body["body"])


def test_the_faults_named_in_one_answer_are_bounded_and_each_entry_has_one() -> None:
    """Lambda takes an answer of 6 MB, which is JSON in JSON: else what was accepted would be told to nobody."""
    worst = json.dumps({"\\\x01" * 66 + str(n): n for n in range(7)})
    response, answer = handle(post(f"[{json.dumps(ORDER)}{f',{worst}' * 999}]"))
    assert response["statusCode"] == 202
    errors = [entry["errors"] for entry in answer["rejected"]]
    assert len(errors) == 999
    assert min(map(len, errors)) == 1
    assert sum(map(len, errors)) <= limits.MAX_FAULTS_NAMED_IN_ALL + 999
    assert len(json.dumps(response)) < 6_000_000


def test_the_entries_of_a_batch_can_be_admitted_one_by_one() -> None:
    call = call_of(post([ORDER, {}, ORDER], key='"k"'))
    admission = receiver.begin(call, WORKLOADS, 0, lambda: "")
    taken = [(len(admission.messages), len(admission.refused)) for _ in admission.rest]
    assert taken == [(0, 0), (1, 0), (1, 1)]
    assert admission.messages == receiver.admit(call, WORKLOADS, 0).messages


# --- the queue is in trouble --------------------------------------------------

THROTTLED = NotSent("throttled", retry_after_s=3)
LOST = NotSent("no answer in time", unknown=True)


def test_a_queue_that_refuses_is_a_503_that_says_when_to_come_back_and_that_it_is_safe() -> None:
    response, problem = handle(post(ORDER), LossyQueue(lambda _: THROTTLED))
    assert (response["statusCode"], response["headers"]["retry-after"]) == (503, "3")
    assert problem["resend"] == "safe"


@pytest.mark.parametrize(
    ("key", "workload", "resend"),
    [
        (None, "orders", "with_idempotency_key"),
        ('"cart"', "orders", "safe"),
        (None, "readings", "safe"),  # the natural key makes it so
    ],
)
def test_when_nobody_knows_whether_it_was_sent_only_an_identity_makes_a_resend_safe(
    key: str | None, workload: str, resend: str
) -> None:
    entry = ORDER if workload == "orders" else {"device": "d", "at": 1}
    event = post(entry, workload=workload, key=key)
    response, problem = handle(event, LossyQueue(lambda _: LOST), {**WORKLOADS, **READINGS})
    assert (response["statusCode"], problem["resend"]) == (503, resend)


def test_a_send_that_fails_in_part_is_answered_entry_by_entry() -> None:
    queue = LossyQueue(lambda place: THROTTLED if place == 1 else LOST if place == 2 else None)
    response, answer = handle(post([ORDER, {}, ORDER, ORDER, ORDER]), queue)
    assert response["statusCode"] == 202
    assert response["headers"]["retry-after"] == "3"
    assert [entry["index"] for entry in answer["accepted"]] == [0, 4]
    assert [(entry["index"], entry["status"], entry.get("resend")) for entry in answer["rejected"]] == [
        (1, 422, None),
        (2, 503, "safe"),
        (3, 503, "with_idempotency_key"),
    ]
    assert [entry["id"] for entry in answer["accepted"]] == [message.id for message in sent(queue)]


def test_a_batch_of_which_nothing_was_sent_is_a_503() -> None:
    response, answer = handle(post([ORDER, {}]), LossyQueue(lambda _: THROTTLED))
    assert (response["statusCode"], response["headers"]["retry-after"]) == (503, "3")
    assert answer["accepted"] == []


@pytest.mark.parametrize("entry", [ORDER, [ORDER, {}]], ids=["one", "batch"])
def test_who_has_used_up_its_quota_is_told_so_and_how_much_it_is(entry: Any) -> None:
    quota = Quota('"caller";q=5;w=1', '"caller";r=0;t=3')
    refused = NotSent("no more than 5", retry_after_s=3, quota=quota)
    response, answer = handle(post(entry), LossyQueue(lambda _: refused))
    headers = response["headers"]
    assert (response["statusCode"], headers["retry-after"]) == (429, "3")
    assert (headers["ratelimit-policy"], headers["ratelimit"]) == (quota.ratelimit_policy, quota.ratelimit)
    problem = answer["rejected"][0] if "rejected" in answer else answer
    assert (problem["status"], problem["resend"]) == (429, "safe")


def test_a_key_that_came_before_with_another_entry_is_a_422_that_names_it() -> None:
    response, problem = handle(post(ORDER, key='"k"'), LossyQueue(lambda _: REUSED))
    assert response["statusCode"] == 422
    assert "Idempotency-Key" in problem["detail"]
    assert "resend" not in problem


def test_of_a_batch_only_the_entries_whose_key_came_with_another_one_are_refused() -> None:
    queue = LossyQueue(lambda place: REUSED if place == 1 else None)
    response, answer = handle(post([ORDER] * 3, key='"k"'), queue)
    assert response["statusCode"] == 202
    assert [entry["index"] for entry in answer["accepted"]] == [0, 2]
    assert [(entry["index"], entry["status"]) for entry in answer["rejected"]] == [(1, 422)]


def test_what_the_queue_will_never_take_is_a_422() -> None:
    response, problem = handle(post(ORDER), LossyQueue(lambda _: NotSent("invalid characters", transient=False)))
    assert response["statusCode"] == 422
    assert "resend" not in problem


# --- anything at all ----------------------------------------------------------


@given(
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | almost_orders().map(lambda v: json.dumps(v).encode())
)
@example(b'[{"\xf0')
@example(json.dumps([ORDER, ORDER]).encode())
def test_whatever_is_sent_gets_a_true_answer(body: bytes) -> None:
    """202 if and only if something is on the queue, every accepted entry is valid, and every 422 names a field."""
    queue = ModelQueue(ManualClock())
    response, answer = handle(post(body), queue)
    accepted = [answer["id"]] if "id" in answer else [entry["id"] for entry in answer.get("accepted", [])]
    assert accepted == [message.id for message in sent(queue)]
    assert (response["statusCode"] == 202) == bool(accepted)
    assert response["statusCode"] in (202, 400, 413, 422)
    for message in sent(queue):
        decoder(WORKLOADS["orders"].schema).decode(message.body)
    for entry in [answer] if "errors" in answer else answer.get("rejected", []):
        assert all(fault["pointer"].startswith("#") for fault in entry.get("errors", []))


def of_event(event: str, caller: str = "webhook:till", workload: str = "orders", entry: Any = ORDER) -> Message:
    headers = {"content-type": "application/json", "idempotency-key": '"k"'}
    call = Call([workload], "", headers, json.dumps(entry).encode(), caller, event=event)
    (message,) = receiver.admit(call, {**WORKLOADS, **READINGS}, 0).messages
    return message


def test_what_its_sender_calls_an_event_is_its_key_whatever_else_is_said() -> None:
    first, other = of_event("evt_1"), {**ORDER, "currency": "USD"}
    assert of_event("evt_1", entry=other).id == first.id
    assert first.digest == of_event("evt_1", entry=other).digest == ""
    assert len({first.id, of_event("evt_2").id, of_event("evt_1", "webhook:shop").id}) == 3


def test_a_natural_key_goes_before_what_its_sender_calls_an_event() -> None:
    first, second = (of_event(event, workload="readings", entry=READING) for event in ("evt_1", "evt_2"))
    assert first.id == second.id


def test_an_event_that_may_have_been_queued_is_safe_to_send_again() -> None:
    headers = {"content-type": "application/json"}
    call = Call(["orders"], "", headers, json.dumps(ORDER).encode(), "webhook:till", event="evt_1")
    assert receiver.admit(call, WORKLOADS, 0).resend == "safe"
