"""The page's requests as a browser sends them, over a bare connection; and signing in."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from tests.support.server import DECOUPLED, Answer, Client, decoupled

BROWSER = "accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"


def ask(
    server: Any,
    path: str,
    *headers: str,
    method: str = "GET",
    host: str = "127.0.0.1",
    body: Any = None,
) -> Answer:
    """One request. With a body, as the page itself sends it: the headers that it adds are the caller's to say."""
    content = b"" if body is None else msgspec.json.encode(body)
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *headers]
    if method == "POST":
        lines.append(f"content-length: {len(content)}")
    with Client(server) as client:
        client.send("\r\n".join([*lines, "", ""]).encode("latin-1") + content)
        return client.answer(to_head=method == "HEAD")


def post(server: Any, path: str, body: Any, *headers: str, host: str = "127.0.0.1") -> Answer:
    """From the page itself."""
    return ask(server, path, "x-decoupled: page", *headers, method="POST", body=body, host=host)


def code_of(data: Path) -> str:
    """What `decoupled sign-in` prints, without the URL."""
    return decoupled("sign-in", "--data", data).partition("#code=")[2]


def signed_in(server: Any, **given: str) -> str:
    """The header with the session's cookie, as a browser sends it back."""
    answer = post(server, "/-/sign-in", given)
    assert answer.status == 200, answer
    return f"cookie: {answer.headers['set-cookie'].partition(';')[0]}"


@contextmanager
def dashboard(*options: str | Path, environment: Mapping[str, str] | None = None) -> Iterator[Any]:
    """`decoupled dashboard` on a free port: what `ask` takes, with its `code` and its `url`. It must end when asked."""
    process = subprocess.Popen(
        [str(DECOUPLED), "dashboard", "--port", "0", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        url, _, code = said.strip().partition("/#code=")
        assert code, said + process.stdout.read()
        port = int(url.rpartition(":")[2])
        yield SimpleNamespace(port=port, trusts=None, url=url, code=code, pid=process.pid)
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(timeout=20)
