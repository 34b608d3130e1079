"""A server under load moves to a stack: killed tools, and then each id, each balance and each key on the other side."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from decoupled.engines.aws.stack import tool_client
from decoupled.engines.aws.stack_events import resources
from tests.support.deployed import Stack, deployed
from tests.support.server import DECOUPLED, Server, serving, wait_for

ACCOUNTS = 4


@dataclass
class Load:
    """Sends transfers under keys, and boxes of which some die, until nothing is accepted any more."""

    server: Server
    accepted: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # key: id, entry
    refused: list[Any] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        for n in range(ACCOUNTS):
            entry = {"kind": "open", "account": f"a{n}", "currency": "EUR", "overdraft": "1000"}
            self.send("/transactions", f"open-{n}", entry)

    def run(self) -> None:
        chance = random.Random(7)
        for n in itertools.count():
            if self.stop.is_set() or self.refused:
                return
            payer, payee = chance.sample(range(ACCOUNTS), 2)
            amount = f"{chance.randrange(1, 900)}.{chance.randrange(10)}5"
            entry = {"kind": "transfer", "from_account": f"a{payer}", "to_account": f"a{payee}", "currency": "EUR"}
            self.send("/transactions", f"t-{n}", entry | {"amount": amount})
            if n % 5 == 0:
                self.send("/boxes", f"b-{n}", {"weight": 13 if n % 10 else 12})
            time.sleep(0.05)

    def send(self, path: str, key: str, entry: dict[str, Any]) -> None:
        answer = self.server.post(path, entry, idempotency_key=key)
        if answer.status == 202:
            self.accepted[key] = (answer.json["id"], entry)
        else:
            self.refused.append(answer)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with deployed(tmp_path_factory.mktemp("moved"), also="transactions") as made:
        yield made


def options(stack: Stack) -> tuple[str, ...]:
    return ("--max-attempts", "1", "--workloads", f"{stack.project / 'boxes.py'},transactions")


@pytest.fixture(scope="module")
def server(stack: Stack) -> Iterator[Server]:
    with serving(stack.project / ".data", *options(stack)) as server:
        yield server


THERE = ("--data", ".data", "--to", "boxes")
BACK = ("--stack", "boxes", "--to", "back")


def moved(
    stack: Stack, *arguments: str, way: tuple[str, ...] = THERE, killed_after_s: float | None = None
) -> tuple[int | None, str]:
    """What `decoupled move` comes to, or says until it is killed."""
    command = [str(DECOUPLED), "move", *way, *arguments]
    environment = {**os.environ, **stack.environment}
    process = subprocess.Popen(
        command, cwd=stack.project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said, _ = process.communicate(timeout=killed_after_s or 120)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        return None, said
    return process.returncode, said


def test_a_server_under_load_moves_and_each_id_is_in_one_place(stack: Stack, server: Server) -> None:
    load = Load(server)
    load.open()
    sending = threading.Thread(target=load.run)
    sending.start()
    wait_for(lambda: len(load.accepted) > 60, seconds=60)
    status, said = moved(stack, "--dry-run")
    assert status == 0, said
    assert "at 500 a second" in said
    for after_s in (0.8, 1.2):
        moved(stack, killed_after_s=after_s)
    status, said = moved(stack)
    assert status == 0, said
    assert load.refused == []
    for after_s in (1.0, 1.4, 1.8):
        moved(stack, "--cut-over", killed_after_s=after_s)
    status, said = moved(stack, "--cut-over")
    assert status == 0, said
    sending.join(30)
    (refusal,) = load.refused
    assert refusal.status == 503
    assert int(refusal.headers["retry-after"]) > 0
    assert stack.outputs["Endpoint"] in refusal.json["detail"]
    for status_of, expected in (("--back-out", 1), ("--verify", 0)):
        status, said = moved(stack, status_of)
        assert status == expected, said

    ended = wait_for(lambda: statuses_on(stack, load), lambda it: "queued" not in it.values(), seconds=90)
    assert_balances(stack, load, ended)
    for key, (message_id, entry) in list(load.accepted.items())[:: max(1, len(load.accepted) // 8)]:
        assert asked_of(stack, key, message_id) == (200, ended[key])
        path = "/transactions" if "kind" in entry else "/boxes"
        again = stack.client.post(path, json=entry, headers={"idempotency-key": key})
        assert again.status_code == 202
        assert again.json()["id"].partition(".")[0] == message_id
    assert_balances(stack, load, ended)


def test_and_back_to_a_data_directory(stack: Stack) -> None:
    answers = [stack.post(n, idempotency_key=f"there-{n}") for n in (1, 2, 13)]
    later = stack.post(3, delay="3600").json()["id"]
    there = {answer.json()["id"]: wait_for(partial(ended_there, stack, answer.json()["id"])) for answer in answers}
    status, said = moved(stack, way=BACK)
    assert status == 0, said
    for after_s in (1.5, 2.5):
        moved(stack, "--cut-over", way=BACK, killed_after_s=after_s)
    status, said = moved(stack, "--back-out", way=BACK)
    assert "accepts again" in said or "it has not been stopped" in said
    assert executions_of_the_receiver() is None
    there |= {(one := stack.post(4).json()["id"]): wait_for(partial(ended_there, stack, one))}
    status, said = moved(stack, "--cut-over", way=BACK)
    assert status == 0, said
    assert executions_of_the_receiver() == 0  # which AWS keeps to, and MiniStack behind API Gateway does not
    with serving(stack.project / "back", *options(stack)) as server:
        for shown, ended in there.items():
            assert server.get(f"/boxes/{shown}").json["status"] == ended
        assert server.get(f"/boxes/{later}").json["status"] == "queued"
        again = server.post("/boxes", {"weight": 1}, idempotency_key="there-1")
        assert again.json["id"] == answers[0].json()["id"].partition(".")[0]
        statuses = server.statuses()
    assert statuses["queued"] == 1
    assert statuses["processed"] > 3
    said = stack.run("audit", "--data", "back")
    assert "nothing is wrong" in said
    status, said = moved(stack, "--dry-run", way=("--data", "back", "--to", "boxes"))
    assert status == 1
    assert "it is closed: its messages have moved" in said


def executions_of_the_receiver() -> int | None:
    """That it may have, if somebody has set that."""
    (name,) = (it["PhysicalResourceId"] for it in resources("boxes") if it["LogicalResourceId"] == "Receiver")
    told: dict[str, int] = tool_client("lambda").get_function_concurrency(FunctionName=name)
    return told.get("ReservedConcurrentExecutions")


def ended_there(stack: Stack, shown: str) -> str | None:
    """What became of it, or None yet."""
    _, record = stack.ask(shown)
    return None if record["status"] == "queued" else str(record["status"])


def statuses_on(stack: Stack, load: Load) -> dict[str, str]:
    """Of each key, what the table there has of its id: every one is there."""
    pages = tool_client("dynamodb").get_paginator("scan").paginate(TableName=stack.outputs["TableName"])
    found = {item["pk"]["S"]: item["status"]["S"] for page in pages for item in page["Items"] if "workload" in item}
    assert found.keys() == {message_id for message_id, _ in load.accepted.values()}
    return {key: found[message_id] for key, (message_id, _) in load.accepted.items()}


def asked_of(stack: Stack, key: str, message_id: str) -> tuple[int, str]:
    """What GET there says of an id as it was given out here."""
    answer = stack.client.get(f"/boxes/{message_id}" if key.startswith("b-") else f"/transactions/{message_id}")
    return answer.status_code, answer.json()["status"]


def assert_balances(stack: Stack, load: Load, ended: dict[str, str]) -> None:
    """Each account has what the processed transfers, and no others, make of it."""
    wanted = dict.fromkeys(range(ACCOUNTS), 0)
    for key, (_, entry) in load.accepted.items():
        if key.startswith("t-") and ended[key] == "processed":
            cents = int(entry["amount"].replace(".", ""))
            wanted[int(entry["from_account"][1:])] -= cents
            wanted[int(entry["to_account"][1:])] += cents
    for n, cents in wanted.items():
        found = json.loads(stack.client.get(f"/transactions/balances/a{n}.EUR").text, parse_float=str)
        assert round(float(found["balance"]) * 100) == cents
    assert set(ended.values()) <= {"processed", "rejected", "dead"}
