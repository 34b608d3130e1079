"""Searches the bytes of a database's files for texts that were erased: also in pages that are free, in bytes of a page
that belong to no row any more, and in the log. What SQLite moves from one page to another it does not always write
over, whatever `secure_delete` says. In a process of its own, of low priority, which ends with the one that began it.

    python -m decoupled.engines.sqlite.leftovers      takes a Wanted, and prints lines of JSON: Step, Step, …, and Found
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from decoupled.core.backups import Step
from decoupled.core.upkeep_limits import FORGET_SCRUBBED
from decoupled.engines.sqlite.pages import TABLE_LEAF, Cell, Page, free_blocks, owner_of_overflow, parse

PIECE_PAGES = 1_024  # that are read at once
NICE = 10
_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_FREE_TRUNK_AT, _MAP_FROM = 32, 2  # in the file's header, and the first page that maps others
# What may have been text. Of SQLite's own remains, addresses on a page of 4 KiB, every other byte is below 16.
_REMAINS = re.compile(rb"[\x20-\xff]{6,}")
_ITEMS_COLUMNS, _MESSAGES_COLUMNS = 3, 18  # of messages at least: those of the first schema
_ROOM_BYTES = 8  # that a record may need more than the text that it grows by
_NOT_A_ROWS = 35  # bytes of a page that a row on it cannot have


class Wanted(msgspec.Struct, frozen=True):
    """What to search for, in which database. `remains`: find leaves of tables, too, on which anything is left."""

    file: str
    page_bytes: int
    needles: list[str]
    remains: bool


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A leaf of a table where something is left: a row on it, and by how many bytes that may grow there."""

    table: str
    rowid: int
    by: int


class Found(msgspec.Struct, tag=True):
    """`leaves` can be written over one by one, `remaining` of them since something stands there, whatever it is; `more`
    are not named. `indexes` can be made anew; `free` pages given back. `others`: none of that. `elsewhere`: in rows
    that are there, which are somebody else's."""

    leaves: list[Place] = []
    remaining: int = 0
    more: int = 0
    hits: int = 0
    indexes: int = 0
    free: int = 0
    others: int = 0
    elsewhere: int = 0
    searched_bytes: int = 0

    @property
    def left(self) -> int:
        """Places that belong to no row, and have one of the texts."""
        return self.hits + self.indexes + self.free + self.others


_found: msgspec.json.Decoder[Step | Found] = msgspec.json.Decoder(Step | Found)


def search(wanted: Wanted, progress: Callable[[str, int, int], None]) -> Found:
    """Once. What is written meanwhile may be missed, or be found where it is no more. Raises OSError."""
    command = [sys.executable, "-P", "-m", __name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603  our own
        if process.stdin is not None:
            with process.stdin as asked:
                asked.write(msgspec.json.encode(wanted))
        for line in process.stdout or ():
            said = _found.decode(line)
            if isinstance(said, Found):
                return said
            progress(said.what, said.done, said.of)
    raise OSError(f"the search of {wanted.file} came to no end")


# --- in the process -----------------------------------------------------------


def main() -> None:
    """Of the process."""
    os.nice(NICE)
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Wanted)
    parent = os.getppid()

    def say(said: Step | Found) -> None:
        if os.getppid() != parent:
            sys.exit(1)
        sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
        sys.stdout.buffer.flush()

    say(Search(wanted).run(lambda done, upto: say(Step("searching", done, upto))))


