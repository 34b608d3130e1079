"""A collection that is listed, over HTTP: its pages, and what is no page."""

from __future__ import annotations

from pathlib import Path

from tests.support.server import serving

SEATS = Path(__file__).parents[1] / "support" / "trial" / "workloads" / "seats.py"


def test_a_collection_is_listed_over_http_page_by_page(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workloads", f"{SEATS},{SEATS}:RELEASES", "--concurrency", "1") as server:
        held = server.accept("/seats", *[{"kind": "hold", "seat": seat, "by": "ana"} for seat in (1, 10, 11, 12, 2)])
        server.wait_until("processed", *(f"/seats/{message_id}" for message_id in held))
        first = server.get("/seats/taken?prefix=1&limit=3")
        assert first.status == 200
        assert [it["key"] for it in first.json["items"]] == ["1", "10", "11"]
        assert first.json["items"][0]["item"] == {"by": "ana", "state": "held", "hold": held[0]}
        second = server.get(first.json["next"]).json
        assert [it["key"] for it in second["items"]] == ["12"]
        assert "next" not in second
        assert len(server.get("/seats/taken").json["items"]) == 5
        assert server.get("/seats/taken?limit=many").status == 400
        assert server.get("/seats/totals").status == 404  # readable, and not listed
