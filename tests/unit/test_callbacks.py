"""Callback-Url at the door: what is taken with a message, and what is refused before anything is accepted."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from decoupled.core import callbacks, limits
from decoupled.core.callbacks import callback, with_callback
from decoupled.core.effects import encode
from decoupled.core.identifiers import derived_id
from decoupled.core.outcomes import Commit, Reject
from decoupled.core.problem import Problem
from decoupled.core.workload import Effects, Emit, Message, Workload
from decoupled.pipeline.call import call_of
from decoupled.pipeline.loading import load
from decoupled.pipeline.receiver import admit
from tests.support.events import ORDER, post, receive_event
from tests.support.model_engine import ManualClock, ModelQueue

URL = "https://shop.example/hooks"
WORKLOADS = load(["orders", "registrations", "notifications"])
MAIL = {"to": [{"kind": "email", "address": "a@example.com"}], "type": "a", "subject": "s", "text": "t"}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    monkeypatch.setenv("WEBHOOK_TRUSTED_HOSTS", "trusted.internal,10.0.0.7")


def send(
    url: str, entry: Any = ORDER, route: str = "orders", workloads: Any = WORKLOADS
) -> tuple[int, Any, list[Message]]:
    """The status, the answer, and what is on the queue."""
    queue = ModelQueue(ManualClock())
    event = post(entry, workload=route)
    event["headers"] |= {"callback-url": url}
    response = receive_event(event, queue, workloads)
    return response["statusCode"], json.loads(response["body"]), [row.message for row in queue.rows]


def refused(url: str, **more: Any) -> str:
    status, problem, sent = send(url, **more)
    assert (status, sent) == (400, [])
    detail: str = problem["detail"]
    assert detail.startswith("Callback-Url")
    return detail


# --- taken ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        URL, "https://shop.example:8443/a,b?c=%20&d=[1]", "https://SHOP.example", "https://1.1.1.1/", "https://a,http.example/",
        "https://[2606:4700::1111]/", "http://trusted.internal/x", "https://trusted.internal/", "http://10.0.0.7:9000/",
        "https://shop.example/" + "x" * (limits.MAX_CALLBACK_BYTES - len("https://shop.example/")),
    ],
)  # fmt: skip
def test_a_message_takes_its_callback_along(url: str) -> None:
    status, _, (message,) = send(url)
    assert (status, message.callback) == (202, url)


def test_a_batch_has_one_for_each_of_its_entries() -> None:
    status, _, sent = send(URL, [ORDER, {"bad": 1}, ORDER])
    assert (status, [message.callback for message in sent]) == (202, [URL] * 2)


def test_whoever_names_none_has_none() -> None:
    queue = ModelQueue(ManualClock())
    receive_event(post(ORDER), queue, WORKLOADS)
    assert queue.rows[0].message.callback == ""


# --- refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "with a host"),
        ("shop.example", "with a host"),
        ("ftp://shop.example/", "with a host"),
        ("https://", "with a host"),
        ("https://ana:pw@shop.example/", "neither user nor fragment"),
        ("https://shop.example/#a", "neither user nor fragment"),
        ("https://shop.example/ a", "visible ASCII"),
        ("https://shop.example/\xe9", "visible ASCII"),
        ("https://shop.example:99999/", "Port"),
        ("http://shop.example/", "only https"),
        ("http://10.0.0.8/", "only https"),
        ("https://10.0.0.8/", "not a public address"),
        ("https://127.0.0.1/", "not a public address"),
        ("https://[::1]/", "not a public address"),
        ("https://[::ffff:10.0.0.1]/", "not a public address"),
        ("https://169.254.169.254/latest/meta-data", "not a public address"),
        ("https://localhost/", "not a public address"),
        ("https://api.LOCALHOST./", "not a public address"),
        ("https://shop.example/<aws.scheduler.schedule-arn>", "no URL has the character '<'"),
        ('https://shop.example/?of="a"', "write it as %22"),
        ("https://a.example/,https://b.example/", "more than one"),
        ("https://a.example/, HTTP://b.example/", "more than one"),
        ("https://shop.example/" + "x" * limits.MAX_CALLBACK_BYTES, "2000 is the limit"),
    ],
)
def test_what_can_never_be_called_back_is_refused_by_name(url: str, why: str) -> None:
    assert why in refused(url)


def test_nobody_who_is_served_without_notifications_is_told() -> None:
    assert "no workload 'notifications'" in refused(URL, workloads=load(["orders"]))
    own = Workload("notifications", WORKLOADS["orders"].schema, lambda entry, message: Effects({}))
    assert "no workload 'notifications'" in refused(URL, workloads={**WORKLOADS, "notifications": own})


def test_a_notification_has_none() -> None:
    assert "has none itself" in refused(URL, entry=MAIL, route="notifications")


def test_a_webhook_of_somebody_else_s_has_none() -> None:
    """What it signs is its body; a header, anybody may have added."""
    call = call_of(post(ORDER, headers={"callback-url": URL}))
    call = msgspec.structs.replace(call, caller="webhook:stripe", event="evt_1")
    with pytest.raises(Problem, match="no signature") as caught:
        admit(call, WORKLOADS, 1)
    assert caught.value.status == 400


def test_what_cannot_be_signed_is_not_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "")
    assert "WEBHOOK_SECRET" in refused(URL)


def test_on_aws_the_receiver_cannot_know_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBHOOK_SECRET")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "receiver")
    assert send(URL)[0] == 202


def test_no_name_is_looked_up_at_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("DNS was asked"))
    assert send("https://no-such-host.example/")[0] == 202


def test_no_url_makes_an_error_of_ours() -> None:
    draw = random.Random(13)
    pieces = [
        "https:",
        "http:",
        "//",
        "/",
        "@",
        "[",
        "]",
        "::1",
        ".",
        "%",
        "\\",
        "1",
        "a",
        ",",
        ":",
        "#",
        "?",
        "\x00",
        "é",
    ]
    for _ in range(3_000):
        url = "".join(draw.choices(pieces, k=draw.randrange(1, 12)))
        assert send(url)[0] in (202, 400), url


# --- what is emitted ------------------------------------------------------------


def test_what_a_message_emits_does_not_inherit_its_callback() -> None:
    message = Message("a", "orders", "{}", "anonymous", 1, callback=URL)
    commit = encode(Effects({}, emits=[Emit("notifications", MAIL)]), message, WORKLOADS)
    assert [emit.callback for emit in commit.emits] == [""]
    assert [emit.callback for emit in with_callback(message, commit, 2)] == ["", ""]


def test_a_callback_is_told_from_what_anybody_may_send() -> None:
    message = Message("a", "orders", "{}", "anonymous", 1, callback=URL)
    told = callback(message, Commit("{}"), 2)
    assert told.tells_of("a")
    assert callback(message, Reject("no"), 2, purged=True).tells_of("a")
    assert not told.tells_of("b")
    assert not Message(derived_id("notifications", "key", "ana", "a", "0"), "", "", "", 0).tells_of("a")
    assert not message.tells_of("\ud800")


def test_what_sqs_does_not_take_is_escaped_in_a_callback() -> None:
    message = Message("a", "orders", "{}", "anonymous", 1, callback=URL)
    body = callback(message, Commit('{"name": "\uffff"}'), 2).body
    assert "\uffff" not in body
    assert json.loads(body)["data"]["result"] == {"name": "\uffff"}


def test_a_reason_that_no_store_would_take_is_told_all_the_same() -> None:
    message = Message("a", "orders", "{}", "anonymous", 1, callback=URL)
    assert json.loads(callback(message, Reject("\ud800"), 2).body)["data"]["reason"] == "?"
    assert callbacks.WORKLOAD == "notifications"
