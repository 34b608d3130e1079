"""Starts `decoupled` with a fault, or several. For tests only: the product has no such hooks.

launch.py POINT NTH serve ...        ends itself with SIGKILL when that point is reached for the nth time
launch.py full_disk FILE serve ...   has no space in its database for as long as FILE exists
launch.py no_growth BYTES serve ...  cannot write files larger than that
 launch.py small_cache PAGES serve ...  keeps no more of its database in memory than that: it reads the file again
 launch.py clock FILE serve ...       takes the system's clock for set by as many seconds as FILE says
 launch.py no_process FILE serve ...  cannot start a process for as long as FILE exists
 launch.py bug PLACE=FILE serve ...   has a bug in that place, which shows once FILE exists
 launch.py synchronous HOW serve ...  has another setting of SQLite's for when it syncs: OFF, NORMAL
 launch.py late_commit 0 serve ...    answers first and commits with the next transaction
 launch.py limits NAME=NUMBER,... serve ...  has other limits, and so have its fronts
 launch.py front FILE serve ...       has fronts of which one ends itself at the point that is named in FILE
 launch.py uncounted 0 serve ...      counts and measures nothing, and neither do its fronts"""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from decoupled.cli import main as cli
from decoupled.core import limits, upkeep_limits
from decoupled.engines.sqlite import database
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.wal import WriteAheadLog
from decoupled.server.counting import Counting
from decoupled.server.fronts.child import FrontProcess
from decoupled.server.http.connection import Connection
from decoupled.server.http.listener import HttpServer
from decoupled.server.sampler import Sampler
from decoupled.server.scheduling import claims, settling

Point = Callable[[Callable[[], None]], None]


def _before(owner: Any, name: str) -> Point:
    def arm(reached: Callable[[], None]) -> None:
        original = getattr(owner, name)

        def replacement(*args: Any, **kwargs: Any) -> Any:
            reached()
            return original(*args, **kwargs)

        setattr(owner, name, replacement)

    return arm


