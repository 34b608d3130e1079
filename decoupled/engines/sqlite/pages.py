"""A page of the file as its bytes are: which of them belong to a row, and which to nothing any more, where something
may be left of what stood there. Pure; https://www.sqlite.org/fileformat2.html#b_tree_pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

TABLE_LEAF, _TABLE_INTERIOR, _INDEX_LEAF, _INDEX_INTERIOR = 0x0D, 0x05, 0x0A, 0x02
_INTERIOR = (_TABLE_INTERIOR, _INDEX_INTERIOR)
_KINDS = (TABLE_LEAF, _TABLE_INTERIOR, _INDEX_LEAF, _INDEX_INTERIOR)
FILE_HEADER_BYTES = 100  # at the beginning of the first page


class Cell(NamedTuple):
    """One entry: its bytes on this page; on a leaf of a table, the number of its row and how many columns that has; its
    payload in all, and what of it is on overflow pages, from `overflow` on (0: nothing)."""

    start: int
    end: int
    rowid: int | None
    columns: int
    payload: int
    elsewhere: int
    overflow: int


class Page(NamedTuple):
    """Of a table or an index. `cells_from`: where those begin, behind what says where they are."""

    kind: int
    cells_from: int
    cells: list[Cell]

    def cell_at(self, start: int) -> Cell | None:
        """Whose byte this is; None: nothing's."""
        return next((cell for cell in self.cells if cell.start <= start < cell.end), None)


def parse(page: bytes, number: int) -> Page | None:
    """None: it is no page of a table or an index, or is none at the moment."""
    at = FILE_HEADER_BYTES if number == 1 else 0
    kind = page[at]
    if kind not in _KINDS:
        return None
    count = int.from_bytes(page[at + 3 : at + 5])
    pointers = at + (12 if kind in _INTERIOR else 8)
    cells_from = pointers + 2 * count
    if cells_from > len(page):
        return None
    try:
        starts = (int.from_bytes(page[p : p + 2]) for p in range(pointers, cells_from, 2))
        cells = [_cell(page, kind, start) for start in starts]
    except IndexError:
        return None
    if any(cell.start < cells_from or cell.end > len(page) for cell in cells):
        return None
    return Page(kind, cells_from, cells)


def free_blocks(page: bytes) -> list[int]:
    """Where those begin on a page of a table or an index that is not the first: four bytes of each say where the next
    one is, and how long it is."""
    found: list[int] = []
    at = int.from_bytes(page[1:3])
    while 0 < at <= len(page) - 4 and len(found) <= len(page) // 4:
        found.append(at)
        at = int.from_bytes(page[at : at + 2])
    return found


def _cell(page: bytes, kind: int, start: int) -> Cell:
    at, rowid, columns = start, None, 0
    if kind in _INTERIOR:
        at += 4  # the page to its left
    if kind == _TABLE_INTERIOR:
        _, at = _varint(page, at)
        return Cell(start, at, None, 0, 0, 0, 0)
    payload, at = _varint(page, at)
    if kind == TABLE_LEAF:
        rowid, at = _varint(page, at)
        columns = _columns(page, at)
    here = _on_page(payload, len(page), kind)
    end = at + here
    overflow = int.from_bytes(page[end : end + 4]) if here < payload else 0
    return Cell(start, max(end + 4 * (here < payload), start + 4), rowid, columns, payload, payload - here, overflow)


def _columns(page: bytes, at: int) -> int:
    """Of a record: as many as there are numbers in its header."""
    size, place = _varint(page, at)
    end, count = min(at + size, len(page)), 0
    while place < end:
        _, place = _varint(page, place)
        count += 1
    return count


def _on_page(payload: int, usable: int, kind: int) -> int:
    """How much of a payload is not on overflow pages."""
    most = usable - 35 if kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
    if payload <= most:
        return payload
    least = (usable - 12) * 32 // 255 - 23
    some = least + (payload - least) % (usable - 4)
    return some if some <= most else least


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for place in range(at, at + 8):
        byte = page[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return value << 8 | page[at + 8], at + 9


# --- overflow pages, which a map tells of where the file can give room back -------------

_FIRST, _LATER = 3, 4  # of a row's; which page comes before it stands in the map, too
_MOST_IN_A_ROW = 1_000  # a body has 256 KiB at most


def owner_of_overflow(read: Callable[[int], bytes], number: int, page_bytes: int) -> int | None:
    """Where the bytes of a row end on an overflow page; None: it is none, as far as the map knows."""
    here, place = number, 0
    kind, before = _mapped(read, here, page_bytes)
    while kind == _LATER and place < _MOST_IN_A_ROW:
        here, place = before, place + 1
        kind, before = _mapped(read, here, page_bytes)
    if kind != _FIRST:
        return None
    parent = parse(read(before), before)
    cell = next((it for it in parent.cells if it.overflow == here), None) if parent is not None else None
    if cell is None:
        return None
    return 4 + min(page_bytes - 4, max(0, cell.elsewhere - place * (page_bytes - 4)))


def _mapped(read: Callable[[int], bytes], number: int, page_bytes: int) -> tuple[int, int]:
    """What the map says of a page: its kind, and the page before it."""
    on_each = page_bytes // 5
    group = (number - 2) // (on_each + 1)
    map_page = group * (on_each + 1) + 2
    at = 5 * (number - map_page - 1)
    entry = read(map_page)[at : at + 5]
    return (entry[0], int.from_bytes(entry[1:])) if at >= 0 and len(entry) == 5 else (0, 0)
