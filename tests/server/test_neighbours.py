"""A receiver's trouble is its own: while it hangs, the others get what is theirs; when it answers, it gets all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.receivers import HttpReceiver, Reply, http_receiver
from tests.support.server import Server, serving, wait_for

HUNG, WELL = "127.0.0.1", "localhost"  # two hosts, to whom only sees their names
SETTINGS = {"WEBHOOK_SECRET": "whsec_bmVpZ2hib3Vycw==", "WEBHOOK_TRUSTED_HOSTS": f"{HUNG},{WELL}"}
WHILE_IT_HANGS_S = 30.0
GIVEN_UP_S = 120.0


class Gate:
    """A reply that does not come before it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def reply(self) -> Reply:
        self.opened.wait(GIVEN_UP_S)
        return 204, {}


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@contextmanager
def served(data: Path, gate: Gate) -> Iterator[tuple[Server, HttpReceiver, HttpReceiver]]:
    """Notifications, and the receivers: one that hangs, and one that is well."""
    with http_receiver() as hung, http_receiver() as well:
        hung.reply = gate.reply
        with serving(data, "--workloads", "notifications", environment=SETTINGS) as server:
            yield server, hung, well


def notification(*recipients: tuple[str, HttpReceiver]) -> dict[str, Any]:
    to = [{"kind": "webhook", "url": f"http://{host}:{receiver.port}/hook"} for host, receiver in recipients]
    return {"to": to, "type": "order.shipped", "subject": "On its way", "text": "It comes tomorrow."}


def came(receiver: HttpReceiver) -> list[str]:
    return sorted(headers["webhook-id"] for _, headers, _ in receiver.requests)


def test_a_receiver_that_hangs_does_not_keep_another_waiting(tmp_path: Path, gate: Gate) -> None:
    with served(tmp_path / "data", gate) as (server, hung, well):
        waiting = server.accept("/notifications", *[notification((HUNG, hung))] * 200)
        wait_for(lambda: hung.requests)
        ids = server.accept("/notifications", *[notification((WELL, well))] * 100)
        wait_for(server.statuses, lambda it: it.get("processed") == 100, WHILE_IT_HANGS_S)
        assert came(well) == sorted(ids)
        assert server.statuses() == {"queued": 200, "processed": 100}

        gate.opened.set()
        assert server.wait_until_settled(GIVEN_UP_S) == {"processed": 300}
        assert set(came(hung)) == set(waiting)


def test_a_recipient_that_hangs_does_not_keep_the_others_of_its_notification_waiting(
    tmp_path: Path, gate: Gate
) -> None:
    with served(tmp_path / "data", gate) as (server, hung, well):
        server.accept("/notifications", *[notification((HUNG, hung), (WELL, well))] * 20)
        wait_for(lambda: len(well.requests), lambda count: count == 20, WHILE_IT_HANGS_S)
        wait_for(server.statuses, lambda it: it == {"queued": 20, "processed": 40})

        gate.opened.set()
        assert server.wait_until_settled(GIVEN_UP_S) == {"processed": 60}
