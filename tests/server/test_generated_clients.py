"""Clients that others' programs make of the document, used on both engines: in Python and in TypeScript."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decoupled.pipeline.loading import load
from decoupled.pipeline.openapi.document import document
from tests.support import api_tools, stack
from tests.support.engines import AwsEngine
from tests.support.server import DECOUPLED, ROOT, serving

NAMES = ("orders", "readings")
SUPPORT = ROOT / "tests/support"
MODULES = ROOT / "build/typescript/node_modules"  # of `make typescript`
SEEN = {
    "same": True,
    "total": "79.80",
    "rejected": [[1, 422]],
    "refused": [422, ["#/lines"]],
    "missing": 404,
}


@pytest.fixture(scope="module")
def a_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("clients") / "data", "--workloads", ",".join(NAMES)) as server:
        yield server.url


@pytest.fixture(scope="module")
def a_server_with_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    data = tmp_path_factory.mktemp("clients") / "keys"
    typed = [str(DECOUPLED), "keys", "add", "shop", "--data", str(data)]
    key = subprocess.run(typed, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    with serving(data, "--auth", "keys", "--workloads", ",".join(NAMES)) as server:
        yield server.url, key


@pytest.fixture
def a_stack(moto_engine: AwsEngine) -> Iterator[str]:
    with stack.serving(moto_engine, load(NAMES)) as url:
        yield url


@pytest.fixture(params=["a_server", "a_server_with_keys", "a_stack"])
def api(request: pytest.FixtureRequest) -> tuple[list[str], Any]:
    """Where it is, with a key if it asks for one; and its document."""
    where = request.getfixturevalue(request.param)
    aws = "NONE" if request.param == "a_stack" else None
    auth = ("keys",) if request.param == "a_server_with_keys" else ()
    return [where] if isinstance(where, str) else list(where), document(load(NAMES), aws=aws, auth=auth)


def test_a_python_client_is_made_and_used(api: tuple[list[str], Any], tmp_path: Path) -> None:
    where, made = api
    source = api_tools.saved(made, tmp_path)
    api_tools.run(
        *("openapi-python-client", "generate", "--meta", "none", "--fail-on-warning"),
        *("--path", source, "--output-path", tmp_path / "made"),
        directory=tmp_path,
    )
    shutil.copy(SUPPORT / "python_client.py", tmp_path / "client.py")
    assert json.loads(api_tools.run(tmp_path / "client.py", *where, directory=tmp_path)) == SEEN


def test_a_typescript_client_is_made_and_used(api: tuple[list[str], Any], tmp_path: Path) -> None:
    if not MODULES.is_dir():
        pytest.skip("`make typescript` found no npm, and so there is no TypeScript here")
    where, made = api
    api_tools.saved(made, tmp_path)
    for name in ("client.ts", "tsconfig.json", "package.json"):
        shutil.copy(SUPPORT / "typescript" / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(MODULES)

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("node", MODULES / "openapi-typescript/bin/cli.js", "openapi.json", "--output", "api.d.ts")
    run("node", MODULES / "typescript/bin/tsc")
    assert json.loads(run("node", "out/client.js", *where)) == SEEN
