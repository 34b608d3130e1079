"""Forgets what a customer sent, from the first count to the proof, in a thread; whoever owns the database writes for
it.

    count ─▶ erase, some rows a transaction ─▶ cut the log ─▶ search all bytes of the file ─▶ nothing is found: proven
                                                  ▲                     │ found, in bytes that belong to no row
                                                  └── write over these ─┘

Killed in the middle, it is asked for again: what is erased has nothing left to erase, and the rest is erased then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from decoupled.core import upkeep_limits
from decoupled.core.forgetting import KEPT, Asked, Report, Sought, Told, item_kind, unfinished
from decoupled.core.times import now_ms
from decoupled.core.upkeep_limits import FORGET_NAMED, SWEEP_MESSAGES
from decoupled.core.workload import ANONYMOUS, Unavailable, collection_of
from decoupled.engines.sqlite import erasure, scrubbing
from decoupled.engines.sqlite.audit_blocks import newest
from decoupled.engines.sqlite.database import Database, DataDirectoryError
from decoupled.engines.sqlite.departure import departure_in
from decoupled.engines.sqlite.driver import sqlite3
from decoupled.engines.sqlite.erasure import Erased, There, Whose
from decoupled.engines.sqlite.leftovers import Found, Wanted, search
from decoupled.engines.sqlite.wal import WriteAheadLog

T = TypeVar("T")


class ForgettingError(DataDirectoryError):
    """It is not done, and why."""


class Owner(Protocol):
    """Who owns the database, asked in this thread."""

    def write(self, operation: Callable[[], T]) -> T:
        """Done in a transaction of its, which gives way to requests. Raises Unavailable."""
        ...

    def between(self, do: Callable[[], T]) -> T:
        """Done between two transactions."""
        ...


Progress = Callable[[str, int, int], None]


def unheard(_what: str, _done: int, _upto: int) -> None:
    """For who need not know how far it is."""


class Survey:
    """What there is to be forgotten, read by a connection of its own."""

    def __init__(self, database: Database, asked: Asked, progress: Progress = unheard) -> None:
        """Raises StoreUnavailable, or ValueError where it is too much for one id."""
        self.database = database
        self.asked = asked
        self.progress = progress
        self.ids = [] if asked.id is None else erasure.descendants(database, asked.id, upkeep_limits.FORGET_DESCENDANTS)
        self.whose = erasure.of_ids(self.ids) if asked.caller is None else erasure.of_caller(asked.caller)
        self._sought = Sought()

    def report(self) -> Report:
        """All of it counted, nothing changed."""
        report = Report(of=self.asked.says)
        for found in self.messages("counting"):
            for it in found:
                report.count({"queued": "unfinished"}.get(it.status, it.status))
                if it.status == "queued" and len(report.ids) < FORGET_NAMED:
                    report.ids.append(it.id)
            for column, texts in enumerate(zip(*(it.texts for it in found), strict=True)):
                self._sought.keep(texts, f"messages {column}")
        for some in self.items():
            for kind, found_items in by_kind(some, self.asked.keep).items():
                report.count(kind, len(found_items))
            gone = [(key, text) for _, key, text in some if collection_of(key) not in self.asked.keep]
            self._sought.keep((key for key, _ in gone), "keys")
            self._sought.keep((text for _, text in gone), "items")
        report.unfinished = report.erased.get("unfinished", 0)
        if self.asked.caller is not None:
            report.count("followed", erasure.followed(self.database, self.asked.caller))
        return report

    def messages(self, doing: str) -> Iterator[Sequence[There]]:
        """Those that are there, part by part."""
        upto = newest(self.database)
        each = SWEEP_MESSAGES if self.asked.caller is not None else max(upto, 1)
        for first in range(1, upto + 1, each):
            self.progress(doing, first, upto)
            yield erasure.there(self.database, self.whose, first, first + each - 1)

    def items(self) -> Iterator[Sequence[tuple[int, str, str]]]:
        """The caller's, part by part. Which items one message has written, nobody knows."""
        owner, after = self.asked.caller, 0
        while owner is not None and owner != ANONYMOUS:
            some, last = erasure.items(self.database, owner, after, SWEEP_MESSAGES)
            if last is None:
                return
            yield some
            after = last

    def sought(self) -> list[str]:
        """What is to be found nowhere any more."""
        return self._sought.texts(self.asked.caller)


