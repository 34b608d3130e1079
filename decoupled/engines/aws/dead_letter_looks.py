"""Looks at the dead letters of a stack that end in time: some of them from a position on, and how many there are of
each error. Where they come from is the caller's; the order is that of `find`, and by id within a millisecond, which
neither the index nor SQS keeps."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter, Groups, Some, Wanted, grouped

Recorded = Callable[[Wanted], Iterable[DeadLetter]]
Unrecorded = Callable[[], Iterable[DeadLetter]]
Place = tuple[bool, int, str]  # whether it has no record, when it died, and its id

_FIRST: Place = (False, -1, "")
_PLACE = re.compile(r"(r|u)\.([0-9]{1,18})\.(.+)")


def some(
    recorded: Recorded,
    unrecorded: Unrecorded,
    wanted: Wanted,
    after: str | None,
    most: int,
    clock: Callable[[], float] = time.monotonic,
) -> Some:
    """See DeadLetters. `unrecorded` is asked only when all that is recorded was seen."""
    place = _FIRST if after is None else _place(after)
    found, until = list[DeadLetter](), clock() + limits.LOOK_S
    for letter in _from(place, recorded, unrecorded, wanted):
        if _place_of(letter) <= place:
            continue
        if len(found) == most:
            return Some(found, _text(found[-1]))
        if letter in wanted:
            found.append(letter)
        if clock() > until:
            return Some(found, _text(letter))
    return Some(found, None)


def groups(letters: Iterable[DeadLetter], clock: Callable[[], float] = time.monotonic) -> Groups:
    """See DeadLetters; the oldest first, where the time is not enough for all."""
    until = clock() + limits.LOOK_S
    return grouped(letters, lambda: clock() > until)


def _from(place: Place, recorded: Recorded, unrecorded: Unrecorded, wanted: Wanted) -> Iterator[DeadLetter]:
    in_copies, at, _ = place
    if not in_copies:
        later = replace(wanted, dead_after=max(wanted.dead_after or 0, at))
        for _, together in groupby(recorded(later), key=attrgetter("dead_at")):
            yield from sorted(together, key=attrgetter("id"))
    yield from sorted(unrecorded(), key=attrgetter("dead_at", "id"))


def _place_of(letter: DeadLetter) -> Place:
    return (not letter.recorded, letter.dead_at, letter.id)


def _text(letter: DeadLetter) -> str:
    return f"{'r' if letter.recorded else 'u'}.{letter.dead_at}.{letter.id}"


def _place(after: str) -> Place:
    """Raises ValueError."""
    if (found := _PLACE.fullmatch(after)) is None:
        raise ValueError("it is no position in the dead letters")
    return (found[1] == "u", int(found[2]), found[3])
