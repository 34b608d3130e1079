"""`decoupled serve --auth jwt`, and an issuer beside it that is asked for its keys: over HTTP or TLS, with fronts or
without, gone and back."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support import issuer as issuers
from tests.support.events import ORDER
from tests.support.issuer import Issuer, Keyset
from tests.support.server import DECOUPLED, Answer, Server, free_port, serving, wait_for

FORGED = 300


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuers.answering(one="RSA") as issuer:
        yield issuer


def options(issuer: Issuer, *more: str, auth: str = "jwt") -> tuple[str, ...]:
    operator = f"jwt:{issuer.url}#ops"
    asked = ("--auth", auth, "--jwt-issuer", issuer.url, "--jwt-audience", "shop,till", "--operators", operator)
    return (*asked, "--workloads", "orders", *more)


@pytest.fixture(scope="module", params=["2", "0"], ids=["fronts", "inside"])
def server(
    request: pytest.FixtureRequest, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """With two fronts, and with none."""
    data = tmp_path_factory.mktemp("tokens") / "data"
    with serving(data, *options(issuer, "--fronts", request.param)) as server:
        yield server


def ask(server: Server, token: str, path: str = "/orders/nothing", entry: Any = None, **headers: str) -> Answer:
    fields = {"content-type": "application/json", "authorization": f"Bearer {token}", **headers}
    if entry is None:
        return server.ask("GET", path, headers=fields)
    return server.ask("POST", path, json.dumps(entry).encode(), fields)


def status_of(server: Server, token: str, path: str = "/orders/nothing") -> int:
    return ask(server, token, path).status


def test_right_after_its_start_a_server_knows_the_keys(server: Server, issuer: Issuer) -> None:
    assert status_of(server, issuer.token()) == 404
    assert server.get("/health").json["status"] == "ok"


def test_two_callers_with_one_idempotency_key_have_two_orders_and_an_operator_sees_both(
    server: Server, issuer: Issuer
) -> None:
    paths = []
    for name in ("ana", "ben"):
        answers = [
            ask(server, issuer.token(sub=name, jti=jti), "/orders", ORDER, **{"idempotency-key": "1001"})
            for jti in ("first", "second")
        ]
        assert [answer.status for answer in answers] == [202, 202]
        assert answers[0].json == answers[1].json
        paths.append(answers[0].json["status_url"])
    ana, ben = paths
    assert [status_of(server, issuer.token(sub="ana"), path) for path in paths] == [200, 404]
    assert [status_of(server, issuer.token(sub="ops"), path) for path in (ana, ben)] == [200, 200]
    assert server.rows("SELECT DISTINCT caller FROM messages ORDER BY caller") == [
        (f"jwt:{issuer.url}#ana",),
        (f"jwt:{issuer.url}#ben",),
    ]


def test_who_has_no_token_or_a_wrong_one_is_told_as_rfc_6750_has_it(server: Server, issuer: Issuer) -> None:
    none = server.get("/orders/x")
    assert (none.status, none.headers["www-authenticate"]) == (401, "Bearer")
    wrong = ask(server, issuer.token(exp=1))
    assert wrong.status == 401
    assert wrong.headers["www-authenticate"] == (
        'Bearer error="invalid_token", error_description="The token has expired"'
    )
    assert server.ask("GET", "/orders/x", headers={"x-api-key": issuer.token()}).status == 401


def test_forged_tokens_let_nobody_in(server: Server, issuer: Issuer) -> None:
    chance = random.Random(13)
    mine = Keyset(one="RSA")
    mine.url = issuer.url
    real = issuer.token()
    head, body, signature = real.split(".")
    other = mine.token(sub="ops").split(".")[1]
    forged = [
        mine.token(),
        issuer.token(iss="https://evil.example"),
        issuer.token(aud="another"),
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        f"eyJhbGciOiJub25lIiwia2lkIjoib25lIn0.{body}.",
        f"eyJhbGciOiJIUzI1NiIsImtpZCI6Im9uZSJ9.{body}.{signature}",
    ]
    for _ in range(FORGED):
        place = chance.randrange(len(real))
        forged.append(real[:place] + chance.choice([c for c in "AZaz09-_." if c != real[place]]) + real[place + 1 :])
    told = {ask(server, token).status for token in forged}
    assert told <= {401, 503}  # a letter of the key's id may be wrong, too
    assert status_of(server, real) == 404


def test_a_token_is_in_no_log(server: Server, issuer: Issuer) -> None:
    tokens = [issuer.token(), issuer.token(exp=1), "x" * 9_000]
    said = [ask(server, token).body.decode() for token in tokens]
    assert not [token for token in tokens for text in (*said, server.log.read_text()) if token[-40:] in text]


def test_every_front_takes_a_new_key_and_lets_go_of_the_old_one(server: Server, issuer: Issuer) -> None:
    old = issuer.token()
    before = issuer.keys.pop("one")
    issuer.add("two")
    new = issuer.token("two")
    try:
        # Whoever shows the new key has its front ask, and sees that the old one is gone there.
        for _ in range(20):
            wait_for(lambda: ask(server, new).status, lambda status: status == 404, 60)
        wait_for(lambda: {status_of(server, old) for _ in range(20)}, lambda told: told == {401}, 60)
    finally:
        issuer.keys = {"one": before}


def test_an_issuer_that_is_gone_shuts_nobody_out_and_a_front_that_starts_then_says_so(
    tmp_path: Path, issuer: Issuer
) -> None:
    with serving(tmp_path / "data", *options(issuer, "--fronts", "1")) as server:
        token = issuer.token()
        assert status_of(server, token) == 404
        issuer.gone = True
        try:
            assert status_of(server, issuer.token(sub="ben")) == 404
            os.kill(server.fronts()[0], signal.SIGKILL)
            health = wait_for(lambda: _health(server), lambda told: "nobody can be let in" in str(told.get("detail")))
            assert health["status"] == "unavailable"
            answer = ask(server, token)
            assert (answer.status, answer.json["resend"]) == (503, "safe")
            assert int(answer.headers["retry-after"]) >= 1
        finally:
            issuer.gone = False
        wait_for(lambda: status_of(server, token), lambda status: status == 404, 60)
        wait_for(lambda: _health(server).get("status"), lambda status: status == "ok")
        assert "the issuer's keys cannot be fetched" in [line["message"] for line in server.log_lines()]


def _health(server: Server) -> dict[str, Any]:
    """Nothing if the front that was asked has just died."""
    try:
        return dict(server.get("/health").json)
    except OSError:
        return {}


RENEWED_WITHIN_S = 60


def test_fronts_that_are_renewed_know_the_keys_before_they_have_clients(tmp_path: Path, issuer: Issuer) -> None:
    with serving(tmp_path / "data", *options(issuer, "--fronts", "2")) as server:
        old = wait_for(lambda: set(server.fronts()), lambda fronts: len(fronts) == 2)
        os.kill(server.pid, signal.SIGHUP)
        told = set()

        def others() -> set[int]:
            told.add(status_of(server, issuer.token()))
            return set(server.fronts())

        wait_for(others, lambda fronts: len(fronts) == 2 and not old & fronts, RENEWED_WITHIN_S)
        assert told == {404}


def test_an_issuer_over_tls_is_asked_only_if_its_certificate_is_good(tmp_path: Path) -> None:
    authority = trustme.CA()
    with issuers.answering(authority, one="RSA") as issuer:
        trusted = issuers.trusting(authority, tmp_path)
        with serving(tmp_path / "data", *options(issuer, "--fronts", "0"), environment=trusted) as server:
            assert status_of(server, issuer.token()) == 404
        with serving(tmp_path / "data", *options(issuer, "--fronts", "0")) as server:
            assert ask(server, issuer.token()).status == 503
            assert "certificate" in server.get("/health").json["detail"]


@pytest.mark.parametrize(
    ("path", "says", "why"),
    [
        ("/.well-known/openid-configuration", (404, b"{}"), "openid-configuration answers 404"),
        ("/.well-known/openid-configuration", (301, b""), "answers 301"),
        ("/.well-known/openid-configuration", (200, b"<html>"), "is no OpenID configuration"),
        ("/.well-known/openid-configuration", (200, b'{"issuer": "x", "jwks_uri": "x"}'), "is that of the issuer 'x'"),
        ("/keys", (500, b""), "/keys answers 500"),
        ("/keys", (200, b"{}"), "no JWK Set"),
        ("/keys", (200, b" " * 300_000), "answers with over 262144 bytes"),
    ],
)
def test_what_an_issuer_says_wrong_is_told_by_health(
    path: str, says: tuple[int, bytes], why: str, tmp_path: Path, issuer: Issuer
) -> None:
    issuer.says = {path: says}
    try:
        with serving(tmp_path / "data", *options(issuer, "--fronts", "0")) as server:
            detail = server.get("/health").json["detail"]
    finally:
        issuer.says = {}
    assert why in detail


def test_keys_that_would_come_unprotected_are_not_asked_for(tmp_path: Path, issuer: Issuer) -> None:
    told = json.dumps({"issuer": issuer.url, "jwks_uri": "http://keys.example/"}).encode()
    issuer.says = {"/.well-known/openid-configuration": (200, told)}
    try:
        with serving(tmp_path / "data", *options(issuer, "--fronts", "0")) as server:
            assert "names keys that anybody could replace" in server.get("/health").json["detail"]
    finally:
        issuer.says = {}


def test_keys_and_tokens_are_taken_side_by_side(tmp_path: Path, issuer: Issuer) -> None:
    typed = [str(DECOUPLED), "keys", "add", "shop", "--data", str(tmp_path / "data")]
    key = subprocess.run(typed, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    with serving(tmp_path / "data", *options(issuer, auth="keys,jwt")) as server:
        assert status_of(server, key) == status_of(server, issuer.token()) == 404
        assert server.ask("GET", "/orders/x", headers={"x-api-key": key}).status == 404
        assert status_of(server, key[:-1] + "x") == 401
        both = {"x-api-key": key, "authorization": f"Bearer {issuer.token()}"}
        assert server.ask("GET", "/orders/x", headers=both).status == 401


def test_a_server_that_could_take_no_token_does_not_start(tmp_path: Path) -> None:
    typed = [str(DECOUPLED), "serve", "--data", str(tmp_path / "data"), "--port", str(free_port()), "--auth", "jwt"]
    for more, why in (
        ([], "tokens need all of"),
        (["--jwt-issuer", "http://login.example", "--jwt-audience", "x"], "jwt_issuer is 'http://login.example'"),
    ):
        done = subprocess.run([*typed, *more], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert why in done.stderr
        assert "Traceback" not in done.stderr
