"""Messages that are due later, on a real server: by a client's Delay, emitted so, and put off by their workload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from decoupled.core.times import parse_rfc3339
from tests.support.server import Server

DELAY_S = 2
SEATS = Path(__file__).parents[1] / "support" / "trial" / "workloads" / "seats.py"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", "--workloads", f"hazards,{SEATS},{SEATS}:RELEASES", "--concurrency", "1")
    yield server.start()
    server.end()


def test_a_message_waits_as_long_as_its_client_asked_also_through_a_crash(server: Server) -> None:
    answer = server.post("/hazards", {"act": "well"}, delay=str(DELAY_S))
    assert answer.status == 202
    record = server.get(answer.json["status_url"]).json
    assert record["status"] == "queued"
    assert parse_rfc3339(record["due_at"]) - parse_rfc3339(record["accepted_at"]) == DELAY_S * 1000
    server.accept("/hazards", {"act": "well"})  # nobody waits for it
    server.kill()
    server.start()
    (done,) = server.wait_until("processed", answer.json["status_url"])
    assert parse_rfc3339(done["processed_at"]) >= parse_rfc3339(record["due_at"])
    assert "due_at" not in done


def test_a_hold_emits_its_release_for_later_to_a_workload_without_a_route(server: Server) -> None:
    (held,) = server.accept("/seats", {"kind": "hold", "seat": 1, "by": "ana"})
    (record,) = server.wait_until("processed", f"/seats/{held}")
    ((status, due_at, finished_at),) = server.rows(
        "SELECT m.status, m.due_at, h.finished_at FROM messages m, messages h WHERE m.id = ? AND h.id = ?",
        record["result"]["release"],
        held,
    )
    assert (status, due_at - finished_at) == ("queued", 600_000)
    assert server.post("/releases", {"seat": 1, "hold": held}).status == 404
    assert server.get(f"/releases/{record['result']['release']}").status == 404
    assert server.get("/seats/taken/1").json == {"by": "ana", "state": "held", "hold": held}


def test_a_message_that_is_put_off_is_queued_until_then_and_opens_no_breaker(server: Server, tmp_path: Path) -> None:
    ids = server.accept("/hazards", *[{"act": "not yet", "seconds": 86_400}] * 15)
    once = {"act": "not yet", "seconds": 0, "once": str(tmp_path / "once")}
    ids += server.accept("/hazards", once)
    (done,) = server.wait_until("processed", f"/hazards/{ids[-1]}")
    assert server.rows("SELECT attempts, receive_count FROM messages WHERE id = ?", done["id"]) == [(0, 2)]
    for record in server.wait_until("queued", *(f"/hazards/{message_id}" for message_id in ids[:-1])):
        assert parse_rfc3339(record["due_at"]) > parse_rfc3339(done["processed_at"]) + 80_000_000
    assert server.get("/health").json["breakers"]["hazards"] == {"state": "closed"}
    server.accept("/hazards", {"act": "well"})
    assert {line["level"] for line in server.log_lines() if "message_id" in line} == {"INFO"}
