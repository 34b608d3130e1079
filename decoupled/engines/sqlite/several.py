"""Statements that change several rows at once: each row by itself takes half as long again, since every statement opens
the table and all of its indexes. They come in a few sizes, so that each is prepared once, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

# Most groups are one or two of these. In larger statements, each row would be looked for among too many.
SIZES = (32, 24, 16, 12, 10, 8, 6, 4, 3, 2, 1)


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