class Search:
    """Of one database. Its files are opened, and closed, in a process that has no connection to it."""

    def __init__(self, wanted: Wanted) -> None:
        self._page_bytes = wanted.page_bytes
        self._needles = [needle.encode() for needle in wanted.needles]
        self._remains = wanted.remains
        self._database = os.open(wanted.file, os.O_RDONLY | os.O_CLOEXEC)
        log = Path(f"{wanted.file}-wal")
        self._log = os.open(log, os.O_RDONLY | os.O_CLOEXEC) if log.exists() else -1
        self._free: set[int] = set(self._free_pages())
        self._found = Found()

    def run(self, progress: Callable[[int, int], None]) -> Found:
        """All of it."""
        self._read(self._database, 0, 0, progress)
        if self._log >= 0:
            self._read(self._log, _LOG_HEADER_BYTES, _FRAME_HEADER_BYTES, progress)
        return self._found

    def _read(self, file: int, begin: int, header: int, progress: Callable[[int, int], None]) -> None:
        """Page by page; of the log, its frames."""
        each, at, size = header + self._page_bytes, begin, os.fstat(file).st_size
        while piece := os.pread(file, PIECE_PAGES * each, at):
            progress(at, size)
            hit = {place // each for needle in self._needles for place in _all(piece, needle)}
            looked = range(len(piece) // each) if self._remains and not header else sorted(hit)
            for place in looked:
                frame = piece[place * each : (place + 1) * each]
                number = int.from_bytes(frame[:4]) if header else (at - begin) // each + place + 1
                self._sort(number, frame[header:], place in hit)
            self._found.searched_bytes += len(piece)
            at += len(piece)

    def _sort(self, number: int, page: bytes, hit: bool) -> None:
        """What kind of page it is, and whether what was found there is a row's."""
        found = self._found
        if number in self._free:
            found.free += hit
            return
        if number <= _MAP_FROM:  # the schema, whose words are ours; and the first of the map
            found.elsewhere += hit
            return
        parsed = parse(page, number)
        if parsed is None:
            if hit:
                self._sort_overflow(number, page)
            return
        places = [place for needle in self._needles for place in _all(page, needle)] if hit else []
        nobodys = [place for place in places if parsed.cell_at(place) is None]
        found.elsewhere += len(nobodys) < len(places)
        if parsed.kind != TABLE_LEAF:
            found.indexes += bool(nobodys)
        elif nobodys or (self._remains and _has_remains(parsed, page)):
            self._keep(parsed, page, bool(nobodys))

    def _keep(self, parsed: Page, page: bytes, hit: bool) -> None:
        found, place = self._found, _place(parsed, len(page))
        if place is None:
            found.others += hit
        else:
            found.hits += hit
            found.remaining += not hit
            if len(found.leaves) < FORGET_SCRUBBED:
                found.leaves.append(place)
            else:
                found.more += 1

    def _sort_overflow(self, number: int, page: bytes) -> None:
        ends = owner_of_overflow(self._page, number, self._page_bytes)
        nobodys = [ends is None or place >= ends for needle in self._needles for place in _all(page, needle)]
        self._found.others += any(nobodys)
        self._found.elsewhere += not all(nobodys)

    def _page(self, number: int) -> bytes:
        return os.pread(self._database, self._page_bytes, (number - 1) * self._page_bytes)

    def _free_pages(self) -> Iterator[int]:
        """Those that belong to nothing at all."""
        most = os.fstat(self._database).st_size // self._page_bytes
        trunk = int.from_bytes(self._page(1)[_FREE_TRUNK_AT : _FREE_TRUNK_AT + 4])
        seen: set[int] = set()
        while 0 < trunk <= most and trunk not in seen:
            seen.add(trunk)
            yield trunk
            page = self._page(trunk)
            count = min(int.from_bytes(page[4:8]), len(page) // 4 - 2)
            yield from (int.from_bytes(page[8 + 4 * leaf : 12 + 4 * leaf]) for leaf in range(count))
            trunk = int.from_bytes(page[:4])


def _has_remains(parsed: Page, page: bytes) -> bool:
    """Whether some text stands in bytes that belong to nothing."""
    used = [(0, parsed.cells_from), *((cell.start, cell.end) for cell in parsed.cells), (len(page), len(page))]
    used += [(start, start + 4) for start in free_blocks(page)]
    used.sort()
    return any(_REMAINS.search(page, end, start) for (_, end), (start, _) in pairwise(used) if start > end)


def _place(parsed: Page, page_bytes: int) -> Place | None:
    """Its smallest row, which is to grow until all that is free is taken. Of one that goes on elsewhere, as much more
    is here as it grows by, up to what a page takes of a row."""
    small = min(parsed.cells, key=lambda it: (it.overflow > 0, it.end - it.start), default=None)
    if small is None or small.rowid is None:
        return None
    free = page_bytes - parsed.cells_from - sum(cell.end - cell.start for cell in parsed.cells)
    by = min(free - _ROOM_BYTES, page_bytes - _NOT_A_ROWS - (small.payload - small.elsewhere) - _ROOM_BYTES)
    table = _table_of(small)
    return Place(table, small.rowid, by) if table is not None and by > 0 else None


def _table_of(cell: Cell) -> str | None:
    """By the columns of its rows. Other tables have nothing in them that came from outside."""
    if cell.columns == _ITEMS_COLUMNS:
        return "items"
    return "messages" if cell.columns >= _MESSAGES_COLUMNS else None


def _all(text: bytes, needle: bytes) -> Iterator[int]:
    """Where it stands."""
    at = text.find(needle)
    while at >= 0:
        yield at
        at = text.find(needle, at + 1)


if __name__ == "__main__":
    main()
