"""A client of the functions is told as one of a server is: over real HTTP, on moto."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from standardwebhooks import Webhook as Verifier

from decoupled.pipeline.loading import load
from tests.support import stack
from tests.support.engines import AwsEngine
from tests.support.events import ORDER
from tests.support.receivers import HttpReceiver, http_receiver
from tests.support.server import wait_for

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WORKLOADS = load(["orders", "transactions", "notifications"])
OVERDRAWN = {"kind": "transfer", "from_account": "a", "to_account": "b", "currency": "EUR", "amount": "1"}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpReceiver]:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("WEBHOOK_TRUSTED_HOSTS", "127.0.0.1")
    with http_receiver() as running:
        yield running


def ask(url: str, method: str, path: str, entry: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        fields = {"content-type": "application/json", **headers}
        connection.request(method, path, json.dumps(entry) if entry is not None else None, fields)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("route", "entry", "status"), [("orders", ORDER, "processed"), ("transactions", OVERDRAWN, "rejected")]
)
def test_a_client_of_the_functions_is_told(
    moto_engine: AwsEngine, receiver: HttpReceiver, route: str, entry: Any, status: str
) -> None:
    where = {"callback-url": f"http://127.0.0.1:{receiver.port}/hooks", "idempotency-key": "one"}
    with stack.serving(moto_engine, WORKLOADS) as url:
        code, answer = ask(url, "POST", f"/{route}", entry, **where)
        assert code == 202
        # The next request has the processor take what the first one left on the queue.
        wait_for(lambda: ask(url, "POST", "/orders", ORDER) and receiver.requests)
        ((_, headers, body),) = receiver.requests
        content = Verifier(SECRET).verify(body, headers)
        assert content["type"] == f"{route}.{status}"
        shown = ask(url, "GET", answer["status_url"])[1]
        assert content["data"] == shown
        assert ask(url, "GET", f"/notifications/{headers['webhook-id']}")[1]["status"] == "processed"
