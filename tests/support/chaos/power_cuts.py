"""Power cuts: a server lives and dies under load while all that is done to its disk is written down. Then the disk is
made as it could be if the power had gone at some moment, and asked for all that clients had been told by then."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline.loading import load
from decoupled.pipeline.processor import decide
from decoupled.pipeline.settlement import Policy, settle
from tests.support import ledger
from tests.support.chaos.disk import Act, Call, Disk, File, Rule
from tests.support.chaos.record import Event, Kind, Record, events
from tests.support.chaos.replay import Replay
from tests.support.ledger import Load
from tests.support.server import DECOUPLED, TRIAL, WITHIN_S, Server, wait_for

OPTIONS = ("--workloads", "ledger,echoes", "--log-level", "ERROR")
WORKLOADS = load([str(TRIAL / "workloads" / "ledger.py"), str(TRIAL / "workloads" / "echoes.py")])
CHANGES = Call.WRITE | Call.SYNC | Call.TRUNCATE | Call.UNLINK
STORED = File.DATABASE | File.LOG
ENDINGS = (
    "stopped",
    "killed",
    "died in a call",
    "killed after a failed sync",
    "killed when the disk works again",
    "stopped badly",
    "never served",
)
LONGEST_WRITE = 4_096  # bytes of SQLite's: a page
LAST_CHANGE = 20  # of a start on a new directory
MOST_ENTRIES = 200  # of a life, so that some fold the log into the file and most do not
LOOKED_AT = 5  # records a life, whose status a client saw
DRAINED = 0.25  # of the disks: what is queued there is processed, too


def some_endings(seed: int, lives: int) -> list[str]:
    """Of so many lives, each kind once before one comes again."""
    choose, endings = random.Random(seed), list[str]()
    while len(endings) < lives:
        endings += choose.sample(ENDINGS, len(ENDINGS))
    return endings[:lives]


def record(directory: Path, seed: int, endings: Sequence[str], program: Sequence[str] = (str(DECOUPLED),)) -> None:
    """Serve from the same data directory until each of these ends, one after the other."""
    choose = random.Random(seed)
    written = Record(directory / "record")
    disk = Disk(directory / "data", directory / "control", written.path)
    server = Server(directory / "data", *OPTIONS, program=program)
    server.environment = disk.environment
    try:
        with Load(server.port, seed, lambda accepted: written.tell(Kind.ACCEPTED, accepted)) as clients:
            for ending in endings:
                if ending == "never served":
                    _start_in_vain(server, disk, choose)
                    continue
                server.start()
                _accept_some(clients, choose)
                _look(server, clients, written, choose)
                _end(ending, server, disk, clients, choose)
    finally:
        server.end()
        written.close()


def _start_in_vain(server: Server, disk: Disk, choose: random.Random) -> None:
    """One change that a start makes comes to nothing; some starts do without it."""
    nth = choose.randint(1, LAST_CHANGE)
    disk.arm(Rule(CHANGES, Act.FAIL, first=nth, last=nth))
    server.spawn()
    wait_for(lambda: disk.done()[0] or server.ended())
    server.kill()
    disk.disarm()


def _accept_some(clients: Load, choose: random.Random) -> None:
    entries = len(clients.accepted) + choose.randint(LOOKED_AT, MOST_ENTRIES)
    wait_for(lambda: len(clients.accepted) >= entries)


def _look(server: Server, clients: Load, written: Record, choose: random.Random) -> None:
    with clients.lock:
        ids = choose.sample(sorted(clients.accepted), LOOKED_AT)
    for message_id in ids:
        if server.get(f"/ledger/{message_id}").json["status"] == "processed":
            written.tell(Kind.PROCESSED, message_id)


def _end(ending: str, server: Server, disk: Disk, clients: Load, choose: random.Random) -> None:
    """And leave the disk in order."""
    nth = choose.randint(1, 40)
    if ending == "stopped":
        assert server.stop() == 0, server.logged()
    elif ending == "killed":
        server.kill()
    elif ending == "died in a call":
        act = choose.choice((Act.DIE_BEFORE, Act.DIE_HALFWAY, Act.DIE_AFTER))
        disk.arm(Rule(CHANGES, act, files=STORED, first=nth))
        server.wait()
    elif ending == "killed after a failed sync":
        disk.arm(Rule(Call.SYNC, Act.FAIL, files=STORED, first=nth))
        wait_for(lambda: disk.done()[0] > 0)
        server.kill()
    elif ending == "killed when the disk works again":
        fault = choose.choice(((Call.SYNC, File.LOG), (Call.WRITE, File.LOG), (CHANGES, File.DATABASE)))
        disk.arm(Rule(fault[0], Act.FAIL, files=fault[1], first=nth, last=nth + choose.randint(0, 9)))
        _accept_some(clients, choose)
        server.kill()
    else:  # the last fold of the log into the file is not to be
        disk.arm(Rule(CHANGES, Act.FAIL, files=File.DATABASE, first=choose.randint(1, 4)))
        server.stop()
    disk.disarm()


def check(directory: Path, seed: int, cuts: int) -> Counter[str]:
    """Cut the power so often in what is recorded there. What was looked at; raises AssertionError when something that a
    client had been told is not there."""
    counts = Counter[str]()
    happened = list(events(directory / "record"))
    points = _points(happened, random.Random(seed), cuts)
    replay, accepted, processed = Replay(), ledger.Entries(), set[str]()
    for number, event in enumerate(happened, 1):
        if event.kind is Kind.ACCEPTED:
            accepted |= {message_id: tuple(entry) for message_id, entry in event.told.items()}
        elif event.kind is Kind.PROCESSED:
            processed.add(event.told)
        else:
            replay.play(event)
        if number in points:
            counts["power cuts"] += 1
            counts["202s looked for"] += len(accepted)
            with tempfile.TemporaryDirectory(dir=directory, prefix="cut-") as image:
                _check_one(Path(image), replay, random.Random(seed + number), number, accepted, processed)
    _check_record(directory / "data", replay)
    return counts + Counter({"disk calls recorded": len(happened)})


def _points(happened: Sequence[Event], choose: random.Random, cuts: int) -> set[int]:
    """After how many events: half of them just after a client was told, the others at a sync, and anywhere."""
    told = [number for number, event in enumerate(happened, 1) if event.kind is Kind.ACCEPTED]
    synced = [number + step for number, event in enumerate(happened) if event.kind is Kind.SYNCED for step in (0, 1)]
    anywhere = range(1, len(happened) + 1)
    chosen = [(told, cuts // 2), (synced, cuts // 4), (anywhere, cuts - cuts // 2 - cuts // 4)]
    return {number for numbers, wanted in chosen for number in choose.sample(numbers, min(wanted, len(numbers)))}


def _check_one(
    image: Path,
    replay: Replay,
    choose: random.Random,
    number: int,
    accepted: Mapping[str, tuple[int, int]],
    processed: set[str],
) -> None:
    left = replay.cut_power(image, choose)
    try:
        check_image(image, accepted, processed, drained=choose.random() < DRAINED)
    except Exception as error:
        raise AssertionError(f"the power was cut after event {number}, {left}: {error}") from error


def check_image(image: Path, accepted: Mapping[str, tuple[int, int]], processed: set[str], drained: bool) -> None:
    """What a server would do that starts there, and all that clients had been told."""
    with contextlib.closing(Database(image / FILE_NAME)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        queue = SqliteQueue(database)
        queue.release_in_flight()
        entries = ledger.accounted(database, accepted)
        undone = processed - ledger.processed(database, "ledger").keys()
        assert not undone, f"a client saw that it was processed: {undone}"
        if not drained:
            return
        _process_the_rest(database, queue)
        assert ledger.accounted(database, accepted) == entries
        assert ledger.statuses(database).keys() <= {"processed"}


def _process_the_rest(database: Database, queue: SqliteQueue) -> None:
    table, policy = SqliteTable(database), Policy(max_attempts=1)
    while names := queue.ready():
        for name in names:
            with database.transaction():
                claimed = queue.claim(name, 1_000, WITHIN_S)
                decided = [(delivery, decide(delivery.message, WORKLOADS, WITHIN_S)) for delivery in claimed]
                assert settle(decided, queue, table, policy) == []


def _check_record(data: Path, replay: Replay) -> None:
    """The record is whole: it says of each file what is in it. All but one write at most, after which the last server
    may have been killed before it was recorded. Those before it were: the next start has written everything again."""
    found = {
        path.name: path.read_bytes() for path in data.iterdir() if path.is_file() and path.suffix != ".sqlite3-shm"
    }
    seen = replay.seen()
    assert seen.keys() == found.keys(), f"the record knows {sorted(seen)}, but there are {sorted(found)}"
    unknown = [name for name, content in found.items() if seen[name] != content]
    assert len(unknown) <= 1, f"the record does not know what is in {unknown}"
    for name in unknown:
        first, last = _different(seen[name], found[name])
        assert last - first < LONGEST_WRITE, f"the record does not know what is in {name} from {first} to {last}"


def _different(one: bytes, other: bytes) -> tuple[int, int]:
    """The first and the last place where they are; the shorter goes on with zeros."""
    size = max(len(one), len(other))
    pairs = enumerate(zip(one.ljust(size, b"\0"), other.ljust(size, b"\0"), strict=True))
    places = [place for place, (mine, theirs) in pairs if mine != theirs]
    return (places[0], places[-1]) if places else (0, 0)
