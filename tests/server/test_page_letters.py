"""What the page asks of dead letters and messages, answered beside a real server: ten thousand dead letters of three
errors are found, counted and put back, whatever happens to the server meanwhile."""

from __future__ import annotations

import contextlib
import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter
from decoupled.core.identifiers import keyed_id
from decoupled.core.problem import Problem
from decoupled.core.workload import Message, Unavailable
from decoupled.dashboard import letters, messages
from decoupled.dashboard.shapes import Change, Changed, Which
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.search import SqliteSearch
from decoupled.engines.sqlite.tool import ToolDeadLetters
from decoupled.pipeline.call import Call
from tests.support.dead_letters import dead_letters, fill
from tests.support.engines import ReceivingSqliteQueue
from tests.support.ledger import ACCOUNTS, accounted
from tests.support.server import LAUNCH, Server, wait_for

MANY = 10_000
KINDS = {
    "KeyError: no such product: '…'": 3_334,
    "ValueError: order # of …@… is over its limit of #": 3_333,
    "ConnectionError: https://bank.example/… answered after # ms": 3_333,
}
OPTIONS = ("--workloads", "ledger,echoes", "--log-level", "WARNING")


class Page:
    """Asks the handlers, as the server of a data directory does (`served`) or a process beside it."""

    def __init__(self, data: Path, served: bool = False) -> None:
        self.data = data
        self.served = served
        self.search = SqliteSearch(DataDirectory(data))

    def dead_letters(self) -> ToolDeadLetters:
        return ToolDeadLetters(DataDirectory(self.data), self.served)

    def get(self, handler: Callable[[Call, Any], Any], message_id: str = "", **parameters: Any) -> Any:
        return handler(Call(["-", "x", message_id], urlencode(parameters), {}, b""), self)

    def post(self, handler: Callable[[Call, Any], Changed], change: Any) -> Changed:
        headers = {"content-type": "application/json"}
        return handler(Call(["-", "dead", "x"], "", headers, msgspec.json.encode(change)), self)

    def batches(self, handler: Callable[[Call, Any], Changed], which: Which) -> Iterator[Changed]:
        """As a browser goes on."""
        cursor = None
        for _ in range(1_000):
            yield (done := self.post(handler, Change(which=which, cursor=cursor)))
            if (cursor := done.cursor) is None:
                return
            which = msgspec.structs.replace(which, dead_before=done.until)
        raise AssertionError("there is no end of it")


def stocked(data: Path, count: int) -> list[DeadLetter]:
    bodies = [json.dumps({"account": n % ACCOUNTS, "amount": n}) for n in range(count)]
    return list(fill(data, dead_letters(count, workload="ledger", bodies=bodies)))


def accounts(made: Sequence[DeadLetter]) -> dict[str, tuple[int, int]]:
    found = {letter.id: json.loads(letter.body or "") for letter in made}
    return {message_id: (entry["account"], entry["amount"]) for message_id, entry in found.items()}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", *OPTIONS)
    yield server
    server.end()


# --- looking


def test_ten_thousand_of_three_errors_are_three_groups_the_largest_first(tmp_path: Path) -> None:
    made = stocked(tmp_path, MANY)
    page = Page(tmp_path)
    told = page.get(letters.groups)
    assert (told.total, told.note) == (MANY, "")
    assert {group.alike: group.count for group in told.groups} == KINDS
    assert [group.count for group in told.groups] == sorted(KINDS.values(), reverse=True)
    assert told.groups[0].oldest_at == made[0].dead_at
    assert page.get(letters.groups, error="ValueError").total == 3_333
    assert page.get(letters.groups, newer_than_s=0).total == 0


