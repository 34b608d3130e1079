"""Statements that change several rows at once: each row by itself costs SQLite twice as much, since every statement
opens the table and all of its indexes. They come in a few sizes, so that each is prepared once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

SIZES = (32, 16, 8, 4, 2, 1)


def of_each_size(statement: Callable[[int], str]) -> Mapping[int, str]:
    """The statements, by how many rows they are for."""
    return {size: statement(size) for size in SIZES}


def parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """The rows in their order, each part of one of the sizes."""
    start, left = 0, len(rows)
    for size in SIZES:
        while left >= size:
            yield rows[start : start + size]
            start += size
            left -= size
