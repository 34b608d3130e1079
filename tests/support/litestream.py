"""Litestream itself beside a server, as `decoupled unit litestream.yml` has it configured. For tests only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.server import DECOUPLED, Server, decoupled, wait_for

LITESTREAM = Path(sys.executable).with_name("litestream")


class Litestream:
    """Of one server's data; started, killed and started again as often as a test likes."""

    def __init__(self, data: Path, target: str, environment: Mapping[str, str] | None = None) -> None:
        self.target = target
        self.directory = data.parent
        self.config = self.directory / f"{data.name}.litestream.yml"
        self.log = self.directory / f"{data.name}.litestream.log"
        self.environment = {**os.environ, **(environment or {})}
        self.program: Sequence[str] = (str(LITESTREAM),)
        self.process: subprocess.Popen[bytes] | None = None
        (self.directory / "decoupled.toml").write_text("")
        variables = {**self.environment, "DECOUPLED_REPLICA": target, "DECOUPLED_DATA": str(data)}
        self.config.write_text(decoupled("unit", "litestream.yml", cwd=self.directory, env=variables))

    def start(self) -> Litestream:
        with self.log.open("ab") as log:
            command = [*self.program, "replicate", "-config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
        return self

    def kill(self) -> None:
        """As a crash does. Harmless if it has ended."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """As systemd does; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def told(server: Server) -> dict[str, Any]:
    """What the server says of its replica."""
    said: dict[str, Any] = server.get("/health").json["upkeep"]["replica"]
    return said


def wait_until_there(server: Server, seconds: float = 60) -> dict[str, Any]:
    """Until all that was accepted before this is in the replica."""
    server.accept("/ledger", {"account": 999, "amount": 1})
    highest = max(row[0] for row in server.rows("SELECT seq FROM messages"))
    assert highest
    before = told(server)["looks"]
    return wait_for(lambda: told(server), lambda it: it["lag_bytes"] == 0 and it["looks"] > before + 1, seconds)


def audited(data: Path, ids: Path) -> dict[str, Any]:
    """What `decoupled audit` finds, which ends with 1 if that is a fault."""
    command = [DECOUPLED, "audit", "--data", data, "--ledger", ids, "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode in (0, 1), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