def by_kind(items: Sequence[tuple[int, str, str]], keep: Sequence[str]) -> dict[str, list[int]]:
    """The numbers of items, by what becomes of them and their collections."""
    found: dict[str, list[int]] = {}
    for number, key, _ in items:
        found.setdefault(item_kind(key, keep), []).append(number)
    return found


class Forgetting:
    """One, from its begin to its end."""

    def __init__(
        self,
        database: Database,
        log: WriteAheadLog,
        file: Path,
        owner: Owner,
        asked: Asked,
        erased: Callable[[Erased], None] = lambda _: None,
        clock_ms: Callable[[], int] = now_ms,
        show: Progress = unheard,
    ) -> None:
        """`database` is the owner's, and used by it only. `erased` is told of each transaction."""
        self._database = database
        self._log = log
        self._file = file
        self._owner = owner
        self._asked = asked
        self._erased = erased
        self._clock_ms = clock_ms
        self._show = show
        self._told = Told(of=asked.says, what="beginning")

    def told(self) -> Told:
        """How it goes. In any thread."""
        return self._told

    def run(self) -> None:
        """All of it, in a thread of its own. Does not raise: `told` has what came of it."""
        try:
            report = self._run()
        except (DataDirectoryError, Unavailable, ValueError) as error:
            self._told = Told(of=self._asked.says, what="failed", error=str(error))
        except (sqlite3.Error, OSError) as error:
            self._told = Told(of=self._asked.says, what="failed", error=f"{self._file} cannot be read: {error}")
        except BaseException as error:
            self._told = Told(of=self._asked.says, what="failed", error=f"an internal error: {error!r}")
            raise
        else:
            self._told = Told(of=self._asked.says, what="ended", report=report)

    def _now(self, what: str, done: int, upto: int) -> None:
        self._told = Told(of=self._asked.says, what=what, done=done, upto=upto)
        self._show(what, done, upto)

    def _run(self) -> Report:
        with closing(Database(self._file, read_only=True)) as reader:
            if (departure := departure_in(reader)) is not None and departure.state != "moved":
                raise ForgettingError(f"nothing is erased while it moves: {departure.elsewhere()}")
            survey = Survey(reader, self._asked, self._now)
            there, again = survey.report(), erasure.begun(reader, survey.whose.value)
            if there.unfinished and not self._asked.unfinished:
                raise ForgettingError(unfinished(there))
            report = Report(of=there.of)
            self._erase(survey, report)
            if again:
                report.notes.append(_AGAIN)
            sought = survey.sought()
        if self._prove(sought, report) and not again:
            self._owner.write(partial(erasure.ended, self._database, survey.whose.value))
        self._look_again(report)
        return report

    def _look_again(self, report: Report) -> None:
        """What was sent meanwhile, or redriven, and what came of that, stays: it is in rows, where no search of what is
        nobody's finds it."""
        with closing(Database(self._file, read_only=True)) as reader:
            report.since = Survey(reader, self._asked, self._now).report().erased
        if report.since:
            report.proven = False
            report.notes.append(_SINCE)

    # --- erase ------------------------------------------------------------------

    def _erase(self, survey: Survey, report: Report) -> None:
        asked, database = self._asked, self._database
        for found in survey.messages("erasing"):
            seqs = [it.seq for it in found]
            for some in _parts(seqs):
                self._erase_some(survey.whose, some, report)
        for found_items in survey.items():
            for kind, numbers in by_kind(found_items, asked.keep).items():
                for some in _parts(numbers):
                    keep = kind.startswith(KEPT)
                    operation = partial(erasure.erase_items, database, asked.caller or "", some, keep)
                    report.count(kind, self._owner.write(operation))
        if asked.caller is not None and erasure.followed(survey.database, asked.caller):
            report.count("followed", self._owner.write(partial(erasure.unfollow, database, asked.caller)))

    def _erase_some(self, whose: Whose, seqs: Sequence[int], report: Report) -> None:
        operation = partial(erasure.erase, self._database, whose, seqs, self._asked.unfinished, self._clock_ms())
        erased = self._owner.write(operation)
        for kind, count in erased.kinds.items():
            report.count(kind, count)
        self._erased(erased)

    # --- prove ------------------------------------------------------------------

    def _prove(self, sought: Sequence[str], report: Report) -> bool:
        """Whether nothing is left of it in bytes that belong to no row, nor in the log. Whatever else is left on pages,
        of rows that SQLite has moved at some time, is written over, too: it may be of bodies that nobody knows any
        more. Where there was nothing to search for, that is no proof."""
        report.searched_for = len(sought)
        (page_bytes,) = self._owner.between(lambda: self._database.execute("PRAGMA page_size").fetchone())
        for round_ in range(upkeep_limits.FORGET_ROUNDS):
            if not self._cut_log():
                report.notes.append(_LOG_STAYS)
                return False
            found = search(Wanted(str(self._file), page_bytes, list(sought), remains=round_ == 0), self._now)
            report.searched_bytes, report.elsewhere, report.left = found.searched_bytes, found.elsewhere, found.left
            if found.more:
                report.notes.append(_MORE.format(found.more))
            if not found.left and not found.leaves:
                report.proven = bool(sought)
                report.notes += [] if sought else [_NOTHING_SOUGHT]
                return True
            report.scrubbed += self._scrub(found)
        report.notes.append(_LEFT)
        return False

    def _cut_log(self) -> bool:
        until = time.monotonic() + upkeep_limits.FORGET_LOG_S
        while not self._owner.between(self._log.empty):
            self._now("waiting until nobody reads SQLite's log", 0, 0)
            if time.monotonic() > until:
                return False
            time.sleep(upkeep_limits.FORGET_LOOK_S)
        return True

    def _scrub(self, found: Found) -> int:
        for some in _parts(found.leaves, upkeep_limits.FORGET_SCRUB_AT_ONCE):
            self._now("writing over what is left", 0, len(found.leaves))
            self._owner.write(partial(scrubbing.scrub, self._database, some))
        if found.indexes:
            self._owner.write(partial(scrubbing.make_anew, self._database))
        before, left = -1, found.free
        while left and left != before:
            self._now("giving back free pages", 0, left)
            before, left = left, self._owner.write(partial(scrubbing.give_back, self._database))
        return len(found.leaves) + found.indexes + found.free


