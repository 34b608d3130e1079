"""Calls from browsers: what a page of another origin is told beforehand, and what every answer says for whom it is. The
Fetch standard's own rules are applied by a real browser, where there is one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from decoupled.core import limits
from tests.support.browser import CHROMIUM, page, said
from tests.support.server import DECOUPLED, Answer, Client, Server, free_port, serving

SHOP, OTHER = "https://shop.example", "https://other.example"
ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It asks for keys: a preflight has none."""
    data = tmp_path_factory.mktemp("cors") / "data"
    subprocess.run([DECOUPLED, "keys", "add", "shop", "--data", data], check=True, capture_output=True)
    origins = f"{SHOP}, http://localhost:3000"
    options = ("--workloads", "checks", "--concurrency", "1", "--fronts", "1", "--auth", "keys")
    with serving(data, *options, "--cors-origins", origins) as server:
        yield server


def preflight(server: Server, origin: str, path: str = "/checks") -> Answer:
    return server.ask("OPTIONS", path, headers={"origin": origin, **ASKS})


def opened(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def test_a_preflight_is_answered_before_anybody_is_asked_who_it_is(server: Server) -> None:
    for path in ("/checks", "/checks/some-id", "/nothing/there/at/all"):
        told = preflight(server, SHOP, path)
        assert (told.status, told.body) == (204, b"")
        assert "content-length" not in told.headers
        assert told.headers["vary"] == "origin"
        assert opened(told) == {
            "access-control-allow-origin": SHOP,
            "access-control-allow-methods": "GET, POST",
            "access-control-allow-headers": "authorization, callback-url, content-type, delay, idempotency-key,"
            " last-event-id, prefer, traceparent, tracestate, x-api-key",
            "access-control-max-age": "600",
            "access-control-expose-headers": "location, preference-applied, ratelimit, ratelimit-policy, retry-after,"
            " www-authenticate",
        }


def test_a_connection_goes_on_after_a_preflight(server: Server) -> None:
    with Client(server) as client:
        for _ in range(3):
            client.send(
                b"OPTIONS /checks HTTP/1.1\r\nhost: x\r\norigin: %b\r\naccess-control-request-method: GET\r\n\r\n"
                % SHOP.encode()
            )
            assert client.answer().status == 204


@pytest.mark.parametrize("origin", [OTHER, "https://shop.example.evil.example", "http://shop.example", "null", ""])
def test_a_page_of_another_origin_is_told_nothing(server: Server, origin: str) -> None:
    told = preflight(server, origin)
    assert (told.status, opened(told), told.headers["vary"]) == (204, {}, "origin")
    answer = server.ask("GET", "/health", headers={"origin": origin})
    assert (answer.status, opened(answer), answer.headers["vary"]) == (200, {}, "origin")


def test_every_answer_says_for_whom_it_is_problems_too(server: Server) -> None:
    sent = {"origin": "http://localhost:3000"}
    answers = {
        200: server.ask("GET", "/health", headers=sent),
        401: server.ask("POST", "/checks", b"{}", {**sent, "content-type": "application/json"}),
        413: server.ask("POST", "/checks", headers={**sent, "content-length": str(limits.MAX_REQUEST_BYTES + 1)}),
        501: server.ask("POST", "/checks", headers={**sent, "transfer-encoding": "gzip"}),
    }
    for status, answer in answers.items():
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "retry-after" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "origin"


def test_options_without_a_preflights_headers_is_no_preflight(server: Server) -> None:
    assert server.ask("OPTIONS", "/health", headers={"origin": SHOP}).status == 405
    assert server.ask("OPTIONS", "/health", headers=ASKS).status == 405


def test_any_origin_may_be_let_in(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workloads", "checks", "--cors-origins", "*", "--fronts", "0") as server:
        told = preflight(server, OTHER)
        assert (told.status, told.headers["access-control-allow-origin"]) == (204, "*")
        assert server.get("/health").headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in told.headers


def test_without_the_option_there_is_none_of_it(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workloads", "checks", "--fronts", "1") as server:
        told = preflight(server, SHOP)
        assert (told.status, opened(told)) == (405, {})
        answer = server.ask("GET", "/health", headers={"origin": SHOP})
        assert opened(answer) == {}
        assert "vary" not in answer.headers


# --- a browser ----------------------------------------------------------------

CALL = """
    const answer = await fetch("%s/checks", {
        method: "POST", body: "{}",
        headers: {"content-type": "application/json", "idempotency-key": '"of-a-page"', "prefer": "respond-async"},
    });
    return JSON.stringify([answer.status, answer.headers.get("location"), (await answer.json()).status_url]);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_lets_a_page_of_an_allowed_origin_send_and_no_other(tmp_path: Path) -> None:
    port = free_port()
    script = CALL % f"http://127.0.0.1:{port}"
    with page(script) as ours, page(script) as others:
        server = Server(tmp_path / "data", "--workloads", "checks", "--fronts", "1", "--cors-origins", ours)
        server.port = port
        try:
            server.start()
            status, location, status_url = json.loads(said(ours, tmp_path / "ours"))
            assert (status, location) == (202, status_url)
            assert said(others, tmp_path / "others") == "TypeError: Failed to fetch"
            assert server.rows("SELECT count(*) FROM messages") == [(1,)]
        finally:
            server.end()
