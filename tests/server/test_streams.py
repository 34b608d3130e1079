"""Streams of events: what becomes of a message, and of all that a caller sends. Read by a client that is not ours,
which loses nothing through whatever ends its connection."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent, connect_sse

from tests.support.fronts import ready, renewed
from tests.support.server import DECOUPLED, LAUNCH, Client, Server, serving, wait_for

OPTIONS = ("--workloads", "hazards,ledger,echoes", "--concurrency", "2", "--max-attempts", "1", "--log-level", "ERROR")
SLOW = {"act": "slow", "seconds": 0.3}


@pytest.fixture(scope="module", params=["2", "0"], ids=["fronts", "inside"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("streams") / "data", *OPTIONS, "--fronts", request.param) as server:
        yield server


@contextmanager
def stream(server: Server, path: str, **headers: str) -> Iterator[EventSource]:
    """The events there. `last_event_id="..."` becomes a header."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.Client(timeout=30) as client, connect_sse(client, "GET", server.url + path, headers=fields) as source:
        yield source


def told(server: Server, path: str, **headers: str) -> list[ServerSentEvent]:
    """All of a stream that ends."""
    with stream(server, path, **headers) as source:
        return list(source.iter_sse())


def send(server: Server, entry: Any, path: str = "/hazards", **headers: str) -> str:
    answer = server.post(path, entry, **headers)
    assert answer.status == 202, answer
    return answer.headers["location"]


class Follower:
    """Follows a caller's stream through all that ends its connection, as an EventSource does."""

    def __init__(self, server: Server, path: str = "/hazards", **headers: str) -> None:
        self.server = server
        self.path = path
        self.headers = headers
        self.last = ""  # its id
        self.ids: list[str] = []  # of the messages that it was told of, in order

    def follow(self, count: int) -> None:
        """Until it has heard of so many."""
        wait_for(lambda: self._follow_once(count), seconds=40)

    def _follow_once(self, count: int) -> bool:
        headers = self.headers | ({"last_event_id": self.last} if self.last else {})
        with contextlib.suppress(httpx.HTTPError), stream(self.server, self.path, **headers) as source:
            assert source.response.status_code == 200, source.response.read()
            for line in source.response.iter_lines():
                if line.startswith("id: "):
                    self.last = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    self.ids.append(json.loads(line.removeprefix("data: "))["id"])
                if len(self.ids) >= count and self.last:
                    return True
        return False


def id_of(path: str) -> str:
    return path.rpartition("/")[2]


# --- one message ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "status"), [("slow", "processed"), ("reject", "rejected"), ("raise", "dead"), ("well", "processed")]
)
def test_the_record_comes_as_it_is_and_as_it_ends_and_the_stream_is_over(server: Server, act: str, status: str) -> None:
    path = send(server, {"act": act, "seconds": 0.3})
    events = told(server, f"{path}/events")
    assert [event.event for event in events] in (["queued", status], [status])
    assert [event.json()["status"] for event in events] == [event.event for event in events]
    assert events[-1].json() == server.get(path).json
    assert events[-1].retry is not None or len(events) == 2
    answer = server.ask("GET", f"{path}/events", headers={"last-event-id": events[-1].id})
    assert (answer.status, answer.body, "content-length" in answer.headers) == (204, b"", False)


def test_who_comes_again_in_between_is_told_the_end(server: Server) -> None:
    path = send(server, {}, delay="3600")
    with stream(server, f"{path}/events") as source:
        queued = next(source.iter_sse())
    assert queued.event == "queued"
    path = send(server, SLOW)
    assert told(server, f"{path}/events", last_event_id=queued.id)[-1].event == "processed"


def test_a_stream_is_no_secret_s_and_nothing_is_at_what_is_not_there(server: Server) -> None:
    assert server.get(f"/hazards/{'0' * 40}/events").status == 404
    assert server.get("/nothing/here/events").status == 404
    assert server.get("/ledger/accounts/events").status == 404  # an item's place, where no item is
    path = send(server, {})
    assert server.get(f"/ledger/{id_of(path)}/events").status == 404
    refused = server.ask("GET", f"{path}/events", headers={"accept": "application/json"})
    assert (refused.status, refused.headers["content-type"]) == (406, "application/problem+json")
    assert server.ask("POST", f"{path}/events", b"{}").status == 405


@pytest.mark.parametrize("path", ["/events", ""])
def test_head_of_a_stream_ends(server: Server, path: str) -> None:
    where = f"{send(server, {})}{path}" if path else "/hazards"
    answer = server.ask("HEAD", where, headers={"accept": "text/event-stream"})
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert "content-length" not in answer.headers


def test_the_connection_is_good_for_more_after_a_stream(server: Server) -> None:
    path = send(server, SLOW)
    with httpx.Client(timeout=30) as client:
        with connect_sse(client, "GET", f"{server.url}{path}/events") as source:
            assert list(source.iter_sse())[-1].event == "processed"
            first = socket_of(source.response)
        assert socket_of(client.get(f"{server.url}{path}")) == first