def test_the_letters_of_a_group_are_listed_part_after_part(tmp_path: Path) -> None:
    made = stocked(tmp_path, 400)
    page, alike, found, cursor = Page(tmp_path), next(iter(KINDS)), list[Any](), dict[str, str]()
    for _ in range(10):
        some = page.get(letters.listed, alike=alike, limit=50, **cursor)
        found += some.letters
        if some.cursor is None:
            break
        cursor = {"cursor": some.cursor}
    theirs = [letter for letter in made if letter.error_type == "KeyError"]
    assert [(it.id, it.dead_at, it.error) for it in found] == [(it.id, it.dead_at, it.error) for it in theirs]
    assert len(page.get(letters.listed).letters) == 100


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"limit": "0"}, "limit is a whole number of 1 to 500; this was '0'"),
        ({"limit": "501"}, "limit is a whole number"),
        ({"limit": "ten"}, "limit is a whole number of 1 to 500; this was 'ten'"),
        ({"limit": "٣"}, "limit is a whole number"),
        ({"newer_than_s": "-1"}, "newer_than_s is a whole number"),
        ({"cursor": "abc"}, "cursor is what the answer before had"),
        ({"colour": "red"}, "There is no parameter 'colour' here; there are workload, error"),
        ({"error": "x" * 2_001}, "error has 2001 characters; 2000 is the limit"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(tmp_path: Path, parameters: dict[str, str], said: str) -> None:
    stocked(tmp_path, 1)
    with pytest.raises(Problem, match=said) as refused:
        Page(tmp_path).get(letters.listed, **parameters)
    assert refused.value.status == 400


def test_a_parameter_that_comes_twice_is_refused(tmp_path: Path) -> None:
    stocked(tmp_path, 1)
    with pytest.raises(Problem, match="limit comes twice"):
        letters.listed(Call(["-", "dead", "letters"], "limit=1&limit=2", {}, b""), Page(tmp_path))  # type: ignore[arg-type]


# --- changing


def test_a_dry_run_counts_by_kind_and_changes_nothing(server: Server) -> None:
    made = stocked(server.data, 300)
    server.start()
    page = Page(server.data)
    told = page.post(letters.redrive, Change(which=Which(workload="ledger"), dry_run=True))
    assert (told.counts, told.cursor, told.failures, told.note) == ({"redriven": 300}, None, [], "")
    assert told.until is not None
    assert {kind.alike: kind.count for kind in told.kinds} == dict.fromkeys(KINDS, 100)
    few = Change(which=Which(ids=[made[0].id, made[3].id, "unknown"]), dry_run=True)
    told = page.post(letters.purge, few)
    assert (told.counts, [kind.count for kind in told.kinds]) == ({"purged": 2, "not: it is not dead here": 1}, [2])
    assert told.failures == [("unknown", "it is not dead here")]
    assert server.statuses() == {"dead": 300}


@pytest.mark.parametrize(
    ("point", "served"), [("before_commit_of_a_redrive", True), ("after_commit_of_a_redrive", False)]
)
def test_ten_thousand_are_redriven_once_each_though_the_server_is_killed_halfway(
    server: Server, point: str, served: bool
) -> None:
    made = stocked(server.data, MANY)
    server.program = (*LAUNCH, point, "47")
    server.start()
    page, cursor, until, died = Page(server.data, served), None, None, 0
    counts: Counter[str] = Counter()
    for _ in range(200):
        try:
            done = page.post(letters.redrive, Change(which=Which(dead_before=until), cursor=cursor))
        except Unavailable:
            died += 1
            assert server.wait() == -signal.SIGKILL
            server.program = Server(server.data).program
            server.start()
            continue
        counts += Counter(done.counts)
        cursor, until = done.cursor, done.until
        if cursor is None:
            break
    assert died == 1
    # What was redriven in the batches of the request that got no answer is not in the counts; nothing else is missing.
    assert MANY - limits.PAGE_BATCH <= counts["redriven"] < MANY
    assert set(counts) == {"redriven"}
    server.wait_until_settled(seconds=90)
    assert server.stop() == 0
    with contextlib.closing(Database(server.data / FILE_NAME, read_only=True)) as database:
        assert len(accounted(database, accounts(made))) == MANY
        assert database.execute("SELECT DISTINCT status FROM messages").fetchall() == [("processed",)]


def test_only_what_matches_is_changed_and_what_dies_again_is_left_alone(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--workloads", "hazards", "--max-attempts", "1", "--log-level", "ERROR")
    bodies = ['{"act": "raise"}', '{"act": "well"}', '{"act": "well"}'] * 10
    fill(server.data, dead_letters(30, workload="hazards", bodies=bodies))
    try:
        server.start()
        page, alike = Page(server.data), next(iter(KINDS))
        done = list(page.batches(letters.redrive, Which(alike=alike)))
        assert sum((Counter(it.counts) for it in done), Counter()) == {"redriven": 10}
        wait_for(
            lambda: page.get(letters.groups, alike="RuntimeError: the workload says no").total, lambda it: it == 10
        )
        again = list(page.batches(letters.redrive, Which(dead_before=done[0].until)))
        assert sum((Counter(it.counts) for it in again), Counter()) == {"redriven": 20}
        wait_for(server.statuses, lambda it: it == {"dead": 10, "processed": 20})
        done = list(page.batches(letters.purge, Which(error="says NO")))
        assert sum((Counter(it.counts) for it in done), Counter()) == {"purged": 10}
        assert server.statuses() == {"rejected": 10, "processed": 20}
    finally:
        server.end()


def test_those_of_a_selection_are_changed_and_failures_are_named(server: Server) -> None:
    made = stocked(server.data, 700)
    server.start()
    page = Page(server.data, served=True)
    chosen = [letter.id for letter in made[:620]]
    page.post(letters.purge, Change(which=Which(ids=chosen[:10])))
    first, second = page.batches(letters.redrive, Which(ids=[*chosen, *chosen[:50]]))  # twice is once
    assert first.counts == {"redriven": 490, "not: it is not dead here": 10}
    assert first.failures == [(message_id, "it is not dead here") for message_id in chosen[:10]]
    assert second.counts == {"redriven": 120}
    wait_for(server.statuses, lambda it: it == {"dead": 80, "rejected": 10, "processed": 2 * 610})


def test_without_a_server_the_changes_are_made_all_the_same_and_the_directory_is_let_go_of(server: Server) -> None:
    stocked(server.data, 5)
    page = Page(server.data)
    assert page.post(letters.redrive, Change(which=Which())).counts == {"redriven": 5}
    server.start()
    wait_for(server.statuses, lambda it: it == {"processed": 10})


def test_a_part_of_a_server_never_takes_the_directory_for_itself(tmp_path: Path) -> None:
    stocked(tmp_path, 5)
    with pytest.raises(Unavailable, match="is in use"):
        Page(tmp_path, served=True).post(letters.redrive, Change(which=Which()))
    assert Page(tmp_path).get(letters.groups).total == 5


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"which": {"ids": []}}, 422, "1 to 1,000 ids"),
        ({"which": {"ids": ["x"] * 1_001}}, 422, "1 to 1,000 ids"),
        ({"which": {"ids": ["x"], "workload": "ledger"}}, 422, "not both"),
        ({"which": {"color": "red"}}, 422, "unknown field `color`"),
        ({"which": {"dead_before": 2**63}}, 422, "`int` <= 100000000000000 - at"),
        ({"which": {"dead_after": -1}}, 422, "`int` >= 0"),
        ({"which": {"error": "x" * 60_000}}, 422, "length <= 2000"),  # SQLite takes no such pattern
        ({}, 422, "missing required field `which`"),
        ({"which": {}, "cursor": "abc"}, 400, "cursor is what the answer before had"),
        ({"which": {"ids": ["x"]}, "cursor": "2"}, 400, "with the same ids"),
        ("x" * 200_000, 413, "is the limit"),
        (None, 422, "Expected `object`"),
    ],
)
def test_a_change_that_is_not_clear_is_refused(tmp_path: Path, change: Any, status: int, said: str) -> None:
    stocked(tmp_path, 1)
    page = Page(tmp_path)
    with pytest.raises(Problem, match=said) as refused:
        page.post(letters.purge, change)
    assert refused.value.status == status
    assert page.get(letters.groups).total == 1


