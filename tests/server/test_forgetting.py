"""A customer is forgotten while its server works, and nothing of it is left in any byte of the data directory."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from decoupled.core.dead_letters import Edit
from decoupled.core.forgetting import NOTHING, Asked
from decoupled.core.upkeep_limits import FORGET_AT_ONCE
from decoupled.engines.sqlite import edits, erasure, scrubbing, story
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.forget_tool import forget
from decoupled.engines.sqlite.forgetting import Survey, unheard
from decoupled.engines.sqlite.leftovers import Found, Wanted, search
from decoupled.engines.sqlite.pages import parse
from tests.support import rows
from tests.support.server import DECOUPLED, TRIAL, Server, decoupled, serving, wait_for

ANA, ANA_2 = "Anastasia Forgetmenot", "Benedikt Keepmealways"
T0 = 1_800_000_000_000


def order(name: str, n: int = 0) -> dict[str, Any]:
    return {
        "customer": {"email": f"{name.split()[1].lower()}{n}@example.com", "name": name},
        "currency": "EUR",
        "lines": [{"sku": "KB-104", "quantity": 1, "unit_price": "39.90"}],
        "shipping_address": {
            "line1": f"{name} Street {n}",
            "city": "Dublin",
            "postal_code": "D01 F5P2",
            "country": "IE",
        },
    }


def everywhere(data: Path, *texts: str) -> dict[str, list[str]]:
    """In which files of a data directory they stand; not what a key is called."""
    files = {path.name: path.read_bytes() for path in data.iterdir() if path.is_file() and path.name != "keys"}
    assert FILE_NAME in files
    return {text: found for text in texts if (found := [name for name, it in files.items() if text.encode() in it])}


class Shop:
    """A server with two callers whose names begin alike."""

    def __init__(self, server: Server, keys: Mapping[str, str]) -> None:
        self.server = server
        self.keys = keys

    def send(self, caller: str, path: str, entry: Any, **headers: str) -> dict[str, Any]:
        answer = self.server.post(path, entry, authorization=f"Bearer {self.keys[caller]}", **headers)
        assert answer.status == 202, answer
        sent: dict[str, Any] = answer.json
        return sent

    def get(self, caller: str, path: str) -> tuple[int, dict[str, Any]]:
        answer = self.server.ask("GET", path, headers={"authorization": f"Bearer {self.keys[caller]}"})
        return answer.status, answer.json

    def forget(self, *arguments: str, status: int = 0) -> str:
        return decoupled("forget", "--data", self.server.data, *arguments, status=status)

    def settled(self) -> None:
        self.server.wait_until_settled()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    data = tmp_path_factory.mktemp("forget") / "data"
    keys = {name: decoupled("keys", "add", name, "--data", data) for name in ("ana", "ana-2")}
    keys["ops"] = decoupled("keys", "add", "ops", "--operator", "--data", data)  # all before a front looks for them
    options = (
        "--auth",
        "keys",
        "--workloads",
        "orders,hazards,ledger,echoes",
        "--body-ttl",
        "30d",
        "--max-attempts",
        "1",
    )
    with serving(data, *options) as server:
        yield Shop(server, keys)


def test_a_caller_is_forgotten_under_load_and_its_neighbour_is_not(shop: Shop) -> None:
    mine = [shop.send("ana", "/orders", order(ANA, n), idempotency_key=f"k{n}") for n in range(80)]
    theirs = [shop.send("ana-2", "/orders", order(ANA_2, n), idempotency_key=f"k{n}") for n in range(20)]
    shop.settled()
    stop, sent = threading.Event(), list[dict[str, Any]]()

    def load() -> None:
        while not stop.is_set():
            sent.append(shop.send("ana-2", "/orders", order(ANA_2, len(sent))))

    loading = threading.Thread(target=load)
    loading.start()
    try:
        report = json.loads(shop.forget("--caller", "key:ana", "--yes", "--json"))
    finally:
        stop.set()
        loading.join()
    assert sent
    assert report["proven"], report
    assert report["erased"] == {"processed": 80, "bodies": 80, "results": 80}
    shop.settled()
    assert everywhere(shop.server.data, ANA, "forgetmenot") == {}
    for place in (mine[0]["status_url"], mine[-1]["status_url"]):
        for caller in ("ana", "ops"):
            status, problem = shop.get(caller, place)
            assert (status, problem["title"]) == (410, "Gone"), problem
    for place in [*theirs, *sent]:
        status, record = shop.get("ana-2", place["status_url"])
        assert (status, record["status"]) == (200, "processed")
    rows = shop.server.rows(
        "SELECT caller, result, body, digest, message_group FROM messages WHERE id = ?", mine[0]["id"]
    )
    assert rows == [("", '{"forgotten":true}', None, "", "")]


def test_what_is_sent_again_under_the_old_key_has_its_old_id_and_no_effect(shop: Shop) -> None:
    sent = shop.send("ana", "/orders", order(ANA), idempotency_key="again")
    shop.settled()
    shop.forget("--caller", "key:ana", "--yes")
    before = shop.server.rows("SELECT count(*) FROM messages")
    again = shop.send("ana", "/orders", order(ANA), idempotency_key="again")
    other = shop.send("ana", "/orders", order(ANA, 7), idempotency_key="again")
    assert again["id"] == other["id"] == sent["id"]
    assert shop.server.rows("SELECT count(*) FROM messages") == before
    assert shop.get("ana", sent["status_url"])[0] == 410
    assert everywhere(shop.server.data, ANA) == {}


def test_who_sends_on_meanwhile_is_not_told_that_nothing_is_left(shop: Shop) -> None:
    for n in range(80):
        shop.send("ana", "/orders", order(ANA, n))
    shop.settled()
    stop, sent = threading.Event(), list[dict[str, Any]]()

    def load() -> None:
        while not stop.is_set():
            sent.append(shop.send("ana", "/orders", order(ANA, len(sent))))

    loading = threading.Thread(target=load)
    tool = [
        str(DECOUPLED),
        "forget",
        "--data",
        str(shop.server.data),
        "--caller",
        "key:ana",
        "--unfinished",
        "--yes",
        "--json",
    ]
    loading.start()
    try:
        ran = subprocess.run(tool, capture_output=True, check=False)
    finally:
        stop.set()
        loading.join()
    report = json.loads(ran.stdout)
    assert sum(report["since"].values()) > 0
    assert (ran.returncode, report["proven"]) == (1, False)
    assert any("more was sent" in note for note in report["notes"])
    shop.settled()
    report = json.loads(shop.forget("--caller", "key:ana", "--yes", "--json"))
    assert (report["proven"], report["since"]) == (True, {})
    assert everywhere(shop.server.data, ANA) == {}


def test_what_is_not_finished_is_named_and_given_up_only_if_asked(shop: Shop) -> None:
    waits = shop.send("ana", "/hazards", {"act": "not yet", "seconds": 3600, "spans": ANA})
    at_once = shop.send("ana", "/hazards", {"act": "not yet", "seconds": 3600})
    said = shop.forget("--caller", "key:ana", "--yes", status=1)
    assert "2 messages of caller 'key:ana' are not finished" in said
    assert waits["id"] in said
    assert at_once["id"] in said
    assert shop.get("ana", waits["status_url"])[1]["status"] == "queued"
    before = shop.server.get("/health").json
    with ThreadPoolExecutor(1) as waiting:  # a client that waits for the end is told at once
        headers = {"authorization": f"Bearer {shop.keys['ana']}", "prefer": "wait=50"}
        waiter = waiting.submit(shop.server.ask, "GET", waits["status_url"], None, headers, 60)
        report = json.loads(shop.forget("--caller", "key:ana", "--yes", "--json", "--unfinished"))
        assert waiter.result(20).status == 410
    assert report["erased"]["given up"] == 2
    assert report["proven"]
    assert everywhere(shop.server.data, ANA) == {}
    assert shop.get("ana", waits["status_url"])[0] == 410
    assert before["status"] == shop.server.get("/health").json["status"]


def test_files_that_have_it_still_are_named(shop: Shop, tmp_path: Path) -> None:
    shop.send("ana", "/orders", order(ANA))
    shop.settled()
    copy = shop.server.data / f"{FILE_NAME}.compact"  # of a `compact` that was killed
    decoupled("backup", "--data", shop.server.data, backup := tmp_path / "backup.sqlite3")
    backup.rename(copy)
    assert copy.name in everywhere(shop.server.data, ANA)[ANA]
    report = json.loads(shop.forget("--caller", "key:ana", "--yes", "--json"))
    assert report["proven"]
    (note,) = [note for note in report["notes"] if "Not searched" in note]
    assert copy.name in note
    assert "history" not in note
    copy.unlink()
    assert everywhere(shop.server.data, ANA) == {}


def test_dead_letters_are_forgotten_and_an_import_does_not_bring_them_back(shop: Shop, tmp_path: Path) -> None:
    data = shop.server.data
    dead = shop.send("ana", "/hazards", {"act": "raise", "spans": ANA})
    wait_for(lambda: shop.server.statuses().get("dead"))
    export = tmp_path / "dead.jsonl"
    decoupled("dead", "export", "--data", data, "-o", export)
    assert ANA in export.read_text()
    report = json.loads(shop.forget("--caller", "key:ana", "--yes", "--json"))
    assert report["erased"]["dead"] == 1
    assert report["proven"]
    assert "dead" not in shop.server.statuses()
    said = subprocess.run(
        [DECOUPLED, "dead", "import", "--data", data, export], capture_output=True, text=True, check=False
    )
    assert "it is rejected" in said.stdout + said.stderr
    assert everywhere(data, ANA) == {}
    assert shop.get("ana", dead["status_url"])[0] == 410


def test_with_an_id_goes_all_that_came_of_it_and_nothing_else(shop: Shop) -> None:
    sent = shop.send("ana", "/ledger", {"account": 17_171_717, "amount": 3})
    other = shop.send("ana", "/ledger", {"account": 18_181_818, "amount": 3})
    shop.settled()
    report = json.loads(shop.forget("--id", sent["id"], "--yes", "--json"))
    assert report["erased"] == {"processed": 2, "bodies": 2, "results": 2}
    assert shop.get("ana", sent["status_url"])[0] == 410
    assert shop.get("ana", other["status_url"])[0] == 200
    assert "nothing that could be erased" in shop.forget("--id", sent["id"], "--yes", status=1)
    assert shop.get("ana", "/ledger/accounts/17171717")[0] == 200  # the caller's, and no message's
    assert "no items of 'ledger/stock'" in shop.forget("--caller", "key:ana", "--keep", "ledger/stock", status=1)
    arguments = ("--caller", "key:ana", "--keep", "echoes/accounts", "--yes", "--json")
    report = json.loads(shop.forget(*arguments))
    assert report["erased"]["items of ledger/accounts"] == report["erased"]["kept items of echoes/accounts"] == 2
    assert shop.get("ops", "/ledger/accounts/17171717")[0] == 404
    assert shop.get("ops", "/echoes/accounts/17171717")[0] == 200
    assert shop.get("ana", "/echoes/accounts/17171717")[0] == 404  # it is nobody's


def test_what_makes_no_sense_is_refused(shop: Shop) -> None:
    for arguments, says in (
        ([], "name a caller or an id"),
        (["--caller", "x", "--id", "y"], "name a caller or an id"),
        (["--caller", "anonymous"], "all who did not say who they are"),
        (["--caller", "ana", "--all-anonymous"], "all who did not say who they are"),
        (["--caller", ""], "a caller has a name"),
        (["--id", "../../x"], "can be no id"),
        (["--id", "'; DROP TABLE messages; --"], "can be no id"),
    ):
        said = shop.forget(*arguments, "--yes", status=2)
        assert says in said.replace("\n", " "), said
    for hostile in ("' OR 1=1 --", "%", "key:an", "nobody"):
        assert "nothing that could be erased is here" in shop.forget("--caller", hostile, "--yes", status=1)


def test_the_audit_and_the_story_know_what_was_forgotten(shop: Shop, tmp_path: Path) -> None:
    sent = shop.send("ana", "/orders", order(ANA, 3))
    shop.send("ana", "/ledger", {"account": 5, "amount": 1})
    shop.settled()
    shop.send("ana-2", "/ledger", {"account": 5, "amount": 1})  # another has a share in an item of hers
    shop.settled()
    shop.forget("--caller", "key:ana", "--yes")
    decoupled("backup", "--data", shop.server.data, tmp_path / "backup.sqlite3")
    workloads = ",".join(f"{TRIAL}/workloads/{name}.py" for name in ("hazards", "ledger", "echoes"))
    audit = ("audit", "--json", "--workloads", f"orders,{workloads}", tmp_path / "backup.sqlite3")
    found = json.loads(subprocess.run([DECOUPLED, *audit], capture_output=True, check=False).stdout)
    assert found["faults"] == []
    database = DataDirectory(shop.server.data).file
    with contextlib.closing(Database(database, read_only=True)) as there:
        told = story.read(there, sent["id"], T0, T0)
    assert told is not None
    assert (told.row.status, told.row.caller) == ("processed", "")


def test_one_that_forgot_only_half_is_found_by_the_audit(tmp_path: Path) -> None:
    rows.many(tmp_path / "data", 10)
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / FILE_NAME)) as file:
        file.execute("UPDATE messages SET caller = '', result = ? WHERE seq = 3", (NOTHING,))
        file.execute("UPDATE messages SET caller = '', result = ?, body = '{}' WHERE seq = 4", (NOTHING,))
        file.commit()
    audit = [str(DECOUPLED), "audit", "--json", "--data", str(tmp_path / "data")]
    (fault,) = json.loads(subprocess.run(audit, capture_output=True, check=False).stdout)["faults"]
    assert fault["what"] == "it was forgotten, and has body still"
    assert len(fault["ids"]) == 1


# --- interrupted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("served", [True, False])
def test_killed_in_the_middle_and_asked_again_it_comes_to_its_end(tmp_path: Path, served: bool) -> None:
    data, count = tmp_path / "data", 40 * FORGET_AT_ONCE
    rows.many(data, count)
    with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as file:
        file.execute("UPDATE messages SET caller = ?, result = ? WHERE seq % 10", (ANA, json.dumps({"of": ANA})))
        file.commit()
    with serving(data, "--fronts", "0") if served else contextlib.nullcontext() as server:
        tool = subprocess.Popen([DECOUPLED, "forget", "--caller", ANA, "--yes", "--data", data])
        wait_for(lambda: _erased(data) >= FORGET_AT_ONCE)
        if server is None:
            tool.send_signal(signal.SIGKILL)
        else:
            server.kill()
        assert tool.wait(20) != 0
        erased = _erased(data)
        assert 0 < erased < count * 9 // 10
        if server is not None:
            server.start()
        nobody = decoupled("forget", "--caller", ANA.lower(), "--yes", "--data", data, status=1)  # else a typo is proof
        assert "nothing that could be erased is here" in nobody
        report = json.loads(decoupled("forget", "--caller", ANA, "--yes", "--json", "--data", data))
    assert report["erased"]["processed"] == count * 9 // 10 - erased
    assert report["proven"]
    assert any("An earlier run did not come to its end" in note for note in report["notes"])
    assert everywhere(data, ANA) == {}
    assert _erased(data) == count * 9 // 10


def interrupted(data: Path, message_id: str) -> None:
    """As a run with an id leaves it that was killed after its only transaction."""
    with contextlib.closing(Database(data / FILE_NAME)) as database:
        whose = erasure.of_ids([message_id])
        (there,) = erasure.there(database, whose, 1, 100)
        assert erasure.erase(database, whose, [there.seq], unfinished=False, now_ms=T0).whose


def test_what_was_not_searched_for_is_not_proven_and_made_anew_nothing_is_left_to_prove(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows.many(data, 5)
    with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as file:
        ((message_id,),) = file.execute("SELECT id FROM messages WHERE seq = 3")
    interrupted(data, message_id)
    asked = ("forget", "--id", message_id, "--yes", "--data", data)
    done = subprocess.run([DECOUPLED, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = done.stdout
    assert "searched for 0 texts" in said
    assert "nothing is proven" in said
    assert "decoupled compact" in said
    decoupled("compact", "--data", data)
    assert "nothing that could be erased is here" in decoupled(*asked, status=1)
    with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as file:
        ((other,),) = file.execute("SELECT id FROM messages WHERE seq = 4")
        file.execute("UPDATE messages SET result = ? WHERE seq = 4", (json.dumps({"of": ANA}),))
        file.commit()
    report = json.loads(decoupled("forget", "--id", other, "--yes", "--json", "--data", data))
    assert report["proven"]
    assert not any("earlier run" in note for note in report["notes"])


def _erased(data: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{data / FILE_NAME}?mode=ro", uri=True)) as file:
        number: int = file.execute("SELECT count(*) FROM messages WHERE caller = ''").fetchone()[0]
    return number


# --- bytes that belong to no row --------------------------------------------------------------------------------------


def scattered(file: Path, seed: int) -> None:
    """Rows that grow and shrink, so that SQLite moves them from page to page, and leaves something of them behind."""
    chance = random.Random(seed)
    database = Database(file)
    waiting: list[int] = []
    for _ in range(60):
        database.begin()
        for _ in range(chance.randint(1, 80)):
            caller = chance.choice((ANA, f"{ANA} the second", ANA_2))
            body = json.dumps({"said": f"{caller} " * chance.choice((1, 5, 30, 30, 600))})
            values = (f"{chance.getrandbits(160):040x}", T0, caller, body, caller)
            waiting.append(
                database.execute(
                    "INSERT INTO messages (status, visible_at, id, workload, accepted_at, caller, body, message_group)"
                    " VALUES ('queued', 1, ?, 'orders', ?, ?, ?, ?) RETURNING seq",
                    values,
                ).fetchone()[0]
            )
        chance.shuffle(waiting)
        for _ in range(chance.randint(0, len(waiting))):
            result = json.dumps({"text": "some " * chance.choice((1, 50, 150, 1_500))})
            database.execute(
                "UPDATE messages SET status = 'processed', body = NULL, result = ? || caller, finished_at = ?"
                " WHERE seq = ?",
                (result, T0, waiting.pop()),
            )
        for _ in range(10):
            item = json.dumps({"of": f"{chance.choice((ANA, ANA_2))} " * chance.randint(1, 40)})
            owner = ANA if ANA in item else ANA_2
            key = f"orders/x/{chance.randint(1, 200)}"
            database.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", (key, item, owner))
        database.commit()
    database.close()


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_left_where_rows_were_and_what_is_others_is_as_it_was(tmp_path: Path, seed: int) -> None:
    data = tmp_path / "data"
    data.mkdir()
    scattered(data / FILE_NAME, seed)
    before = theirs(data)
    report = forget(DataDirectory(data), Asked(caller=ANA, unfinished=True), unheard)
    assert report.proven, (seed, report)
    assert report.scrubbed
    assert theirs(data) == before
    found = looked(data, ANA)
    assert (found.left, found.remaining) == (0, 0)
    assert found.elsewhere  # the second's name begins with it
    bytes_left = (data / FILE_NAME).read_bytes()
    assert bytes_left.count(ANA.encode()) == bytes_left.count(f"{ANA} the second".encode())


def test_keys_of_items_groups_and_bodies_before_an_edit_are_left_nowhere_either(tmp_path: Path) -> None:
    """Where none of them says the caller's name."""
    data, chance = tmp_path / "data", random.Random(7)
    data.mkdir()
    places = [(whose, n) for whose in ("mine", "theirs") for n in range(1_500)]
    chance.shuffle(places)
    with contextlib.closing(Database(data / FILE_NAME)) as database:
        for whose, n in places:
            caller = {"mine": ANA, "theirs": ANA_2}[whose]
            group, message_id = f"{whose}-group-{n:05}-{chance.random()}", f"{chance.getrandbits(160):040x}"
            database.execute(
                "INSERT INTO messages (status, visible_at, id, workload, accepted_at, caller, body, message_group)"
                " VALUES ('queued', 1, ?, 'orders', ?, ?, '{}', ?)",
                (message_id, T0, caller, group),
            )
            key = f"shop/carts/{whose}-cart-{chance.random()}"
            database.execute("INSERT INTO items VALUES (?, '{}', ?)", (key, caller))
        database.execute(
            "UPDATE messages SET status = 'processed', body = NULL, result = '{}', finished_at = ? WHERE seq % 3", (T0,)
        )
        database.execute(
            "UPDATE messages SET status = 'dead', finished_at = ?, result = NULL, error = '', error_type = ''"
            " WHERE seq % 21 = 0",
            (T0,),
        )
        for message_id, caller in database.execute("SELECT id, caller FROM messages WHERE status = 'dead'").fetchall():
            said = f"{'mine' if caller == ANA else 'theirs'}-before-{chance.random()}"
            edits.put(database, message_id, Edit(T0, "me", json.dumps({"said": said + "." * chance.randint(0, 900)})))
    report = forget(DataDirectory(data), Asked(caller=ANA, unfinished=True), unheard)
    assert report.proven, report
    content = (data / FILE_NAME).read_bytes()
    assert [text for text in (b"mine-cart-", b"mine-group-", b"mine-before-") if text in content] == []
    assert content.count(b"theirs-cart-") >= 1_500
    theirs(data)


