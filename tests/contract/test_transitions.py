"""The table of transitions (core/status.py), on every engine: each change, from each status that a message can have."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from decoupled.core.dead_letters import DeadLetter
from decoupled.core.outcomes import Commit, Reject
from decoupled.core.status import STATUSES, TRANSITIONS, Change, Status
from decoupled.core.workload import Message
from tests.support import engines
from tests.support.contract import NOW, bury, commit_one, dead_record, delivered, message
from tests.support.dead_letters import letters_of

Do = Callable[[engines.Engine, Message], object]


def letter(sent: Message) -> DeadLetter:
    """As an export has it, whether or not the message is dead now."""
    return DeadLetter(
        id=sent.id,
        workload=sent.workload,
        caller=sent.caller,
        accepted_at=sent.accepted_at,
        dead_at=NOW + 5,
        attempts=5,
        buried_by="processor",
        error_type="KeyError",
        error="'sku'",
        traceback="in process",
        body=sent.body,
    )


CHANGES: Mapping[Change, Do] = {
    "accept": lambda engine, sent: engine.queue.send([sent]),
    "process": lambda engine, sent: commit_one(engine, sent, Commit("{}")),
    "reject": lambda engine, sent: commit_one(engine, sent, Reject("no such product")),
    "bury": lambda engine, sent: bury(engine, dead_record(sent, traceback="in process")),
    "redrive": lambda engine, sent: letters_of(engine).redrive([letter(sent)]),
    "purge": lambda engine, sent: letters_of(engine).purge([letter(sent)]),
    "restore": lambda engine, sent: letters_of(engine).restore([letter(sent)]),
}

# How a message gets a status, from nothing. On AWS a message without a record is queued, too.
BECOMES: Mapping[Status, Do] = {
    "queued": lambda engine, sent: engine.table.begin_attempt(delivered(sent)),
    "processed": CHANGES["process"],
    "rejected": CHANGES["reject"],
    "dead": CHANGES["bury"],
}


@pytest.fixture(params=["embedded", "moto"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> engines.Engine:
    """Both kinds, empty."""
    if request.param == "embedded":
        return engines.embedded(tmp_path)
    new: Callable[[], engines.Engine] = request.getfixturevalue("new_moto_engine")
    return new()


def test_every_change_and_every_status_is_tried() -> None:
    assert set(CHANGES) == set(TRANSITIONS)
    assert set(BECOMES) == set(STATUSES)


@pytest.mark.parametrize(("change", "before"), list(itertools.product(TRANSITIONS, STATUSES)))
def test_a_change_is_made_from_the_statuses_of_the_table_and_from_no_other(
    engine: engines.Engine, change: Change, before: Status
) -> None:
    sent = message()
    BECOMES[before](engine, sent)
    story = engine.table.get(sent.id)
    assert story is not None
    assert story.status == before

    CHANGES[change](engine, sent)

    after = engine.table.get(sent.id)
    assert after is not None
    if before not in TRANSITIONS[change].sources or (change, before) == ("restore", "rejected"):
        assert after == story  # a business rule's rejection is not what was purged
    else:
        assert after.status == TRANSITIONS[change].target


def test_what_was_purged_is_restored(engine: engines.Engine) -> None:
    sent = message()
    for change in ("bury", "purge", "restore"):
        CHANGES[change](engine, sent)
    restored = letters_of(engine).get(sent.id)
    assert restored is not None
    assert (restored.body, restored.error_type, restored.attempts) == (sent.body, "KeyError", 5)


@pytest.mark.parametrize("change", ["redrive", "purge"])
def test_no_tool_makes_a_message_of_nothing(engine: engines.Engine, change: Change) -> None:
    sent = message()
    CHANGES[change](engine, sent)
    assert engine.table.get(sent.id) is None
    assert engine.queue.receive(1, 60) == []


def test_what_is_redriven_starts_without_a_story(engine: engines.Engine) -> None:
    sent = message()
    CHANGES["bury"](engine, sent)
    CHANGES["redrive"](engine, sent)
    record = engine.table.get(sent.id)
    assert record is not None
    assert (record.status, record.attempts, record.error, record.traceback) == ("queued", 0, None, None)
