"""Damages a SQLite file as a bad sector or a stray write does: finds the leaf pages of a table or an index, and writes
garbage over one. For tests only."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

INDEX_INTERIOR, TABLE_INTERIOR, TABLE_LEAF = (
    0x02,
    0x05,
    0x0D,
)  # the first byte of a page, see sqlite.org/fileformat2.html
INTERIOR_HEADER, LEAF_HEADER = 12, 8  # bytes


class Pages:
    """Of a file whose log has been folded into it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as connection:
            self._roots: dict[str, int] = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema"))
            self.size: int = connection.execute("PRAGMA page_size").fetchone()[0]
        self._data = file.read_bytes()

    def leaves(self, name: str) -> list[int]:
        """The numbers of the leaf pages, in the order of what is on them."""
        return list(self._leaves(self._roots[name]))

    def rows(self, page: int) -> list[int]:
        """The rowids on a leaf page of a table."""
        start = self._start(page)
        assert self._data[start] == TABLE_LEAF
        return [self._rowid(start + cell) for cell in self._cells(start, LEAF_HEADER)]

    def overwrite(self, page: int, garbage: bytes = b"\xa5") -> None:
        """The whole page, in the file as it is now, also while others have it open."""
        with self.file.open("r+b") as file:
            file.seek(self._start(page))
            file.write(garbage * (self.size // len(garbage)))

    def _leaves(self, page: int) -> Iterator[int]:
        start = self._start(page)
        if self._data[start] not in (INDEX_INTERIOR, TABLE_INTERIOR):
            yield page
            return
        for cell in self._cells(start, INTERIOR_HEADER):
            yield from self._leaves(self._number(start + cell, 4))
        yield from self._leaves(self._number(start + 8, 4))

    def _cells(self, start: int, header_bytes: int) -> list[int]:
        count = self._number(start + 3, 2)
        return [self._number(start + header_bytes + 2 * place, 2) for place in range(count)]

    def _rowid(self, cell: int) -> int:
        """Behind the length of the row; both are varints."""
        place = cell
        for _ in range(2):
            number = 0
            while True:
                byte = self._data[place]
                place += 1
                number = number << 7 | byte & 0x7F
                if byte < 0x80:
                    break
        return number

    def _number(self, place: int, size: int) -> int:
        return int.from_bytes(self._data[place : place + size], "big")

    def _start(self, page: int) -> int:
        return (page - 1) * self.size