_SINCE = (
    "It goes on: while this was erased, more was sent, or redriven, and that is there (`since`). Revoke the key, or"
    " wait until nothing comes any more, and ask again."
)
_AGAIN = (
    "An earlier run did not come to its end: what that has erased was searched for by the caller's name at most."
    " `decoupled compact`, with the server stopped, leaves nothing."
)
_NOTHING_SOUGHT = (
    "There was nothing to search for: what is left of it has no text that is long enough. So nothing is proven."
    " `decoupled compact`, with the server stopped, leaves nothing."
)
_LOG_STAYS = (
    f"SQLite's log could not be cut in {upkeep_limits.FORGET_LOG_S:g} s, since somebody reads it, or a backup is made:"
    " ask again. Where Litestream replicates the file, nobody cuts it: stop both, `decoupled compact`, start both."
)
_MORE = (
    "{:,} more pages have something left of rows that were moved or erased at some time, and nothing of what was"
    " searched for: to be rid of that, too, stop the server, `decoupled compact`, and start it again."
)
_LEFT = "What is left can be read from pages of the file: stop the server, `decoupled compact`, and start it again."


def _parts(some: Sequence[T], size: int = upkeep_limits.FORGET_AT_ONCE) -> Iterator[Sequence[T]]:
    for start in range(0, len(some), size):
        yield some[start : start + size]
