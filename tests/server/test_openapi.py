"""What a server says of its API: the document is one, the page shows it, and the server does what the document says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import api_tools
from tests.support import issuer as issuers
from tests.support.server import DECOUPLED, TRIAL, Server, serving, wait_for

SEATS = TRIAL / "workloads/seats.py"
ALL = f"orders,transactions,registrations,readings,notifications,{SEATS},{SEATS}:RELEASES"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("described") / "data", "--workloads", ALL) as server:
        yield server


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    return server.get("/openapi.json").json


def test_the_document_is_openapi(document: Any, tmp_path: Path) -> None:
    assert document["openapi"] == "3.1.0"
    assert "/seats/taken" in document["paths"]
    api_tools.validate(document, tmp_path)


def test_the_document_of_a_server_that_asks_for_everything_is_openapi(tmp_path: Path) -> None:
    typed = [str(DECOUPLED), "openapi", "--workloads", "orders"]
    environment = {**os.environ, "DECOUPLED_AUTH": "keys,signatures"}
    said = subprocess.run(typed, capture_output=True, text=True, check=True, timeout=60, env=environment).stdout
    api_tools.validate(json.loads(said), tmp_path)
    assert "stripe_webhook" in json.loads(said)["components"]["securitySchemes"]


def test_the_command_prints_the_document_without_a_server(document: Any) -> None:
    typed = [str(DECOUPLED), "openapi", "--workloads", ALL]
    printed = json.loads(subprocess.run(typed, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert printed.pop("servers") == [{"url": "http://127.0.0.1:8080"}]
    assert printed == {name: part for name, part in document.items() if name != "servers"}


def test_the_command_says_that_keys_are_asked_for_where_they_are() -> None:
    typed = [str(DECOUPLED), "openapi", "--workloads", "orders"]
    environment = {**os.environ, "DECOUPLED_AUTH": "keys"}
    said = subprocess.run(typed, capture_output=True, text=True, check=True, timeout=60, env=environment).stdout
    assert json.loads(said)["components"]["securitySchemes"]
    assert {"401", "403"} <= json.loads(said)["paths"]["/orders"]["post"]["responses"].keys()


def test_the_server_does_what_the_document_says(document: Any, server: Server, tmp_path: Path) -> None:
    shown = api_tools.conforms(document, server.url, tmp_path, 15, *_WITHOUT_EVENTS)
    assert "Tested: 11\n" in shown
    alone = ("--include-path-regex", "seats.*events", "--phases", "examples,coverage,fuzzing")
    assert "Tested: 1\n" in api_tools.conforms(document, server.url, tmp_path, 15, *alone)


# Of what is there: the events of a message that is due in a year come then.
_WITHOUT_EVENTS = ("--include-path-regex", "readings|seats|health", "--exclude-path-regex", "events")


def test_events_are_as_the_document_says(document: Any, server: Server, tmp_path: Path) -> None:
    """Of a message that has ended."""
    sent = document["paths"]["/registrations"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    path = server.post("/registrations", sent["one"]["value"], prefer="wait=20").headers["location"]
    operation = document["paths"]["/registrations/{id}/events"]["get"] | {"parameters": []}
    made = document | {"paths": {f"{path}/events": {"get": operation}}}
    assert "Tested: 1\n" in api_tools.conforms(made, server.url, tmp_path, 2)


def test_a_server_with_keys_does_what_its_document_says(tmp_path: Path) -> None:
    typed = [str(DECOUPLED), "keys", "add", "shop", "--data", str(tmp_path / "data")]
    key = subprocess.run(typed, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    with serving(tmp_path / "data", "--auth", "keys", "--workloads", ALL) as server:
        _conforms_with(key, server, tmp_path)


def test_a_server_with_tokens_does_what_its_document_says(tmp_path: Path) -> None:
    with issuers.answering(one="RSA") as issuer:
        asked = ("--auth", "jwt", "--jwt-issuer", issuer.url, "--jwt-audience", "shop")
        with serving(tmp_path / "data", *asked, "--workloads", ALL) as server:
            _conforms_with(issuer.token(), server, tmp_path)


def _conforms_with(proof: str, server: Server, directory: Path) -> None:
    """Schemathesis also leaves out the proof, and sends wrong ones."""
    document = server.get("/openapi.json").json
    api_tools.validate(document, directory)
    header = ("--header", f"Authorization: Bearer {proof}")
    shown = api_tools.conforms(document, server.url, directory, 8, *header, *_WITHOUT_EVENTS)
    assert "Tested: 11\n" in shown


def test_the_page_takes_nothing_from_elsewhere(server: Server) -> None:
    page = server.get("/docs")
    text = page.body.decode()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"<script(?![^>]* src=)|https?:|//|\bon\w+=|<style", text)
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"].partition("style-src")[0]
    linked = re.findall(r'(?:src|spec-url)="([^"]+)"', text)
    assert linked == ["docs/rapidoc-9.3.8.js", "openapi.json"]
    assert [server.get(f"/{link}").status for link in linked] == [200, 200]


def test_what_is_the_servers_own_is_only_read(server: Server) -> None:
    for path in ("/openapi.json", "/docs", "/docs/rapidoc-9.3.8.js"):
        whole, head = server.get(path), server.ask("HEAD", path)
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(whole.body)))
        refused = server.ask("POST", path, b"{}", {"content-type": "application/json"})
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert server.get("/docs/other.js").status == 404


def test_without_fronts_there_is_the_same_document(document: Any, server: Server, tmp_path: Path) -> None:
    with serving(tmp_path / "data", *server.options, "--fronts", "0") as other:
        assert other.get("/openapi.json").json == document
        assert other.get("/docs").status == 200
        assert other.get("/health").json["status"] == "ok"


def test_the_server_shows_a_request_that_it_takes(server: Server) -> None:
    shown = wait_for(lambda: re.search(r"(\S+)/docs .*\n\n  curl -i \S+(/\w+) .* -d '(.*)'", server.log.read_text()))
    assert shown is not None
    assert shown[1] == server.url
    assert server.ask("POST", shown[2], shown[3].encode(), {"content-type": "application/json"}).status == 202
