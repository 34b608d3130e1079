"""The README's commands, typed as they are printed, in a copy of the checkout, against the server that its first
command starts; and what it says of files, options and limits. A document that lies fails."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from decoupled.core import limits
from tests.support.checkout import copy_to, environment
from tests.support.server import DECOUPLED, ROOT

README = (ROOT / "README.md").read_text()
PORT = 8080  # the printed commands name it
WITHIN_S = 60


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", README, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


START = sections()["Sixty seconds"]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WITHIN_S} s: {what}"
        time.sleep(0.1)


def listening() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the checkout in which the first command of the README runs. It uses the environment that is installed,
    and has data of its own."""
    copy = tmp_path_factory.mktemp("readme") / "decoupled"
    copy_to(copy)
    (copy / ".venv").symlink_to(Path(sys.executable).parent.parent)
    wait_until(lambda: not listening(), f"port {PORT} is free")
    first = blocks(START, "sh")[0]
    with (copy.parent / "log").open("w+") as log:
        command = ["bash", "-ec", first]
        server = subprocess.Popen(command, cwd=copy, env=environment(), stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(lambda: listening() or server.poll() is not None, "the server listens")
            assert server.poll() is None, (copy.parent / "log").read_text()
            yield copy
        finally:
            os.killpg(server.pid, signal.SIGINT)  # as Ctrl-C does
            server.wait(WITHIN_S)


def typed(command: str, checkout: Path) -> str:
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_commands_do_what_the_text_says(checkout: Path) -> None:
    run, post, get, check = blocks(START, "sh")
    assert run == "make run\n"
    answer = typed(post, checkout)
    assert answer.startswith("HTTP/1.1 202")
    assert json.loads(answer.splitlines()[-1])["status_url"] in get
    wait_until(lambda: '"processed"' in typed(get, checkout), "the order is processed")
    (printed,) = [json.loads(block) for block in blocks(START, "json")]
    shown = json.loads(typed(get, checkout))
    assert shown.keys() == printed.keys()
    for times in ("accepted_at", "processed_at"):
        assert re.sub(r"\d", "0", shown[times]) == re.sub(r"\d", "0", printed[times])
        printed[times] = shown[times]
    assert shown == printed
    assert "all stored with the right totals" in typed(check, checkout)


def test_ci_runs_every_other_command() -> None:
    """`make` with several targets at once is each of them."""
    ci = (ROOT / ".ci" / "run").read_text()
    made = {target for line in re.findall(r"^run make ([^#\n]+)", ci, re.MULTILINE) for target in line.split()}
    others = [block for title, text in sections().items() if text != START for block in blocks(text, "sh")]
    lines = [line for block in others for line in block.splitlines()]
    assert lines
    for line in lines:
        assert line.removeprefix("make ") in made


def test_every_file_that_the_documents_name_is_there() -> None:
    for document in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md"):
        text = (ROOT / document).read_text()
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            relative = Path(target)
            assert (ROOT / relative).exists(), f"{document} links to {relative}"


def test_every_option_of_serve_is_in_the_readme_and_no_other() -> None:
    help_text = subprocess.check_output([DECOUPLED, "serve", "--help"], text=True)
    options = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", help_text, flags=re.MULTILINE)) - {"--help"}
    table = sections()["Running it on one machine"]
    assert set(re.findall(r"^\| .*$", table, flags=re.MULTILINE))
    documented = {
        option for row in re.findall(r"^\|([^|]*)\|", table, re.MULTILINE) for option in re.findall(r"--[a-z-]+", row)
    }
    assert documented - {"---"} == options


def test_the_limits_in_the_readme_are_those_of_the_code() -> None:
    assert f"{limits.MAX_REQUEST_BYTES // limits.MIB} MiB a request" in README
    assert f"{limits.MAX_ENTRY_BYTES // limits.KIB} KiB an entry" in README
    assert f"an array of up to {limits.MAX_BATCH_ENTRIES:,}" in README
    assert (limits.BACKOFF_FIRST_S, limits.BACKOFF_CAP_S, limits.MAX_ATTEMPTS) == (2.0, 15 * 60, 5)


def test_the_python_that_is_asked_for_is_the_python_that_is_needed() -> None:
    assert "Python 3.11 or newer" in README
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()
