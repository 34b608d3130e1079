"""Dead letters: one contract on both engines; files; and the command on a real server."""

from __future__ import annotations

import io
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decoupled.cli.dead_letters import apply
from decoupled.core import dead_letters as dead
from decoupled.core import limits
from decoupled.core.dead_letters import PURGED, DeadLetter, Wanted
from decoupled.core.outcomes import Commit, Delivery, Failure, NotSent, Stored
from decoupled.engines.protocols import DeadLetters
from decoupled.pipeline.settlement import Policy, settle
from tests.support import engines
from tests.support.dead_letters import POISON, bury, let_sqs_move, letters_of, message, receive_one
from tests.support.server import DECOUPLED, Server, serving


@pytest.fixture(params=["embedded", "moto"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> engines.Engine:
    """Both kinds, empty."""
    if request.param == "embedded":
        return engines.embedded(tmp_path)
    new: Callable[[], engines.Engine] = request.getfixturevalue("new_moto_engine")
    return new()


@pytest.fixture
def letters(engine: engines.Engine) -> DeadLetters:
    return letters_of(engine)


def process_one(engine: engines.Engine) -> Stored:
    """Receive what waits, and store it as processed."""
    delivery = receive_one(engine)
    (stored,) = engine.table.commit([(delivery.message, Commit("{}"))], 0)
    engine.queue.delete([delivery])
    assert isinstance(stored, Stored)
    return stored


def found(letters: DeadLetters, **wanted: Any) -> list[str]:
    return [letter.id for letter in letters.find(Wanted(**wanted))]


# --- on every engine ----------------------------------------------------------------


def test_a_dead_letter_keeps_its_group_through_export_import_and_redrive(
    engine: engines.Engine, letters: DeadLetters
) -> None:
    sent = msgspec.structs.replace(message(), group="shop.example")
    engine.queue.send([sent])
    delivery = receive_one(engine)
    settle([(delivery, POISON)], engine.queue, engine.table, Policy(max_attempts=1))
    engine.queue.delete([delivery])
    (letter,) = letters.find(Wanted(), bodies=True)
    line = dead.encode(letter)
    letters.purge([letter])
    letters.restore([dead.decode(line.encode())])
    letters.redrive(list(letters.find(Wanted())))
    assert receive_one(engine).message == sent


def test_a_dead_letter_keeps_the_digest_of_its_entry_through_export_import_elsewhere_and_redrive(
    engine: engines.Engine, letters: DeadLetters, tmp_path: Path
) -> None:
    sent = msgspec.structs.replace(message(), digest="0f" * 12)
    engine.queue.send([sent])
    delivery = receive_one(engine)
    settle([(delivery, POISON)], engine.queue, engine.table, Policy(max_attempts=1))
    engine.queue.delete([delivery])
    (letter,) = letters.find(Wanted(), bodies=True)
    (tmp_path / "elsewhere").mkdir()
    for there in (engine, engines.embedded(tmp_path / "elsewhere")):
        letters_of(there).purge([letter])
        letters_of(there).restore([dead.decode(dead.encode(letter).encode())])
        letters_of(there).redrive(list(letters_of(there).find(Wanted())))
        process_one(there)
        record = there.table.get(sent.id)
        assert record is not None
        assert (record.status, record.digest) == ("processed", "0f" * 12)


def test_what_sqs_moved_keeps_its_group(moto_engine: engines.AwsEngine) -> None:
    sent = msgspec.structs.replace(message(), group="shop.example")
    let_sqs_move(moto_engine, sent)
    letters = letters_of(moto_engine)
    (letter,) = letters.find(Wanted())
    assert letter.group == "shop.example"
    letters.redrive([letter])
    assert receive_one(moto_engine).message == sent


def test_a_redriven_message_has_all_its_attempts_though_its_receive_count_begins_anew(
    engine: engines.Engine, letters: DeadLetters
) -> None:
    sent = bury(engine)
    engine.table.begin_attempt(Delivery(sent, "of a copy that came late", 7))
    letters.redrive(list(letters.find(Wanted())))
    delivery = receive_one(engine)
    for count in (1, 2):
        again = msgspec.structs.replace(delivery, receive_count=count)
        assert engine.table.record_failure(again, POISON, 0).attempts == count


def test_what_sqs_moved_has_all_its_attempts_when_it_is_redriven(moto_engine: engines.AwsEngine) -> None:
    sent = message()
    moto_engine.table.begin_attempt(Delivery(sent, "the last one", 1_000))
    let_sqs_move(moto_engine, sent)
    letters = letters_of(moto_engine)
    assert [outcome.done for outcome in letters.redrive(list(letters.find(Wanted())))] == ["redriven"]
    assert moto_engine.table.record_failure(receive_one(moto_engine), POISON, 0).attempts == 1


def test_a_dead_letter_tells_its_whole_story(engine: engines.Engine, letters: DeadLetters) -> None:
    sent = bury(engine)
    letter = letters.get(sent.id)
    assert letter is not None
    assert (letter.id, letter.workload, letter.caller, letter.body) == (sent.id, "orders", "anonymous", sent.body)
    assert (letter.error_type, letter.error, letter.attempts) == ("KeyError", "no such product", 1)
    assert (letter.accepted_at, letter.buried_by, letter.recorded) == (sent.accepted_at, "processor", True)
    assert letter.first_failed_at is not None
    assert letter.first_failed_at <= letter.dead_at
    assert letter.last_failed_at is not None


def test_what_sqs_deletes_says_when(engine: engines.Engine, letters: DeadLetters) -> None:
    letter = letters.get(bury(engine).id)
    assert letter is not None
    if isinstance(engine, engines.EmbeddedEngine):
        assert letter.sqs_deletes_at is None
    else:
        assert letter.sqs_deletes_at == letter.dead_at + 345_600_000  # the test's queue has SQS's default of four days


def test_the_list_is_oldest_first_and_without_bodies_unless_they_are_asked_for(
    engine: engines.Engine, letters: DeadLetters
) -> None:
    sent = [bury(engine).id for _ in range(3)]
    assert found(letters) == sent
    assert [letter.body for letter in letters.find(Wanted())] == [None] * 3
    assert all(letter.body for letter in letters.find(Wanted(), bodies=True))


def test_the_list_is_filtered_by_workload_error_and_age(engine: engines.Engine, letters: DeadLetters) -> None:
    first = bury(engine).id
    other = bury(engine, Failure("failed", "ValueError", "Half a line"), "readings").id
    assert found(letters, workload="readings") == [other]
    assert found(letters, error="KeyError") == [first]
    assert found(letters, error="half A") == [other]
    assert found(letters, error="Key") == []
    dead_at = {letter.id: letter.dead_at for letter in letters.find(Wanted())}
    assert found(letters, dead_after=dead_at[other] + 1) == []
    assert set(found(letters, dead_before=dead_at[other])) == {first, other}


def test_a_redriven_message_has_its_effect_once_and_leaves_no_dead_letter(
    engine: engines.Engine, letters: DeadLetters
) -> None:
    sent = bury(engine)
    (outcome,) = letters.redrive(list(letters.find(Wanted())))
    assert outcome.done == "redriven"
    record = engine.table.get(sent.id)
    assert record is not None
    assert (record.status, record.attempts) == ("queued", 0)
    assert not process_one(engine).duplicate
    assert letters_of(engine).get(sent.id) is None
    assert engine.dead_letters() in (None, [])


def test_redriving_twice_sends_once_more_at_most_and_applies_once(engine: engines.Engine, letters: DeadLetters) -> None:
    bury(engine)
    chosen = list(letters.find(Wanted()))
    assert [outcome.done for outcome in letters.redrive(chosen)] == ["redriven"]
    assert [outcome.why_not for outcome in letters.redrive(chosen)] == ["it is queued"]
    assert not process_one(engine).duplicate
    assert engine.queue.receive(10, 60) == []
    assert [outcome.why_not for outcome in letters.redrive(chosen)] == ["it is processed"]


def test_a_redriven_message_that_fails_again_is_dead_again_with_attempts_of_its_own(
    engine: engines.Engine, letters: DeadLetters
) -> None:
    sent = bury(engine)
    letters.redrive(list(letters.find(Wanted())))
    delivery = receive_one(engine)
    again = Failure("failed", "ValueError", "another reason")
    settle([(delivery, again)], engine.queue, engine.table, Policy(max_attempts=1))
    letter = letters_of(engine).get(sent.id)
    assert letter is not None
    assert (letter.error_type, letter.attempts) == ("ValueError", 1)


def test_a_purged_message_is_rejected_for_good_and_says_so(engine: engines.Engine, letters: DeadLetters) -> None:
    sent = bury(engine)
    assert [outcome.done for outcome in letters.purge(list(letters.find(Wanted())))] == ["purged"]
    record = engine.table.get(sent.id)
    assert record is not None
    assert (record.status, record.reason, record.body) == ("rejected", PURGED, None)
    assert letters.get(sent.id) is None
    (stored,) = engine.table.commit([(sent, Commit("{}"))], 0)  # a stray delivery
    assert isinstance(stored, Stored)
    assert stored.duplicate


def test_what_was_exported_and_purged_can_be_imported_and_redriven(
    engine: engines.Engine, letters: DeadLetters
) -> None:
    bury(engine)
    exported = list(letters.find(Wanted(), bodies=True))
    assert [outcome.why_not for outcome in letters.restore(exported)] == ["it is dead"]
    letters.purge(exported)
    assert [outcome.done for outcome in letters.restore(exported)] == ["imported"]
    assert [outcome.why_not for outcome in letters.restore(exported)] == ["it is dead"]
    (imported,) = letters.find(Wanted(), bodies=True)
    assert imported == exported[0]
    assert [outcome.done for outcome in letters.redrive([imported])] == ["redriven"]
    assert not process_one(engine).duplicate
    assert [outcome.why_not for outcome in letters.restore(exported)] == ["it is processed"]


def test_a_dead_letter_of_another_system_can_be_imported(engine: engines.Engine, letters: DeadLetters) -> None:
    bury(engine)
    (letter,) = letters.find(Wanted(), bodies=True)
    foreign = msgspec.structs.replace(letter, id="from-elsewhere")
    assert [outcome.done for outcome in letters.restore([foreign])] == ["imported"]
    assert set(found(letters)) == {letter.id, "from-elsewhere"}


def test_a_message_that_was_never_dead_is_left_alone(engine: engines.Engine, letters: DeadLetters) -> None:
    sent = message()
    engine.queue.send([sent])
    bogus = DeadLetter(
        id=sent.id,
        workload="orders",
        caller="",
        accepted_at=0,
        dead_at=0,
        attempts=1,
        buried_by="processor",
        error_type="",
        error="",
    )
    for act in (letters.redrive, letters.purge):
        assert [outcome.done for outcome in act([bogus])] == [None]
    assert letters.get(sent.id) is None


def test_more_than_a_page_is_found_once_each(engine: engines.Engine, letters: DeadLetters) -> None:
    buried = [bury(engine).id for _ in range(3)]
    (letter,) = (one for one in letters.find(Wanted(), bodies=True) if one.id == buried[0])
    many = [
        msgspec.structs.replace(letter, id=f"copy-{n}", dead_at=letter.dead_at - n % 3)
        for n in range(2 * limits.TOOL_BATCH + 5)
    ]
    letters.restore(many)
    assert sorted(found(letters)) == sorted(buried + [one.id for one in many])


# --- on AWS --------------------------------------------------------------------------


def test_what_only_the_redrive_policy_caught_is_told_apart_and_redriven(moto_engine: engines.AwsEngine) -> None:
    told, untold = bury(moto_engine), message()
    let_sqs_move(moto_engine, untold)
    letters = letters_of(moto_engine)
    by_id = {letter.id: letter for letter in letters.find(Wanted())}
    assert set(by_id) == {told.id, untold.id}
    letter = by_id[untold.id]
    assert (letter.buried_by, letter.error_type, letter.recorded) == ("queue", "MaxReceiveCountExceeded", False)
    assert letter.sqs_deletes_at is not None
    assert [outcome.done for outcome in letters.redrive([letter])] == ["redriven"]
    assert not process_one(moto_engine).duplicate
    letters.close()
    assert [one.id for one in moto_engine.dead_letters() or []] == [told.id]  # visible again


def test_a_look_gives_back_what_it_received(moto_engine: engines.AwsEngine) -> None:
    let_sqs_move(moto_engine, message())
    letters = letters_of(moto_engine)
    assert len(found(letters)) == 1
    letters.close()
    assert len(moto_engine.dead_letters() or []) == 1


def test_a_dead_letter_whose_time_cannot_be_told_is_shown(moto_engine: engines.AwsEngine) -> None:
    texts = {"id": "m-20", "workload": "orders", "accepted_at": "9" * 20}
    attributes = {name: {"DataType": "String", "StringValue": text} for name, text in texts.items()}
    url = moto_engine.dead_letter_queue_url
    moto_engine.sqs.send_message(QueueUrl=url, MessageBody="{}", MessageAttributes=attributes)
    letters = letters_of(moto_engine)
    (letter,) = letters.find(Wanted())
    letters.close()
    assert letter.accepted_at == letter.dead_at  # which is when SQS got it


def test_a_purged_message_of_the_redrive_policy_has_a_record_that_says_so(moto_engine: engines.AwsEngine) -> None:
    sent = message()
    let_sqs_move(moto_engine, sent)
    letters = letters_of(moto_engine)
    assert [outcome.done for outcome in letters.purge(list(letters.find(Wanted())))] == ["purged"]
    letters.close()
    record = moto_engine.table.get(sent.id)
    assert record is not None
    assert (record.status, record.reason) == ("rejected", PURGED)
    assert moto_engine.dead_letters() == []


@pytest.mark.parametrize("dies_before", ["send", "forget", "delete"])
def test_a_redrive_that_died_at_any_step_is_finished_by_the_next(
    moto_engine: engines.AwsEngine, dies_before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Died

    sent = bury(moto_engine)
    tool: Any = letters_of(moto_engine)
    chosen = list(tool.find(Wanted()))
    change = tool._records.change
    step: tuple[Any, str, Callable[..., Any]] = {
        "send": (tool._queue, "send_again", die),
        "forget": (tool._records, "change", lambda *a: die() if a[1].startswith("REMOVE") else change(*a)),
        "delete": (tool._dead_letter_queue, "delete", die),
    }[dies_before]
    with monkeypatch.context() as patch:
        patch.setattr(*step)
        with pytest.raises(Died):
            tool.redrive(chosen)
    tool._dead_letter_queue.release()  # SQS does so by itself, after a while

    again = letters_of(moto_engine)
    left = list(again.find(Wanted()))
    assert [letter.id for letter in left] == ([] if dies_before == "delete" else [sent.id])
    assert [outcome.done for outcome in again.redrive(left)] == ["redriven"] * len(left)
    again.close()  # deletes what is on the dead-letter queue, and is not dead
    stored = [process_one(moto_engine) for _ in range(2 if dies_before == "forget" else 1)]
    assert [one.duplicate for one in stored] == [False, True][: len(stored)]
    assert moto_engine.queue.receive(10, 60) == []
    assert moto_engine.dead_letters() == []
    assert letters_of(moto_engine).get(sent.id) is None


def test_what_cannot_be_sent_stays_dead_and_says_why(
    moto_engine: engines.AwsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = bury(moto_engine)
    letters: Any = letters_of(moto_engine)
    monkeypatch.setattr(letters._queue, "send_again", lambda *_: NotSent("throttled"))
    assert [o.why_not for o in letters.redrive(list(letters.find(Wanted())))] == ["it was not sent: throttled"]
    monkeypatch.undo()
    assert found(letters) == [sent.id]
    assert [o.done for o in letters.redrive(list(letters.find(Wanted())))] == ["redriven"]


# --- files ---------------------------------------------------------------------------


def a_letter(**others: Any) -> DeadLetter:
    values: dict[str, Any] = {
        "id": "a-1",
        "workload": "orders",
        "caller": "anonymous",
        "accepted_at": 1_795_000_000_123,
        "dead_at": 1_795_000_001_001,
        "attempts": 5,
        "buried_by": "processor",
        "error_type": "KeyError",
        "error": "'größe' \x00 \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "first_failed_at": None,
        "last_failed_at": 1_795_000_000_999,
        "body": '{"a": "\\u0000"}',
    }
    return DeadLetter(**(values | others))


def test_a_line_holds_all_and_reads_back_as_it_was() -> None:
    letter = a_letter(sqs_deletes_at=1_796_000_000_007, recorded=False)
    line = dead.encode(letter)
    assert "\n" not in line
    assert json.loads(line)["dead_at"] == "2026-11-18T09:46:41.001000Z" or "2026-" in json.loads(line)["dead_at"]
    assert dead.decode(line.encode()) == letter


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "line 1: .*truncated"),
        (b"[]", "line 1: Expected `object`"),
        (dead.encode(a_letter(body=None)).encode(), "line 1: it has no body"),
        (dead.encode(a_letter()).replace('"a-1"', '"a/1"').encode(), r"line 1: .*`\$.id`"),
        (dead.encode(a_letter()).replace('"attempts":5', '"attempts":-1').encode(), r"line 1: .*`\$.attempts`"),
        (dead.encode(a_letter()).replace('"caller"', '"color":1,"caller"').encode(), "line 1: .*unknown field `color`"),
        (dead.encode(a_letter()).encode() + b"\n\nnonsense", "line 3: "),
        (b" " * (limits.MAX_IMPORT_LINE_BYTES + 1), "line 1 is over"),
        (dead.encode(a_letter(body="é" * limits.MAX_ENTRY_BYTES)).encode(), "line 1: its body is over"),
    ],
)
def test_a_bad_file_names_its_line(line: bytes, complaint: str) -> None:
    with pytest.raises(dead.FileError, match=complaint):
        list(dead.read(io.BytesIO(line)))


def test_a_rate_is_kept() -> None:
    now = [0.0]

    def pause(seconds: float) -> None:
        now[0] += seconds

    counts = apply(
        (a_letter(id=f"m-{n}") for n in range(95)),
        lambda batch: [dead.Outcome("redriven")] * len(batch),
        lambda *_: None,
        rate=10,
        pause=pause,
        clock=lambda: now[0],
    )
    assert counts == {"redriven": 95}
    assert now[0] == pytest.approx(9.5)


# --- the command, on a real server -----------------------------------------------------


def run(data: Path, *arguments: str, status: int = 0, typed: str = "") -> str:
    """`decoupled dead ...`; its output, both kinds."""
    command = [str(DECOUPLED), "dead", *arguments[:1], "--data", str(data), *arguments[1:]]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("dead") / "data"
    with serving(data, "--workloads", "hazards", "--max-attempts", "1") as server:
        yield server


def kill_some(server: Server, cured: Path, count: int = 3) -> list[str]:
    """Messages that are dead, and would be processed now."""
    ids = []
    for n in range(count):  # with good ones in between: a run of nothing but failures holds the workload
        bad = {"act": "raise", "once": str(cured.with_name(f"{cured.name}-{n}"))}
        ids.append(server.accept("/hazards", bad, {"act": "well"})[0])
    server.wait_until("dead", *[f"/hazards/{one}" for one in ids])
    return ids


def test_on_call(server: Server, tmp_path: Path) -> None:
    """What is dead, why, since when, until when; then put it back, beside the running server."""
    ids = kill_some(server, tmp_path / "cured")
    listed = run(server.data, "list")
    assert all(one in listed for one in ids)
    assert "RuntimeError: the workload says no" in listed
    assert "redriven or purged" in listed
    assert "3 dead" in listed
    assert "3 dead" in run(server.data, "list", "--alike", "RuntimeError: the workload says no")
    assert "No dead letters match." in run(server.data, "list", "--alike", "RuntimeError")
    lines = [json.loads(line) for line in run(server.data, "list", "--json", "--workload", "hazards").splitlines()]
    assert [line["id"] for line in lines] == ids
    assert json.loads(run(server.data, "show", ids[0]))["body"].startswith('{"act"')

    planned = run(server.data, "redrive", "--all", "--dry-run")
    assert "3 would be redriven" in planned
    assert server.statuses()["dead"] == 3
    assert "1 redriven" in run(server.data, "redrive", ids[0])
    assert "2 redriven" in run(server.data, "redrive", "--error", "RuntimeError", "--rate", "50")
    server.wait_until("processed", *[f"/hazards/{one}" for one in ids])
    assert "No dead letters" in run(server.data, "list")
    assert f"{ids[0]} is not dead here" in run(server.data, "redrive", ids[0], status=1)


def test_export_purge_import_redrive(server: Server, tmp_path: Path) -> None:
    ids = kill_some(server, tmp_path / "cured")
    file = tmp_path / "dead.jsonl"
    assert "3 exported" in run(server.data, "export", "-o", str(file))
    assert "nothing was purged" in run(server.data, "purge", "--all", typed="2\n", status=1)
    assert server.statuses()["dead"] == 3
    assert "1 purged" in run(server.data, "purge", ids[0], "--yes")
    assert "2 purged" in run(server.data, "purge", "--all", typed="2\n")
    assert server.get(f"/hazards/{ids[0]}").json["reason"] == PURGED
    assert "3 imported" in run(server.data, "import", str(file))
    assert "3 left alone: it is dead" in run(server.data, "import", str(file))
    assert "3 redriven" in run(server.data, "redrive", "--all")
    server.wait_until("processed", *[f"/hazards/{one}" for one in ids])


def test_a_bad_file_changes_nothing(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "dead.jsonl"
    file.write_text(dead.encode(a_letter()) + "\nnonsense\n")
    assert "line 2: " in run(server.data, "import", str(file), status=1)
    assert server.get("/hazards/a-1").status == 404


def test_a_redrive_under_load_loses_nothing(server: Server, tmp_path: Path) -> None:
    """The tool and the server write the same file at the same time."""
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201  shown when the test fails
    ids = kill_some(server, tmp_path / "cured", 300)
    tool = subprocess.Popen([str(DECOUPLED), "dead", "redrive", "--data", str(server.data), "--all", "--rate", "500"])
    accepted = []
    while tool.poll() is None:
        accepted += server.accept("/hazards", *[{"act": "well"}] * 20)
    assert tool.returncode == 0
    server.wait_until("processed", *[f"/hazards/{one}" for one in random.Random(seed).sample(ids + accepted, 50)])
    statuses = server.wait_until_settled()
    assert "dead" not in statuses
    assert server.get("/hazards/nobody").status == 404


def test_it_works_without_a_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--workloads", "hazards", "--max-attempts", "1") as server:
        ids = kill_some(server, tmp_path / "cured")
    assert "3 redriven" in run(data, "redrive", "--all")
    with serving(data, "--workloads", "hazards") as server:
        server.wait_until("processed", *[f"/hazards/{one}" for one in ids])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("redrive",), "choose by ids"),
        (("redrive", "--all", "some-id"), "choose by ids"),
        (("list", "--older-than", "yesterday"), "is not a duration"),
        (("list", "--stack", "shop"), "name two systems"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in run(tmp_path, *arguments, status=2)


def test_a_directory_without_a_database_is_refused_and_stays_empty(tmp_path: Path) -> None:
    assert "there is no" in run(tmp_path, "list", status=1)
    assert list(tmp_path.iterdir()) == []