def _after(owner: Any, name: str) -> Point:
    """Only calls that come to something: an empty claim is no claim."""

    def arm(reached: Callable[[], None]) -> None:
        original = getattr(owner, name)

        def replacement(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if result != []:
                reached()
            return result

        setattr(owner, name, replacement)

    return arm


def _before_commit(owner: Any, name: str) -> Point:
    return _around_commit(owner, name, _before)


def _after_commit(owner: Any, name: str) -> Point:
    return _around_commit(owner, name, _after)


def _of_a_send(where: Callable[[Any, str], Point]) -> Point:
    """Of either kind: to the queue, or at once to a worker that has room."""

    def arm(reached: Callable[[], None]) -> None:
        for name in ("send", "send_claimed"):
            where(SqliteQueue, name)(reached)

    return arm


def _around_commit(owner: Any, name: str, where: Callable[[Any, str], Point]) -> Point:
    """At the commit of a transaction in which that was called."""

    def arm(reached: Callable[[], None]) -> None:
        called = threading.Event()

        def at_commit() -> None:
            if called.is_set():
                called.clear()
                reached()

        where(Database, "commit")(at_commit)
        _after_any(owner, name, called.set)

    return arm


def _after_any(owner: Any, name: str, then: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def replacement(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        then()
        return result

    setattr(owner, name, replacement)


def _checkpoint(reached: Callable[[], None]) -> None:
    """While the log is folded into the file. Only then is the file itself written, which another process sees."""
    file = Path(sys.argv[sys.argv.index("--data") + 1]) / database.FILE_NAME
    limits.WAL_FOLD_FRAMES = 200
    tend_log = Database.tend_log

    def tend_log_watched(self: Database) -> WriteAheadLog:
        wal = tend_log(self)
        _watch(file)
        return wal

    Database.tend_log = tend_log_watched  # type: ignore[method-assign]  # that is how the fault gets in
    del reached


def _watch(file: Path) -> None:
    server = os.getpid()
    if os.fork() == 0:
        written = file.stat().st_mtime_ns
        while os.getppid() == server:
            if file.stat().st_mtime_ns != written:
                os.kill(server, signal.SIGKILL)
            time.sleep(0)
        os._exit(0)


POINTS: dict[str, Point] = {
    "before_begin": _before(Database, "begin"),
    "after_begin": _after(Database, "begin"),
    "after_insert": _of_a_send(_after),
    "before_commit_of_a_send": _of_a_send(_before_commit),
    "after_commit_of_a_send": _of_a_send(_after_commit),
    "after_claim": _after(SqliteQueue, "claim"),
    "before_commit_of_a_claim": _before_commit(SqliteQueue, "claim"),
    "after_commit_of_a_claim": _after_commit(SqliteQueue, "claim"),
    "before_settle": _before(settling, "settle"),
    "before_commit_of_a_settlement": _before_commit(settling, "settle"),
    "after_commit_of_a_settlement": _after_commit(settling, "settle"),
    "before_commit_of_a_redrive": _before_commit(SqliteDeadLetters, "redrive"),
    "after_commit_of_a_redrive": _after_commit(SqliteDeadLetters, "redrive"),
    "after_release": _after_commit(SqliteQueue, "release_in_flight"),
    "checkpoint": _checkpoint,
}


def main() -> None:
    while sys.argv[1] != "serve":
        point, argument = sys.argv[1:3]
        del sys.argv[1:3]
        _arm(point, argument)
    cli.main()


def _arm(point: str, argument: str) -> None:
    if point == "full_disk":
        _no_space_while(Path(argument))
    elif point == "small_cache":
        _set(f"cache_size = {int(argument)}")
    elif point == "synchronous":
        _set(f"synchronous = {argument}")
    elif point == "late_commit":
        _commit_late()
    elif point == "clock":
        _set_clock_by(Path(argument))
    elif point == "no_process":
        _no_process_while(Path(argument))
    elif point == "bug":
        place, _, file = argument.partition("=")
        _bug_in(*BUGS[place], Path(file))
    elif point == "uncounted":
        _count_nothing()
    elif point == "limits":
        _set_limits({name: float(value) for name, _, value in (pair.partition("=") for pair in argument.split(","))})
    elif point == "front":
        _set_limits({"WORKER_RETRY_CAP_S": 0.2})  # not to wait ever longer for the next one
        _other_fronts(FRONT_FAULT=argument)
    elif point == "no_growth":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(argument), resource.RLIM_INFINITY))
    else:
        _die_at(POINTS[point], int(argument))


def _set_limits(changed: dict[str, float]) -> None:
    for name, value in changed.items():
        setattr(upkeep_limits if hasattr(upkeep_limits, name) else limits, name, value)
    _other_fronts(FRONT_LIMITS=json.dumps(changed))


def _other_fronts(**told: str) -> None:
    os.environ.update(told, PYTHONPATH=str(Path(__file__).parent))
    FrontProcess.module = "faulty_front"


def _count_nothing() -> None:
    for name in ("committed", "settled", "taken", "taken_at_once", "decided"):
        setattr(Counting, name, _nothing)
    Sampler.start, Sampler.close = _nothing, _nothing_later  # type: ignore[method-assign]
    _other_fronts(FRONT_UNCOUNTED="1")


def _nothing(*_: Any, **__: Any) -> None: ...


async def _nothing_later(*_: Any, **__: Any) -> None: ...


def _no_space_while(file: Path) -> None:
    """SQLite's own limit stands for the disk's: its errors and its rollbacks are the real ones."""
    begin = Database.begin

    def begin_limited(self: Database) -> None:
        pages = 1 if file.exists() else 1 << 30  # it cannot be less than what is there
        self.execute(f"PRAGMA max_page_count = {pages}")
        begin(self)

    Database.begin = begin_limited  # type: ignore[method-assign]  # that is how the fault gets in


def _set(pragma: str) -> None:
    prepare = Database._prepare

    def prepare_otherwise(self: Database, path: Path | str, read_only: bool) -> None:
        prepare(self, path, read_only)
        self.execute(f"PRAGMA {pragma}")

    Database._prepare = prepare_otherwise  # type: ignore[method-assign]


def _commit_late() -> None:
    """What the power-cut replay must find: everything is synced, but only after the answer."""
    begin, commit = Database.begin, Database.commit

    def begin_late(self: Database) -> None:
        if self.in_transaction:
            commit(self)
        begin(self)

    Database.begin = begin_late  # type: ignore[method-assign]
    Database.commit = lambda self: None  # type: ignore[method-assign]


def _set_clock_by(file: Path) -> None:
    """Only the time of day, in this process: the steady clock cannot be set."""
    real_time, real_time_ns = time.time, time.time_ns

    def by_s() -> int:
        return int(file.read_text() or 0)

    time.time = lambda: real_time() + by_s()
    time.time_ns = lambda: real_time_ns() + by_s() * 1_000_000_000


def _no_process_while(file: Path) -> None:
    """As where the number of processes is limited."""
    original = subprocess.Popen

    def start(*args: Any, **kwargs: Any) -> Any:
        if file.exists():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return original(*args, **kwargs)

    subprocess.Popen = start  # type: ignore[assignment,misc]


BUGS = {
    "poller's clock": (claims.Poller, "wake"),
    "settlement": (settling.Settler, "_learn"),
    "listener's clock": (HttpServer, "_look"),
    "connection": (Connection, "data_received"),
    "connection's next step": (Connection, "go_on"),
    "connection's end": (Connection, "stop"),
}


def _bug_in(owner: Any, name: str, file: Path) -> None:
    original = getattr(owner, name)

    def replacement(*args: Any, **kwargs: Any) -> Any:
        if file.exists():
            file.unlink()
            raise ZeroDivisionError("a bug")
        return original(*args, **kwargs)

    setattr(owner, name, replacement)


def _die_at(point: Point, nth: int) -> None:
    calls = itertools.count(1)

    def reached() -> None:
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    point(reached)


if __name__ == "__main__":
    main()