def test_of_large_bodies_only_the_beginning_is_in_memory(tmp_path: Path) -> None:
    rows.many(tmp_path / "data", 300)
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / FILE_NAME)) as file:
        file.execute("UPDATE messages SET caller = ?, body = hex(zeroblob(100000))", (ANA,))
        file.execute("INSERT INTO items VALUES ('shop/carts/1', hex(zeroblob(150000)), ?)", (ANA,))
        file.commit()
    with contextlib.closing(Database(tmp_path / "data" / FILE_NAME, read_only=True)) as database:
        tracemalloc.start()
        try:
            report = Survey(database, Asked(caller=ANA)).report()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert report.erased["processed"] == 300
    assert most < 10_000_000  # of 60


def theirs(data: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [
            file.execute("SELECT * FROM messages WHERE caller NOT IN (?, '') ORDER BY seq", (ANA,)).fetchall(),
            file.execute("SELECT * FROM items WHERE owner <> ? ORDER BY key", (ANA,)).fetchall(),
            file.execute("SELECT seq, id, workload, accepted_at FROM messages ORDER BY seq").fetchall(),
        ]


def looked(data: Path, *texts: str) -> Found:
    return search(Wanted(str(data / FILE_NAME), 4_096, list(texts), remains=True), unheard)


def test_what_sqlite_leaves_behind_is_found_and_belongs_to_no_row(tmp_path: Path) -> None:
    """Else the test above would hold whatever is done."""
    scattered(tmp_path / FILE_NAME, 0)
    with contextlib.closing(Database(tmp_path / FILE_NAME)) as database:
        numbers = [seq for (seq,) in database.execute("SELECT seq FROM messages")]
        erasure.erase(database, erasure.of_caller(ANA), numbers, unfinished=True, now_ms=T0)
        erasure.erase_items(database, ANA, [n for (n,) in database.execute("SELECT rowid FROM items")])
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        found = looked(tmp_path, ANA)
        assert found.hits
        scrubbing.scrub(database, found.leaves)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        assert looked(tmp_path, ANA).hits < found.hits


def test_every_byte_of_a_page_is_a_rows_or_nothings(tmp_path: Path) -> None:
    """By SQLite's own account of its pages: what is free on each says its header."""
    scattered(tmp_path / FILE_NAME, 1)
    content = (tmp_path / FILE_NAME).read_bytes()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as file:
        try:
            pages = file.execute(
                "SELECT pageno, ncell, unused FROM dbstat WHERE pagetype IN ('leaf', 'internal')"
            ).fetchall()
        except sqlite3.OperationalError:
            pytest.skip("this SQLite does not tell")
    assert len(pages) > 100
    for number, cells, unused in pages:
        if number > 1:
            parsed = parse(content[(number - 1) * 4_096 : number * 4_096], number)
            assert parsed is not None
            assert len(parsed.cells) == cells
            assert 4_096 - parsed.cells_from - sum(cell.end - cell.start for cell in parsed.cells) == unused
