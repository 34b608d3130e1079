"""decoupled as a dependency: a wheel of this checkout in an environment of its own, and what a newcomer types there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support import ministack
from tests.support.container import read_only_but, stages
from tests.support.once import made_once

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "templates" / "project"
RETURN = b'{"order": "A-17", "item": "KB-104", "reason": "broken"}'


def run(*command: str | Path, cwd: Path, variables: Mapping[str, str] | None = None) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DECOUPLED_", "PYTHON"))}
    environment = variables if variables is not None else inherited
    done = subprocess.run(command, cwd=cwd, env=dict(environment), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a virtual environment that has the wheel and what it asks for, at the locked versions: as
    the first stage of a project's container makes it."""
    return made_once(tmp_path_factory, "installed", _install) / "venv/bin"


def _install(directory: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, ROOT, cwd=ROOT)
    (wheel,) = directory.glob("*.whl")
    locked = re.findall(r"^\S+==[^\\\n]+", (ROOT / "requirements/run.lock").read_text(), re.MULTILINE)
    (directory / "pins.txt").write_text("\n".join(locked))
    shutil.copy(PROJECT / "requirements.txt", directory)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIP_CONSTRAINT": str(directory / "pins.txt"),
    }
    for step in stages(PROJECT / "Containerfile")[0].all("RUN"):
        run("sh", "-euc", step.replace("/opt/venv", f"{directory}/venv"), cwd=directory, variables=environment)
    run(directory / "venv/bin/python", *pip[1:], "install", f"{wheel}[aws]", cwd=directory, variables=environment)


@pytest.fixture(scope="module")
def project(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("empty")
    assert "cd shop" in run(programs / "decoupled", "new", "shop", cwd=directory)
    return directory / "shop"


def test_the_wheel_claims_one_name(programs: Path) -> None:
    (site,) = programs.parent.glob("lib/python*/site-packages")
    (record,) = site.glob("decoupled-*.dist-info/RECORD")
    tops = {line.split("/")[0] for line in record.read_text().splitlines() if not line.startswith("..")}
    assert tops == {"decoupled", record.parent.name}
    kit = site / "decoupled/kit"
    carried = ("functions/receiver.py", "templates/decoupled-architecture.yaml", "scripts/test-orders.sh")
    for name in (*carried, "templates/grafana-dashboard.json", "templates/prometheus-alerts.yml"):
        assert (kit / name).read_bytes() == (ROOT / name).read_bytes()
    for folder, license_ in (("server/http/docs", "LICENSE.rapidoc.txt"), ("dashboard/page", "LICENSE.uplot.txt")):
        names = {file.name for file in (ROOT / "decoupled" / folder).iterdir()}
        assert names == {file.name for file in (site / "decoupled" / folder).iterdir()} > {license_}


def test_it_says_its_version(programs: Path, tmp_path: Path) -> None:
    assert re.fullmatch(r"decoupled \d+\.\d+\.\d+\n", run(programs / "decoupled", "--version", cwd=tmp_path))


def test_the_new_project_asks_for_no_stranger_of_the_same_name(programs: Path, project: Path) -> None:
    """PyPI has one, of lower versions."""
    asked = re.findall(r'"decoupled[^"]*"', (project / "pyproject.toml").read_text())
    major, minor, _ = run(programs / "decoupled", "--version", cwd=project).split()[1].split(".")
    assert asked == [f'"decoupled>={major}.{minor}"', f'"decoupled[aws]>={major}.{minor}"']


def test_the_new_projects_test_passes(programs: Path, project: Path) -> None:
    run(programs / "python", "-m", "unittest", cwd=project)


def test_a_project_is_not_written_over(programs: Path, project: Path) -> None:
    for name, complaint in (("shop", "is there already"), ("Shop!", "cannot be a project's name")):
        command = [str(programs / "decoupled"), "new", name]
        done = subprocess.run(command, cwd=project.parent, capture_output=True, text=True)
        assert done.returncode == 1
        assert complaint in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_new_projects_workload_is_served(programs: Path, project: Path) -> None:
    port = ministack.free_port()
    environment = {"PATH": os.environ["PATH"], "DECOUPLED_PORT": str(port)}
    with (project.parent / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "decoupled", "serve"], cwd=project, env=environment, stdout=log, stderr=log
        )
        try:
            assert processed(f"http://127.0.0.1:{port}", {})["result"]["item"] == "KB-104"
        finally:
            server.terminate()
            assert server.wait(20) == 0
    assert (project / ".data").is_dir()


