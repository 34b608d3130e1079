"""MiniStack, AWS's services on this machine, as a real process that a test session starts once. For tests only."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.support import wheels

TOOLS = Path(__file__).parents[2] / ".venv-aws-tools" / "bin"
# To tell a service that it lacks from a name that is none, it reads the models of all of AWS's: five seconds, in each
# emulator. Deploying asks for one such service.
LAUNCH = """
from ministack.core import router

router._KNOWN_AWS_SERVICE_NAMES = frozenset({"servicequotas"})

from ministack.app import main

main()
"""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def environment(endpoint: str) -> dict[str, str]:
    """The environment in which the AWS CLI and botocore call MiniStack, and builds take their wheels from here."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **inherited,
        **wheels.at_hand(),
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": endpoint,
        "PATH": f"{TOOLS}:{os.environ['PATH']}",
    }


@contextmanager
def running(directory: Path, extra: Mapping[str, str] | None = None, port: int | None = None) -> Iterator[str]:
    """Start it on a port of the loopback, a free one by default; its URL; stop it."""
    port = port or free_port()
    endpoint = f"http://127.0.0.1:{port}"
    settings = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "TMPDIR": str(directory),
        **(extra or {}),
    }
    with (directory / "ministack.log").open("wb") as log:
        process = _start(log, directory, {**environment(endpoint), **settings})
        try:
            _wait_until_ready(endpoint, process)
            yield endpoint
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(log: IO[bytes], directory: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    command = (TOOLS / "python", "-P", "-c", LAUNCH)
    return subprocess.Popen(command, cwd=directory, env=env, stdout=log, stderr=subprocess.STDOUT)


def _wait_until_ready(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"MiniStack ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("MiniStack did not start in 30 s")