def test_a_change_is_json_and_says_so(tmp_path: Path) -> None:
    """A form of another page cannot send such a one."""
    stocked(tmp_path, 1)
    page: Any = Page(tmp_path)
    for content_type, body, status in (
        ("text/plain", b'{"which":{}}', 415),
        ("", b'{"which":{}}', 415),
        ("application/json", b'{"which":', 400),
    ):
        with pytest.raises(Problem) as refused:
            letters.redrive(Call(["-", "dead", "redrive"], "", {"content-type": content_type}, body), page)
        assert refused.value.status == status


# --- messages


def test_messages_are_found_by_what_the_page_asks(tmp_path: Path) -> None:
    made = stocked(tmp_path, 60)
    with contextlib.closing(Database(tmp_path / FILE_NAME)) as database:
        keyed = keyed_id("ledger", "ada", "cart 1")
        ReceivingSqliteQueue(database).send([Message(keyed, "ledger", "{}", "ada", made[-1].dead_at)])
    page = Page(tmp_path)
    found = page.get(messages.find, limit=20)
    assert [row.id for row in found.rows] == [keyed, *(it.id for it in made[:-20:-1])]
    assert page.get(messages.find, limit=20, cursor=found.cursor).rows[0].id == made[-20].id
    for key in ("cart 1", '"cart 1"'):  # as it is, and as it stands in the header
        assert [row.id for row in page.get(messages.find, key=key, caller="ada").rows] == [keyed]
    assert [row.id for row in page.get(messages.find, id=f" {made[7].id}.kN3fWcuT2h9rQ_w1XzB ").rows] == [made[7].id]
    assert len(page.get(messages.find, status="dead", error="KEYERROR").rows) == 0
    assert len(page.get(messages.find, status="dead", error="KeyError", accepted_after=made[30].accepted_at).rows) == 10


def test_a_story_is_asked_for_by_id(tmp_path: Path) -> None:
    (letter,) = stocked(tmp_path, 1)
    page = Page(tmp_path)
    assert page.get(messages.story, letter.id).row.id == letter.id
    assert page.get(messages.story, f"{letter.id}.kN3fWcuT2h9rQ_w1XzB").row.id == letter.id
    for message_id in ("unknown", "no id at all", "x" * 500, ""):
        with pytest.raises(Problem) as refused:
            page.get(messages.story, message_id)
        assert refused.value.status == 404


@pytest.mark.parametrize(
    ("parameters", "status", "said"),
    [
        ({"status": "lost"}, 400, "Invalid enum value 'lost'.*status"),
        ({"limit": "201"}, 400, "limit is a whole number of 1 to 200"),
        ({"accepted_after": "yesterday"}, 400, "accepted_after is a whole number"),
        ({"key": '"a'}, 400, "Idempotency-Key is a string"),
        ({"id": "no id at all"}, 404, "is no message's id"),
        ({"cursor": "abc"}, 422, "cursor is what the answer before had"),
        ({"body": "x"}, 400, "There is no parameter 'body' here"),
    ],
)
def test_what_cannot_be_sought_is_refused_by_name(
    tmp_path: Path, parameters: dict[str, str], status: int, said: str
) -> None:
    stocked(tmp_path, 1)
    with pytest.raises(Problem, match=said) as refused:
        Page(tmp_path).get(messages.find, **parameters)
    assert refused.value.status == status