def test_the_new_projects_container_is_made_of_what_is_there(project: Path) -> None:
    """The fixture has done the steps of its first stage."""
    build, last = stages(project / "Containerfile")
    for stage in (build, last):
        assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+", stage.image)
    assert build.one("COPY") == "decoupled-*.whl requirements.txt ./"
    assert last.all("COPY")[0] == "--from=build /opt/venv /opt/venv"
    assert all((project / text.split()[0]).exists() for text in ["requirements.txt", *last.all("COPY")[1:]])
    assert ".data/" in (project / ".dockerignore").read_text().splitlines()


def test_the_new_projects_container_serves_as_nobody_in_particular_and_writes_its_volume_only(
    programs: Path, project: Path, tmp_path: Path
) -> None:
    _, stage = stages(project / "Containerfile")
    assert int(stage.one("USER")) > 0
    data, port = tmp_path / "data", str(ministack.free_port())
    data.mkdir(mode=0o700)
    environment = {
        **stage.variables(),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "DECOUPLED_HOST": "127.0.0.1",
        "DECOUPLED_PORT": port,
        "DECOUPLED_DATA": str(data),
    }
    assert stage.variables()["DECOUPLED_DATA"] == stage.one("VOLUME") == "/data"
    assert stage.variables()["DECOUPLED_PORT"] == stage.one("EXPOSE") == "8080"
    key = run("decoupled", "keys", "add", "ana", cwd=project, variables=environment).split()[-1]
    with (tmp_path / "log").open("wb") as log:
        command = [*read_only_but(data), *stage.command()]
        server = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        assert processed(url, {"authorization": f"Bearer {key}"})["result"]["item"] == "KB-104"
        check = json.loads(stage.one("HEALTHCHECK").split(" CMD ")[1].replace("8080", port))
        run(*check, cwd=project, variables=environment)
    finally:
        server.send_signal(getattr(signal, stage.one("STOPSIGNAL")))
        assert server.wait(20) == 0
    assert subprocess.run(check, cwd=project, env=environment, capture_output=True, check=False).returncode != 0


def test_the_new_projects_workload_is_deployed(programs: Path, project: Path, ministack_url: str) -> None:
    environment = ministack.environment(ministack_url)
    typed = ("deploy", "returning", "Authorization=NONE")
    printed = run(programs / "decoupled", *typed, cwd=project, variables=environment)
    outputs = dict(re.findall(r"^(\w+)\t(.+)$", printed, re.MULTILINE))
    endpoint = urlsplit(outputs["Endpoint"])  # a name under localhost, which not every resolver knows
    answered = processed(f"{ministack_url}{endpoint.path}", {"host": endpoint.netloc})
    assert answered["result"]["item"] == "KB-104"
    again = run(programs / "decoupled", "deploy", "returning", cwd=project, variables=environment)
    assert outputs == dict(re.findall(r"^(\w+)\t(.+)$", again, re.MULTILINE))
    assert "keeps" in run(programs / "decoupled", "destroy", "returning", "--yes", cwd=project, variables=environment)


def processed(url: str, headers: dict[str, str]) -> Any:
    """Post a return, and wait until its record is final."""
    request = urllib.request.Request(f"{url}/returns", RETURN, {"content-type": "application/json", **headers})
    accepted = asked(request)
    deadline = time.monotonic() + 60
    while (record := asked(urllib.request.Request(f"{url}{accepted['status_url']}", headers=headers)))[
        "status"
    ] == "queued":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert record["status"] == "processed", record
    return record


def asked(request: urllib.request.Request) -> Any:
    """The JSON that answers a request; a server that is only starting is asked again."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            if error.code == 404:  # on AWS, of a message that was not yet tried
                return {"status": "queued"}
            raise AssertionError(error.read()) from error
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
