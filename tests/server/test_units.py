"""The systemd units that `decoupled unit` prints: what systemd says of them, and that a server does its work within
what they forbid."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from decoupled.cli.unit import text_of
from decoupled.server.options import Options
from decoupled.workloads.orders import WORKLOAD as ORDERS
from tests.support.litestream import LITESTREAM, Litestream, wait_until_there
from tests.support.managed import Managed
from tests.support.server import DECOUPLED, ROOT, decoupled, serving, wait_for

MOST_EXPOSED = 16  # tenths, of systemd's 0.0 to 10.0; 1.4 as of systemd 252
CONFINED = (sys.executable, "-P", str(ROOT / "tests" / "support" / "confined.py"))
HAS_SYSTEMD = shutil.which("systemd-analyze") is not None
needs_systemd = pytest.mark.skipif(not HAS_SYSTEMD, reason="there is no systemd-analyze")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A directory that has both."""
    for kind in ("service", "socket"):
        (tmp_path / f"decoupled.{kind}").write_text(text_of(kind, Options(drain_s=30), DECOUPLED, Path("/srv/shop")))
    return tmp_path


def analyzed(*arguments: str | Path) -> str:
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_systemd
def test_systemd_finds_nothing_wrong_with_them(units: Path) -> None:
    assert analyzed("verify", "--man=no", units / "decoupled.service", units / "decoupled.socket") == ""


@needs_systemd
def test_nor_with_the_one_of_litestream_which_is_exposed_as_little(units: Path) -> None:
    unit = units / "decoupled-litestream.service"
    unit.write_text(text_of("litestream", Options(), DECOUPLED, Path("/srv/shop")))
    assert analyzed("verify", "--man=no", unit, *(units / f"decoupled.{kind}" for kind in ("service", "socket"))) == ""
    analyzed("security", "--offline=yes", f"--threshold={MOST_EXPOSED}", unit)


def test_litestream_is_told_where_the_file_is_and_where_it_goes() -> None:
    options = Options(data=Path("/var/lib/decoupled"), replica="s3://bucket/shop?region=eu-west-1")
    (said,) = yaml.safe_load(text_of("litestream.yml", options, DECOUPLED, Path("/srv/shop")))["dbs"]
    assert said == {
        "path": "/var/lib/decoupled/decoupled.sqlite3",
        "replica": {"url": "s3://bucket/shop?region=eu-west-1"},
    }


@needs_systemd
def test_the_service_is_exposed_as_little_as_a_service_can_be(units: Path) -> None:
    analyzed("security", "--offline=yes", f"--threshold={MOST_EXPOSED}", units / "decoupled.service")


def test_it_asks_the_kernel_what_it_has_to_know(units: Path) -> None:
    """Whether the machine has booted: see QueueClock."""
    service = (units / "decoupled.service").read_text()
    assert not re.search(r"^ProcSubset=", service, re.MULTILINE)


def test_a_server_has_time_to_end_in_order(units: Path) -> None:
    stop = re.findall(r"^TimeoutStopSec=(\d+)$", (units / "decoupled.service").read_text(), re.MULTILINE)
    assert 45 < int(stop[0]) < 75


@pytest.fixture
def confined(units: Path) -> Iterator[Managed]:
    server = Managed(units / "data", "--workloads", "orders", "--concurrency", "1", "--fronts", "1")
    *handed, _ = server.program
    server.program = (*handed, *CONFINED, str(units / "decoupled.service"), str(DECOUPLED))
    yield server
    server.close()


@pytest.mark.skipif(not HAS_SYSTEMD or sys.platform != "linux", reason="there is no systemd-analyze")
def test_a_server_does_its_work_within_what_the_unit_forbids(confined: Managed) -> None:
    confined.spawn()
    confined.told("READY=1")
    (message_id,) = confined.accept("/orders", msgspec.to_builtins(ORDERS.example))
    confined.wait_until("processed", f"/orders/{message_id}")
    assert confined.get("/health").json["status"] == "ok"
    _is_confined(confined.pid)
    for pid in [*wait_for(confined.workers), *confined.fronts()]:
        _is_confined(pid)
    assert confined.stop() == 0, confined.logged()
    assert "not permitted" not in confined.logged()


@pytest.mark.skipif(not HAS_SYSTEMD or sys.platform != "linux", reason="there is no systemd-analyze")
def test_and_litestream_within_what_its_unit_does(tmp_path: Path) -> None:
    target, unit = str(tmp_path / "replica"), tmp_path / "unit"
    unit.write_text(text_of("litestream", Options(), DECOUPLED, Path("/srv/shop")) + "LimitNOFILE=1024\n")
    litestream = Litestream(tmp_path / "data", target)
    litestream.program = (*CONFINED, str(unit), str(LITESTREAM))
    try:
        with serving(tmp_path / "data", "--workloads", "ledger,echoes", "--replica", target) as server:
            started = litestream.start().process
            wait_until_there(server)
            assert started is not None
            _is_confined(started.pid)
            assert litestream.stop() == 0
    finally:
        litestream.kill()


def _is_confined(pid: int) -> None:
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert (status["Seccomp"].strip(), status["NoNewPrivs"].strip()) == ("2", "1")
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0


def test_the_command_prints_them_for_the_project_of_its_directory(tmp_path: Path) -> None:
    decoupled("new", "shop", cwd=tmp_path)
    project = tmp_path / "shop"
    assert "decoupled.toml" in decoupled("unit", "service", cwd=tmp_path, status=1)
    service = decoupled("unit", "service", cwd=project)
    assert f"\nWorkingDirectory={project.resolve()}\n" in service
    assert f"\nExecStart={DECOUPLED} serve\n" in service
    socket = decoupled("unit", "socket", cwd=project, env={**os.environ, "DECOUPLED_HOST": "::1"})
    assert "\nListenStream=[::1]:8080\n" in socket
    blank = tmp_path / "my shop"
    project.rename(blank)
    assert "without blanks" in decoupled("unit", "service", cwd=blank, status=1)
