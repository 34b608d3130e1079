"""A data directory with a history moves to a table and a queue on moto: killed at any call of AWS, throttled, and
unheard; then gone on with, until all is there, once."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from decoupled.engines.aws.moving_target import AwsTarget
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.departure_tool import ToolMarks
from decoupled.engines.sqlite.moving_source import SqliteSource
from decoupled.pipeline.moving import Move
from tests.support.engines import AwsEngine
from tests.support.histories import NOW, History
from tests.support.moving_model import Killed

POINTS = 50
THROTTLED = ClientError({"Error": {"Code": "ThrottlingException", "Message": "?"}}, "?")
UNHEARD = ReadTimeoutError(endpoint_url="?")


class Faults:
    """Of a client's calls: the one with number `last` is the last thing that its process does, and some are refused or
    not heard of again."""

    def __init__(self, chance: random.Random, last: int) -> None:
        self.chance, self.last, self.calls = chance, last, 0

    @contextlib.contextmanager
    def of(self, client: Any) -> Iterator[None]:
        call = client._make_api_call

        def make(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls >= self.last:
                raise Killed
            fate = self.chance.random()
            if fate < 0.02:
                raise THROTTLED
            done = call(*arguments)
            if fate > 0.98:
                raise UNHEARD
            return done

        with mock.patch.object(client, "_make_api_call", make):
            yield


def step(engine: AwsEngine, path: Path, chance: random.Random, last: int) -> None:
    """One run of the tool, whatever becomes of it."""
    faults = Faults(chance, last)
    directory = DataDirectory(path)
    target = AwsTarget("boxes", engine.dynamodb, engine.table_name, engine.queue)
    with (
        contextlib.closing(target),
        contextlib.closing(SqliteSource(directory)) as source,
        faults.of(engine.dynamodb),
        faults.of(engine.sqs),
    ):
        move = Move(source, target, ToolMarks(directory), 40_000, pause=lambda _seconds: None)
        with contextlib.suppress(ValueError):  # it has been stopped, or has not been
            what = chance.choice((move.copy, move.back_out, None, None)) if last < 10**6 else None
            what() if what else move.cut_over("boxes", "", drain=False)


def received(engine: AwsEngine) -> set[str]:
    found: set[str] = set()
    while some := engine.queue.receive(10, 600):
        found |= {delivery.message.id for delivery in some}
    return found


@pytest.mark.parametrize("seed", range(POINTS))
def test_interrupted_at_any_call_of_aws_all_is_there_once(moto_engine: AwsEngine, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    history = History(tmp_path / "decoupled.sqlite3", chance)
    for _ in range(15):
        history.step()
    history.close()
    for _ in range(chance.randrange(1, 4)):
        with contextlib.suppress(Killed):
            step(moto_engine, tmp_path, chance, chance.randrange(1, 80))
    step(moto_engine, tmp_path, chance, 10**9)

    with contextlib.closing(Database(tmp_path / "decoupled.sqlite3", read_only=True)) as database:
        rows = dict(database.execute("SELECT id, status FROM messages").fetchall())
        keys = [key for (key,) in database.execute("SELECT key FROM items").fetchall()]
        later = {it for (it,) in database.execute("SELECT id FROM messages WHERE due_at > ?", (NOW,)).fetchall()}
    pages = moto_engine.dynamodb.get_paginator("scan").paginate(TableName=moto_engine.table_name)
    there = [item for page in pages for item in page["Items"]]
    assert {it["pk"]["S"]: it["status"]["S"] for it in there if "workload" in it} == rows
    assert {it["pk"]["S"] for it in there if "/" in it["pk"]["S"] and not it["pk"]["S"].startswith("-/")} == {*keys}
    queued = {message_id for message_id, status in rows.items() if status == "queued"}
    scheduled = {each["Name"] for each in moto_engine.scheduled()}
    assert received(moto_engine) | scheduled == queued
    assert scheduled <= later
