"""The page for people on call, as a server gives it to browsers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.page import BROWSER, ask
from tests.support.server import Server, serving

TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@pytest.fixture(scope="module", params=[0, 1, 2])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("page") / "data"
    with serving(data, "--fronts", str(request.param), "--cors-origins", "https://shop.example") as server:
        yield server


def test_a_browser_gets_the_page_and_others_what_they_ever_got(server: Server) -> None:
    page = ask(server, "/", BROWSER)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "unsafe" not in page.headers["content-security-policy"]
    assert ask(server, "/", "accept: */*").status == 404
    assert ask(server, "/").status == 404


def test_all_that_the_page_names_is_there_and_nothing_is_inline(server: Server) -> None:
    html = ask(server, "/", BROWSER).body.decode()
    names = re.findall(r'(?:src|href)="(-/assets/[^"]+)"', html)
    assert len(names) >= 2
    for name in names:
        asset = ask(server, f"/{name}")
        assert asset.status == 200
        assert asset.headers["x-content-type-options"] == "nosniff"
        assert asset.headers["content-type"].partition(";")[0] == TYPES[name.rpartition(".")[2]]
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|<style|\bon[a-z]+=", html)


def test_what_a_browser_has_it_is_not_sent_again(server: Server) -> None:
    first = ask(server, "/-/assets/app.js")
    again = ask(server, "/-/assets/app.js", f"if-none-match: {first.headers['etag']}")
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("path", ["/-/assets/../dashboard.py", "/-/assets/%2e%2e", "/-/assets/none.js", "/-/", "/-/x"])
def test_nothing_else_is_there(server: Server, path: str) -> None:
    assert ask(server, path).status == 404


def test_head_says_the_same_without_a_body(server: Server) -> None:
    whole = ask(server, "/-/assets/app.css")
    head = ask(server, "/-/assets/app.css", method="HEAD")
    assert (head.status, head.headers["content-length"]) == (200, str(len(whole.body)))


def test_what_only_changes_something_is_not_to_be_read_and_the_reverse(server: Server) -> None:
    answer = ask(server, "/-/live", method="POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_no_page_of_another_origin_may_read_it(server: Server) -> None:
    answer = ask(server, "/-/live", "origin: https://shop.example")
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_it_says_how_the_queue_is(server: Server) -> None:
    live = ask(server, "/-/live").json
    assert live["overview"]["queued"] == 0
    assert [workload["name"] for workload in live["workloads"]] == ["orders"]
    assert live["status"] == "ok"
