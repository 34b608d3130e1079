"""Who gets at the page of a real server, and what hostile requests get."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.certificates import Files
from tests.support.dead_letters import AN_ORDER
from tests.support.page import BROWSER, ask, code_of, dashboard, post, signed_in
from tests.support.server import ROOT, Server, decoupled, free_port, serving, wait_for

HIDDEN = ["/-/live", "/-/history"]


@pytest.fixture(scope="module", params=["0", "2"])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks its callers for keys."""
    data = tmp_path_factory.mktemp("asked") / "data"
    decoupled("keys", "add", "shop", "--data", data)
    with serving(data, "--auth", "keys", "--operators", "key:boss", "--fronts", request.param) as server:
        yield server


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks nobody."""
    with serving(tmp_path_factory.mktemp("open") / "data", "--fronts", "1") as server:
        yield server


def may(server: Server, *headers: str) -> dict[str, object]:
    answer: dict[str, object] = ask(server, "/-/access", *headers).json
    return answer


# --- with keys ----------------------------------------------------------------


def test_before_signing_in_there_is_the_page_and_nothing_in_it(asked: Server) -> None:
    assert ask(asked, "/", BROWSER).status == 200
    assert ask(asked, "/-/assets/app.js").status == 200
    assert [ask(asked, path).status for path in [*HIDDEN, "/metrics"]] == [401, 401, 401]
    assert may(asked) == {"see": False, "change": False, "name": "", "how": ["code", "key"]}


def test_the_code_of_the_command_signs_in_and_out(asked: Server) -> None:
    cookie = signed_in(asked, code=code_of(asked.data))
    assert may(asked, cookie) == {"see": True, "change": True, "name": "operator", "how": ["code", "key"]}
    assert ask(asked, "/-/live", cookie).json["access"]["change"] is True
    answer = post(asked, "/-/sign-out", None, cookie)
    assert "Max-Age=0" in answer.headers["set-cookie"]


def test_the_secret_is_for_its_owner_and_to_delete_it_ends_all_sessions(asked: Server) -> None:
    cookie = signed_in(asked, code=code_of(asked.data))
    secret = asked.data / "page.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.unlink()
    assert may(asked, cookie)["see"] is False
    assert ask(asked, "/-/live", cookie).status == 401
    assert may(asked, signed_in(asked, code=code_of(asked.data)))["see"] is True


def test_an_operators_key_signs_in_until_it_is_revoked(asked: Server) -> None:
    boss = decoupled("keys", "add", "boss", "--data", asked.data)
    cookie = signed_in(asked, key=boss)
    assert may(asked, cookie)["name"] == "key:boss"
    assert ask(asked, "/-/live", cookie).status == 200
    decoupled("keys", "revoke", "boss", "--data", asked.data)
    assert ask(asked, "/-/live", cookie).status == 401
    assert post(asked, "/-/sign-in", {"key": boss}).status == 403


def test_a_key_that_is_no_operators_opens_nothing(asked: Server) -> None:
    key = decoupled("keys", "add", "guest", "--data", asked.data)
    assert post(asked, "/-/sign-in", {"key": key}).status == 403
    header = f"authorization: Bearer {key}"
    wait_for(lambda: ask(asked, "/ledger/none", header).status, lambda status: status != 401)
    assert [ask(asked, path, header).status for path in [*HIDDEN, "/metrics"]] == [401, 401, 401]


def test_the_key_of_an_operator_for_some_workloads_opens_nothing(asked: Server) -> None:
    chosen = {"part": ["--workloads", "ledger"], "whole": []}
    keys = [decoupled("keys", "add", name, "--operator", *some, "--data", asked.data) for name, some in chosen.items()]
    assert [post(asked, "/-/sign-in", {"key": key}).status for key in keys] == [403, 200]
    part, whole = (f"authorization: Bearer {key}" for key in keys)
    for path in [*HIDDEN, "/metrics"]:
        wait_for(lambda path=path: ask(asked, path, whole).status, lambda status: status == 200)  # type: ignore[misc]
        assert ask(asked, path, part).status == 401


def test_forged_truncated_and_foreign_sessions_open_nothing(asked: Server, open_: Server) -> None:
    cookie = signed_in(asked, code=code_of(asked.data))
    foreign = signed_in(open_, code=code_of(open_.data))
    name = cookie.partition("=")[0]
    almost = [cookie[:-1], cookie[:-20], f"{cookie}A", foreign, f"{name}={foreign.partition('=')[2]}", f"{name}="]
    assert [ask(asked, "/-/live", given).status for given in almost] == [401] * len(almost)
    assert post(asked, "/-/sign-in", {"code": code_of(open_.data)}).status == 403


# --- without ------------------------------------------------------------------


def test_where_nobody_is_asked_everybody_sees_and_nobody_changes(open_: Server) -> None:
    assert may(open_) == {"see": True, "change": False, "name": "", "how": ["code"]}
    assert ask(open_, "/-/live").status == 200
    assert may(open_, signed_in(open_, code=code_of(open_.data)))["change"] is True


@pytest.mark.parametrize("path", ["/", "/-/live", "/-/access", "/-/history", "/metrics"])
def test_a_name_that_was_pointed_to_this_machine_shows_nothing(open_: Server, path: str) -> None:
    assert ask(open_, path, BROWSER, host=f"evil.example:{open_.port}").status == 403
    assert ask(open_, path, BROWSER, host=f"localhost:{open_.port}").status != 403


def test_another_origins_page_cannot_sign_in_or_change(open_: Server) -> None:
    """What a form can send, and what fetch can without being asked."""
    body = {"code": code_of(open_.data)}
    assert ask(open_, "/-/sign-in", "content-type: text/plain", method="POST", body=body).status == 403
    assert post(open_, "/-/sign-in", body, "sec-fetch-site: same-site").status == 403
    preflight = ask(
        open_,
        "/-/sign-in",
        "origin: https://evil.example",
        "access-control-request-method: POST",
        "access-control-request-headers: x-decoupled",
        method="OPTIONS",
    )
    assert preflight.status == 405
    assert not [name for name in preflight.headers if name.startswith("access-control-")]


def test_a_session_is_no_key_to_the_api(asked: Server) -> None:
    cookie = signed_in(asked, code=code_of(asked.data))
    assert ask(asked, "/orders/none", cookie).status == 401


def test_a_large_body_is_refused(open_: Server) -> None:
    assert post(open_, "/-/sign-in", {"code": "x" * 300_000}).status == 413


# --- options ------------------------------------------------------------------


def test_without_a_page_there_is_none(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--page", "off", "--fronts", "1") as server:
        assert [ask(server, path, BROWSER).status for path in ["/", "/-/live", "/-/assets/app.js"]] == [404] * 3
        assert "runs with --page off" in decoupled("sign-in", "--data", server.data, status=1)


def test_who_says_insecure_may_be_called_anything(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--insecure", "--fronts", "1") as server:
        assert ask(server, "/-/live", host="shop.internal").status == 200


def test_there_is_a_link_only_where_a_server_runs(tmp_path: Path) -> None:
    assert "no server of" in decoupled("sign-in", "--data", tmp_path, status=1)
    assert not (tmp_path / "page.secret").exists()


def test_with_tls_the_cookie_goes_no_other_way(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.issue()
    server = Server(tmp_path / "data", "--fronts", "1", *files.options)
    server.trusts = files.trusts()
    try:
        server.start()
        assert decoupled("sign-in", "--data", server.data).startswith(f"https://127.0.0.1:{server.port}/#code=")
        answer = post(server, "/-/sign-in", {"code": code_of(server.data)})
        assert answer.headers["set-cookie"].endswith("; Secure")
        assert may(server, f"cookie: {answer.headers['set-cookie'].partition(';')[0]}")["change"] is True
        assert ask(server, "/-/live").json["status"] == "ok"
        assert server.stop() == 0
    finally:
        server.end()


def test_two_servers_of_one_host_keep_their_sessions_apart(open_: Server, tmp_path: Path) -> None:
    """A browser sends both cookies to both: it does not tell ports apart."""
    with serving(tmp_path / "data", "--fronts", "1") as other:
        cookies = [signed_in(server, code=code_of(server.data)).partition(": ")[2] for server in (open_, other)]
        both = f"cookie: {'; '.join(cookies)}"
        assert may(open_, both)["change"] is True
        assert may(other, both)["change"] is True


# --- a process of its own -----------------------------------------------------


def test_the_page_of_a_running_server_is_also_shown_from_beside(open_: Server) -> None:
    with dashboard("--data", open_.data) as beside:
        assert ask(beside, "/-/live").status == 401
        live = ask(beside, "/-/live", signed_in(beside, code=beside.code)).json
        assert (live["status"], live["access"]["change"]) == ("ok", True)
        assert live["workloads"][0].get("form", False) is False
        assert ask(beside, "/orders").status == 404


def test_it_is_shown_while_no_server_runs_and_lets_one_start(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--fronts", "1") as server:
        pass
    with dashboard("--data", server.data, "--read-only") as beside:
        cookie = signed_in(beside, code=beside.code)
        live = ask(beside, "/-/live", cookie).json
        assert (live["status"], live["access"]["change"]) == ("not running", False)
        assert live["boxes"]["front"] == {"colour": "bad", "why": "the server does not run"}
        server.start()
        assert wait_for(lambda: ask(beside, "/-/live", cookie).json["status"], lambda it: it == "ok")
        assert server.stop() == 0


def test_another_file_in_its_place_is_noticed(tmp_path: Path) -> None:
    with serving(tmp_path / "one", "--fronts", "1") as one, serving(tmp_path / "two", "--fronts", "1") as two:
        two.accept("/orders", *[msgspec.json.decode(AN_ORDER)] * 3)
        two.wait_until_settled()
    with dashboard("--data", one.data) as beside:
        cookie = signed_in(beside, code=beside.code)
        assert ask(beside, "/-/live", cookie).json["overview"]["processed"] == 0
        (two.data / "decoupled.sqlite3").replace(one.data / "decoupled.sqlite3")
        seen = wait_for(lambda: ask(beside, "/-/live", cookie).json["overview"]["processed"], lambda it: it)
        assert seen == 3


@pytest.mark.parametrize("whose", ["another program's", "an older version's"])
def test_a_file_that_cannot_be_shown_is_told_of_and_gets_no_secret(tmp_path: Path, whose: str) -> None:
    file = tmp_path / "decoupled.sqlite3"
    if whose == "an older version's":
        shutil.copy(ROOT / "tests" / "support" / "data" / "schema-4" / file.name, file)
        why = "has schema version 4"
    else:
        with contextlib.closing(sqlite3.connect(file)) as another:
            another.execute("CREATE TABLE notes (text)")
        why = "is a SQLite file of another program"
    assert why in decoupled("dashboard", "--data", tmp_path, "--port", "0", status=1)
    assert not (tmp_path / "page.secret").exists()


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    assert "there is no" in decoupled("dashboard", "--data", tmp_path, status=1)
    with socket.socket() as taken, serving(tmp_path / "data", "--fronts", "1") as server:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "cannot listen" in decoupled("dashboard", "--data", server.data, "--port", port, status=1)