def socket_of(response: httpx.Response) -> Any:
    return response.extensions["network_stream"].get_extra_info("socket").getsockname()


def test_to_http_1_0_a_stream_comes_as_it_is_until_the_connection_ends(server: Server) -> None:
    path = send(server, SLOW)
    with Client(server) as client:
        client.send(f"GET {path}/events HTTP/1.0\r\nconnection: keep-alive\r\n\r\n".encode())
        head, _, events = client.file.read().partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert events.startswith(b"retry: ")
    assert events.endswith(b"}\n\n")


# --- all of a caller ------------------------------------------------------------------


def test_each_message_that_ends_comes_once_and_in_order(server: Server) -> None:
    follower = Follower(server)
    with stream(server, "/hazards", accept="text/event-stream") as source:
        lines = source.response.iter_lines()
        next(line for line in lines if line.startswith("id: "))  # from now on
        sent = [id_of(send(server, {"act": act})) for act in ("well", "reject", "raise", "well") * 5]
        ended: list[Any] = []
        while len(ended) < len(sent):
            line = next(lines)
            if line.startswith("data: "):
                ended.append(json.loads(line.removeprefix("data: ")))
    assert sorted(record["id"] for record in ended) == sorted(sent)
    assert {record["status"] for record in ended} == {"processed", "rejected", "dead"}
    assert follower.ids == []


def test_who_was_gone_goes_on_exactly_where_it_was(server: Server) -> None:
    follower = Follower(server)
    follower.follow(0)
    for count in (30, 31, 75):
        sent = server.accept("/hazards", *[{"act": "well"}] * (count - len(follower.ids)))
        server.wait_until("processed", *(f"/hazards/{it}" for it in sent))
        follower.follow(count)
        assert sorted(follower.ids[-len(sent) :]) == sorted(sent)
    assert len(set(follower.ids)) == 75
    follower.last = "0.0"
    with stream(server, "/hazards", last_event_id="0.0") as source:
        assert source.response.status_code == 400


def test_a_stream_has_nothing_of_other_workloads(server: Server) -> None:
    follower = Follower(server, "/ledger")
    follower.follow(0)
    send(server, {})
    path = send(server, {"account": 1, "amount": 1}, "/ledger")
    follower.follow(1)
    assert follower.ids == [id_of(path)]


@pytest.mark.parametrize("last", ["x", "1", "1.2.3", "-1.0", "99999999999.0", "1." + "9" * 30])
def test_a_position_that_is_none_is_refused(server: Server, last: str) -> None:
    answer = server.ask("GET", "/hazards", headers={"accept": "text/event-stream", "last-event-id": last})
    assert answer.status == 400
    assert "Last-Event-ID" in answer.json["detail"]


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "text/event-stream;q=0"])
def test_a_stream_is_for_those_who_ask_for_one_by_name(server: Server, accept: str) -> None:
    assert server.ask("GET", "/hazards", headers={"accept": accept} if accept else {}).status == 406
    assert server.ask("GET", "/nothing", headers={"accept": "text/event-stream"}).status == 404


def test_what_a_person_changes_is_told(server: Server) -> None:
    """Dead, put back and dead again; then given up: each is an end."""
    follower = Follower(server)
    follower.follow(0)
    path = send(server, {"act": "raise"})
    follower.follow(1)
    for action in ("redrive", "purge"):
        dead = [
            str(DECOUPLED),
            "dead",
            action,
            id_of(path),
            "--data",
            str(server.data),
            *["--yes"] * (action == "purge"),
        ]
        done = subprocess.run(dead, capture_output=True, text=True, timeout=60, check=False, input="y\n")
        assert done.returncode == 0, done.stderr
        follower.follow(2 if action == "redrive" else 3)
    assert follower.ids == [id_of(path)] * 3
    assert server.get(path).json["status"] == "rejected"


# --- who goes, and who must -----------------------------------------------------------


def kill_the_server(server: Server) -> None:
    server.kill()
    server.start()


def kill_the_fronts(server: Server) -> None:
    for pid in server.fronts():
        os.kill(pid, signal.SIGKILL)


def restart(server: Server) -> None:
    assert server.stop() == 0, server.logged()
    server.start()


def renew(server: Server) -> None:
    before = ready(server, 2)
    os.kill(server.pid, signal.SIGHUP)
    renewed(server, before, 2)


