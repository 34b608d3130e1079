"""`decoupled build` in a project of the user's own: what it imports travels to Lambda, as wheels that run there. With a
real library of PyPI's that has compiled wheels."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from decoupled.cli.build import PYTHON_VERSION
from decoupled.cli.deploy import _not_kept
from decoupled.pipeline.loading import load
from tests.support import wheels
from tests.support.server import DECOUPLED, ROOT

CP = f"cp{PYTHON_VERSION.replace('.', '')}"
# Of all the files of the library, only the wheel that Lambda needs.
AARCH64 = "--hash=sha256:f34c41761022dd093b4b6896d4810782ffbabe30f2d443ff5f083e0cbbb8c737"
LOCK = f"""
markupsafe==3.0.3 ; platform_machine == 'aarch64' and python_version == '{PYTHON_VERSION}' {AARCH64}
iniconfig==2.1.0 ; python_version < '{PYTHON_VERSION}' --hash=sha256:{"0" * 64}
"""
EM_AARCH64 = 183  # in an ELF file's header

PARCELS = """
from msgspec import Struct
from markupsafe import escape
from decoupled import Effects, Message, Workload
from prices import price

class Parcel(Struct):
    weight: int
    to: str

def process(parcel: Parcel, message: Message) -> Effects:
    return Effects({"price": price(parcel.weight), "to": str(escape(parcel.to))})

WORKLOAD = Workload("parcels", Parcel, process)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A workload in a file, and a neighbour that it imports."""
    (tmp_path / "parcels.py").write_text(PARCELS)
    (tmp_path / "prices.py").write_text("def price(weight: int) -> int:\n    return 2 * weight\n")
    (tmp_path / "unrelated.py").write_text("")
    (tmp_path / "decoupled.toml").write_text('workloads = ["./parcels.py"]\n')
    return tmp_path


def build(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(DECOUPLED), "build", "--output", "lambda.zip", *options]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=400, check=False)


def built(project: Path, *options: str) -> zipfile.ZipFile:
    done = build(project, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(project / "lambda.zip")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The zip of a project with that lock."""
    project = tmp_path_factory.mktemp("locked")
    (project / "decoupled.toml").write_text('workloads = ["orders"]\n')
    (project / "requirements.lock").write_text(LOCK)
    with built(project) as archive:
        yield archive


def test_a_locked_library_travels_as_the_wheel_that_runs_on_lambda(locked: zipfile.ZipFile) -> None:
    tags = locked.read("markupsafe-3.0.3.dist-info/WHEEL").decode()
    assert f"Tag: {CP}-{CP}-manylinux_2_17_aarch64\n" in tags
    compiled = [name for name in locked.namelist() if name.endswith(".so")]
    of_aiohttp = {"aiohttp", "frozenlist", "multidict", "propcache", "yarl"}
    assert {name.split("/")[0] for name in compiled} == {"markupsafe", "msgspec"} | of_aiohttp
    for name in compiled:
        assert name.endswith(f".cpython-{CP[2:]}-aarch64-linux-gnu.so")
        (machine,) = struct.unpack_from("<H", locked.read(name), 18)
        assert machine == EM_AARCH64


def test_whether_a_requirement_applies_is_asked_of_lambda_and_not_of_this_machine(locked: zipfile.ZipFile) -> None:
    libraries = {name.split("-")[0] for name in locked.namelist() if name.endswith(".dist-info/METADATA")}
    ours = set(re.findall(r"^(\w+)==", (ROOT / "requirements/lambda.lock").read_text(), re.MULTILINE))
    assert libraries == {"markupsafe", *ours}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f"markupsafe==2.0.1 {AARCH64}", f"no wheel of markupsafe==2.0.1 for Lambda (Python {PYTHON_VERSION} on arm64"),
        (f"markupsafe==3.0.3 --hash=sha256:{'0' * 64}", "pip could not install"),
        ("msgspec==0.19.0", "cannot be had together with what decoupled runs on ("),
    ],
    ids=["no such wheel", "another file", "another version than ours"],
)
def test_a_requirement_that_cannot_travel_is_refused_by_name(project: Path, line: str, complaint: str) -> None:
    (project / "requirements.lock").write_text(f"{line}\n")
    refused = build(project)
    assert refused.returncode == 1
    first, *of_pip = refused.stderr.splitlines()
    assert first.startswith("Error: requirements.lock: ")
    assert complaint in first
    assert "Traceback" not in refused.stderr
    assert any(line.split()[0] in told for told in of_pip)
    assert not (project / "lambda.zip").exists()


def test_a_workload_in_a_file_is_in_the_zip_with_its_neighbours_and_loads_there(project: Path, tmp_path: Path) -> None:
    (project / "requirements.txt").write_text("markupsafe==3.0.3\n")  # as wheels for this machine
    there = tmp_path / "lambda"
    with built(project, "--platform", "local") as archive:
        assert {"parcels.py", "prices.py"} < set(archive.namelist())
        assert "unrelated.py" not in archive.namelist()
        archive.extractall(there)
    decide = """
from decoupled.core.workload import Message
from decoupled.pipeline.processor import decide
from functions.processor import connect

entry = '{"weight": 3, "to": "Smith & Sons"}'
print(decide(Message("m", "parcels", entry, "", 0), connect()[2], 5.0).result)
"""
    environment = {
        "PYTHONPATH": f"{there}:{sysconfig.get_path('purelib')}",  # the runtime brings botocore
        "WORKLOADS": "./parcels.py",
        "QUEUE_URL": "http://127.0.0.1/queue",
        "DEAD_LETTER_QUEUE_URL": "http://127.0.0.1/dead",
        "TABLE_NAME": "table",
        "MAX_ATTEMPTS": "5",
        "ATTEMPTS_SPAN_S": "3600",
        "AWS_DEFAULT_REGION": "us-east-1",
        "PATH": os.environ["PATH"],
    }
    # -S: without what was installed in place, so that decoupled is that of the zip.
    command = [sys.executable, "-S", "-c", decide]
    done = subprocess.run(command, cwd=there, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == '{"price":6,"to":"Smith &amp; Sons"}\n', done.stderr


RATES: dict[str, Any] = {"calls": {"rate": 20}, "hooks": {"group_rate": 0.5}}


def test_who_deploys_a_workload_with_a_rate_is_told_that_nothing_keeps_it() -> None:
    plain = load(["orders"])["orders"]
    workloads = {name: replace(plain, name=name, **rate) for name, rate in RATES.items()}
    assert [*_not_kept({"orders": plain})] == []
    assert [*_not_kept(workloads)] == [
        f"Note: the rates of {name!r} are not kept on AWS: all share MaximumConcurrency" for name in RATES
    ]


@pytest.mark.parametrize("wanted", [True, False])
def test_opentelemetry_travels_where_traces_are_wanted(tmp_path: Path, wanted: bool) -> None:
    zipped = tmp_path / "lambda.zip"
    command = [str(DECOUPLED), "build", "--platform", "local", "--output", str(zipped), *["--traces"][:wanted]]
    subprocess.run(command, env={**os.environ, **wheels.at_hand()}, check=True)
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(unpacked)
    code = "from decoupled.core import tracing; from decoupled.telemetry import process as telemetry\n"
    code += "telemetry.start('processor', 'aws_sqs'); print(type(tracing.active).__module__)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=unpacked,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
    )
    if wanted:
        assert done.stdout == "decoupled.telemetry.spans\n"
    else:
        assert (done.stdout, "there are no traces" in done.stderr) == ("builtins\n", True)
