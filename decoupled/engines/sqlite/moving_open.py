"""Which messages had not ended when a move came by their numbers: ranges of numbers, in order, that do not touch. They
are looked at again. However many there are, only so many ranges are kept: then the two that are nearest are one, with
some between them that have ended, and go over twice. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]
MOST_RANGES = 2_000


def added(ranges: Sequence[Range], numbers: Iterable[int], most: int = MOST_RANGES) -> list[Range]:
    """With some more numbers, ascending, which are all behind the ranges that there are."""
    found = list(ranges)
    for number in numbers:
        if found and found[-1][1] + 1 >= number:
            found[-1] = (found[-1][0], max(number, found[-1][1]))
        else:
            found.append((number, number))
    return bounded(found, most)


def bounded(ranges: Sequence[Range], most: int = MOST_RANGES) -> list[Range]:
    """The same numbers, and more where there are too many ranges."""
    found = list(ranges)
    if (spare := len(found) - most) <= 0:
        return found
    gaps = sorted(range(len(found) - 1), key=lambda place: found[place + 1][0] - found[place][1])
    closed = set(gaps[: spare + most // 4])  # some more at a time: it is not to be done for each
    merged = [found[0]]
    for place, following in enumerate(found[1:]):
        if place in closed:
            merged[-1] = (merged[-1][0], following[1])
        else:
            merged.append(following)
    return merged


def narrowed(ranges: Sequence[Range], first: int, last: int, left: Iterable[int]) -> list[Range]:
    """With these numbers alone, ascending, from the first to the last: the others of them have ended."""
    before = [(low, min(high, first - 1)) for low, high in ranges if low < first]
    after = [(max(low, last + 1), high) for low, high in ranges if high > last]
    return bounded([*added(before, left), *after])