@pytest.mark.parametrize("disturb", [kill_the_server, kill_the_fronts, restart, renew])
def test_whatever_ends_a_connection_no_end_is_lost_and_none_comes_twice(tmp_path: Path, disturb: Any) -> None:
    server = Server(tmp_path / "data", *OPTIONS, "--fronts", "2")
    try:
        server.start()
        follower = Follower(server)
        follower.follow(0)
        sent: list[str] = []
        for _ in range(3):
            sent += server.accept("/hazards", *[{"act": "slow", "seconds": 0.02}] * 20)
            follower.follow(len(sent) - 10)
            disturb(server)
            follower.follow(len(sent))
        assert sorted(follower.ids) == sorted(sent)
    finally:
        server.end()


@pytest.mark.parametrize("fronts", ["2", "0"])
def test_streams_end_when_the_server_stops(tmp_path: Path, fronts: str) -> None:
    with serving(tmp_path / "data", *OPTIONS, "--fronts", fronts) as server:
        path = send(server, {}, delay="3600")
        with stream(server, "/hazards", accept="text/event-stream") as all_, stream(server, f"{path}/events") as one:
            lines = [all_.response.iter_lines(), one.response.iter_lines()]
            assert all(next(it) for it in lines)
            os.kill(server.pid, signal.SIGTERM)
            for it in lines:
                assert list(it)[-1] == ""  # to its end, and not broken off


def test_a_client_that_takes_nothing_keeps_little_and_goes_on_later(tmp_path: Path) -> None:
    """Of megabytes of events; it has given up its place by then, or has them all."""
    with serving(tmp_path / "data", *OPTIONS, "--fronts", "1", "--concurrency", "1") as server, Client(server) as slow:
        slow.send(b"GET /hazards HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
        assert slow.file.readline() == b"HTTP/1.1 200 OK\r\n"
        sent = [it for _ in range(20) for it in server.accept("/hazards", *[{"act": "well"}] * 1_000)]
        server.wait_until_settled()
        (front,) = server.fronts()
        assert server.get("/health").json["status"] == "ok"
        found = 0
        while found < len(sent):
            found += slow.file.readline().startswith(b"data: ")
        assert front == server.fronts()[0]


def test_where_there_are_too_many_streams_a_further_one_is_refused(tmp_path: Path) -> None:
    program, options = (*LAUNCH, "limits", "MAX_HEARERS=1"), (*OPTIONS, "--fronts", "0")
    with serving(tmp_path / "data", *options, program=program) as server:
        path = send(server, {}, delay="3600")
        with stream(server, f"{path}/events") as source:
            events = source.iter_sse()
            assert next(events).event == "queued"
            refused = server.get(f"{path}/events")
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert server.ask("GET", "/hazards", headers={"accept": "text/event-stream"}).status == 503
        wait_for(lambda: stream_status(server, path), lambda status: status == 200)


def stream_status(server: Server, path: str) -> int:
    with stream(server, f"{path}/events") as source:
        status: int = source.response.status_code
        return status


def test_events_of_callers_are_their_own(tmp_path: Path) -> None:
    data = tmp_path / "data"
    keys = {name: key(data, name) for name in ("ana", "ben")}
    with serving(data, *OPTIONS, "--auth", "keys", "--fronts", "2") as server:
        followers = {name: Follower(server, authorization=f"Bearer {keys[name]}") for name in keys}
        for follower in followers.values():
            follower.follow(0)
        paths = {name: send(server, {}, authorization=f"Bearer {keys[name]}") for name in keys}
        for name, follower in followers.items():
            follower.follow(1)
            assert follower.ids == [id_of(paths[name])]
        mine: Mapping[str, str] = {"authorization": f"Bearer {keys['ana']}"}
        assert server.ask("GET", f"{paths['ben']}/events", headers=mine).status == 404
        assert server.ask("GET", "/hazards", headers={"accept": "text/event-stream"}).status == 401


@pytest.mark.parametrize("fronts", ["2", "0"])
def test_a_key_that_is_revoked_hears_of_nothing_more(tmp_path: Path, fronts: str) -> None:
    data = tmp_path / "data"
    lost, kept = key(data, "ana"), key(data, "ana", "rotate")
    with serving(data, *OPTIONS, "--auth", "keys", "--fronts", fronts) as server:
        mine = {"authorization": f"Bearer {lost}"}
        path = send(server, {}, **mine, delay="3600")
        with stream(server, "/hazards", **mine) as all_of_it, stream(server, f"{path}/events", **mine) as one:
            lines = all_of_it.response.iter_lines()
            next(lines)
            keys(data, "revoke", lost.split("_")[1])
            assert not [line for line in lines if line.startswith("data:")]  # until it ends
            assert [event.event for event in one.iter_sse()] == ["queued"]
        wait_for(lambda: server.ask("GET", path, headers=mine).status, lambda status: status == 401)
        send(server, {}, authorization=f"Bearer {kept}")


def key(data: Path, name: str, how: str = "add") -> str:
    return next(word for word in keys(data, how, name).split() if word.startswith("dk_"))


def keys(data: Path, *command: str) -> str:
    program = [str(DECOUPLED), "keys", *command, "--data", str(data)]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, check=True).stdout
