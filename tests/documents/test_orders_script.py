"""scripts/test-orders.sh: passes against a real server, signs as AWS wants it, and fails when something is wrong."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.server import ROOT
from tests.support.signing import KEY, SECRET, TOKEN, signed

SCRIPT = ROOT / "scripts" / "test-orders.sh"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [SCRIPT, *arguments], env={**clean, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def test_it_passes_against_a_real_server_again_and_again(endpoint: str) -> None:
    for url in (endpoint, f"{endpoint}/"):
        result = run(url)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "13 orders accepted, all stored with the right totals" in result.stdout


def test_it_signs_every_request_as_aws_wants_it(front: Callable[..., str]) -> None:
    credentials = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    url = front(admits=signed)
    result = run(url, SIGN="aws", AWS_REGION="eu-west-1", **credentials)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "signed with SigV4 for eu-west-1" in result.stdout
    assert run(url, SIGN="aws", AWS_REGION="eu-west-2", **credentials).returncode == 1
    assert run(url, **credentials).returncode == 1, "not an AWS host, so it was not to sign unasked"


def test_it_sends_a_bearer_token(front: Callable[..., str]) -> None:
    url = front(admits=lambda request, body: request.headers.get("authorization") == "Bearer abc.def")
    assert run(url, TOKEN="abc.def").returncode == 0  # noqa: S106
    assert run(url, TOKEN="other").returncode == 1  # noqa: S106


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (b'"total":"0.30"', b'"total":"0.30000000000000004"', "total of"),
        (b'"status":"processed"', b'"status":"dead"', "status of"),
        (b'"pointer":"#/total"', b'"pointer":"#"', "body"),
        (b'"index":2', b'"index":1', "body"),
        (b'"status":415', b'"status":400', "status in the problem"),
        (b'"id":', b'"ID":', "id"),
    ],
)
def test_it_fails_at_the_first_mismatch_and_says_what_it_expected(
    front: Callable[..., str], old: bytes, new: bytes, what: str
) -> None:
    result = run(front(change=lambda request, answer: answer.replace(old, new)), WAIT_S="5")
    assert result.returncode == 1
    assert re.search(rf"MISMATCH in {what}.*\n  expected: .*\n  got: ", result.stderr), result.stderr


def test_an_order_that_is_never_stored_is_a_mismatch(front: Callable[..., str]) -> None:
    queued = b'{"id":"x","status":"queued"}'
    forever_queued = front(change=lambda request, answer: queued if b'"processed"' in answer else answer)
    result = run(forever_queued, WAIT_S="1")
    assert result.returncode == 1
    assert "stored within 1 s" in result.stderr


def test_nobody_there_is_an_error_and_so_is_no_url() -> None:
    assert "cannot reach" in run("http://127.0.0.1:9").stderr
    for arguments in ((), ("ftp://x",), ("a", "b")):
        assert run(*arguments).returncode == 2
    assert "AWS_REGION" in run("https://api.example.com", SIGN="aws").stderr
    assert Path(SCRIPT).stat().st_mode & 0o111
