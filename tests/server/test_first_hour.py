"""What a newcomer runs into in the first hour: each says what is wrong, in one line, where it is looked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.events import ORDER
from tests.support.server import DECOUPLED, Server, serving, wait_for

WORKLOAD = """
import logging
from decoupled import Effects, Message, Workload
from msgspec import Struct

class Entry(Struct):
    act: str = ""

def process(entry: Entry, message: Message) -> Effects:
    if entry.act == "fail":
        return look_up(entry)
    logging.getLogger("shop").warning("counting", extra={"found": 3})
    print("printed for", entry.act)
    return Effects({})

def look_up(entry):
    return {}["no such product"]

WORKLOAD = Workload("parcels", Entry, process)
"""


@pytest.fixture
def parcels(tmp_path: Path) -> Path:
    file = tmp_path / "parcels.py"
    file.write_text(WORKLOAD)
    return file


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(DECOUPLED), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


def test_a_workload_that_cannot_be_served_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "invoices.py").write_text(WORKLOAD)
    refused = run("serve", "--workloads", "./invoices.py", "--port", "1", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: workload './invoices.py': it calls itself 'parcels'")
    assert len(refused.stderr.splitlines()) == 1


def test_messages_of_a_workload_that_is_not_served_are_told_of(tmp_path: Path, parcels: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--workloads", str(parcels), "--rate", "0.001") as server:
        server.accept("/parcels", {}, {}, {})
    with serving(data, "--workloads", "orders") as server:
        wait_for(server.logged, lambda text: "3 messages of 'parcels' are queued, which is not served" in text)
        assert server.get("/health").json["not_served"] == {"parcels": 3}
        (message_id,) = server.accept("/orders", ORDER)
        server.wait_until("processed", f"/orders/{message_id}")
        told = json.loads(run("status", "--data", str(data), "--json").stdout)
        assert told["queued_by_workload"]["parcels"] == 3


def test_a_dead_letter_keeps_where_its_error_was_raised(tmp_path: Path, parcels: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--workloads", str(parcels), "--max-attempts", "1") as server:
        (message_id,) = server.accept("/parcels", {"act": "fail"})
        server.wait_until("dead", f"/parcels/{message_id}")
        assert "traceback" not in server.get(f"/parcels/{message_id}").json
        letter = json.loads(run("dead", "show", message_id, "--data", str(data)).stdout)
    assert f'File "{parcels}"' in letter["traceback"]
    assert "in look_up" in letter["traceback"]
    assert letter["traceback"].endswith("KeyError: 'no such product'\n")
    assert "/pipeline/" not in letter["traceback"]


def test_what_a_workload_logs_and_prints_tells_of_its_message(tmp_path: Path, parcels: Path) -> None:
    with serving(tmp_path / "data", "--workloads", str(parcels)) as server:
        (message_id,) = server.accept("/parcels", {"act": "ana"})

        def lines() -> list[dict[str, object]]:
            logged = [line for line in server.logged().splitlines() if line.startswith("{")]
            return [line for line in map(json.loads, logged) if line.get("message_id") == message_id]

        found = {line["logger"]: line for line in wait_for(lines, lambda found: len(found) == 2)}
    assert (found["shop"]["message"], found["shop"]["found"], found["shop"]["level"]) == ("counting", 3, "WARNING")
    assert (found["stdout"]["message"], found["stdout"]["workload"]) == ("printed for ana", "parcels")


def test_a_pipe_that_has_seen_enough_ends_a_list_quietly(tmp_path: Path, parcels: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--workloads", str(parcels), "--max-attempts", "1") as server:
        ids = server.accept("/parcels", *[{"act": "fail"}, {"act": "ana"}] * 300)
        server.wait_until("dead", *[f"/parcels/{message_id}" for message_id in ids[::2]])
    command = f"'{DECOUPLED}' dead list --json --data '{data}' | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command",
    [
        "status --stack shop",
        "dead list --stack shop",
        "deploy shop",
        "destroy shop",
        "spike --url http://x --aws-sigv4 eu-west-1",
    ],
)
def test_an_aws_command_without_the_extra_says_what_to_install(command: str, tmp_path: Path) -> None:
    without = "import sys; sys.modules['botocore'] = None; from decoupled.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", without, *command.split()], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("pip install 'decoupled[aws]'")


@pytest.mark.parametrize("url", ["http://nobody.invalid", "http://127.0.0.1:1"])
def test_a_spike_to_where_nobody_listens_says_so_at_once(url: str, tmp_path: Path) -> None:
    done = run("spike", "--url", url, "--orders", "1000", "--ledger", str(tmp_path / "ledger"), cwd=tmp_path)
    assert done.returncode == 1
    assert f"Error: {url} cannot be reached: " in done.stderr


def test_a_server_that_ignored_interrupts_from_the_start_still_stops(tmp_path: Path) -> None:
    """As under nohup, or in the background of a script."""
    server = Server(tmp_path / "data", program=("bash", "-c", f"trap '' INT HUP; exec '{DECOUPLED}' \"$@\"", "bash"))
    server.start()
    server.stop()
