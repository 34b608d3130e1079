"""Forgetting what a customer sent: what is asked for, what is left of a message, and the report that proves it. Pure;
the engines erase.

A message that was forgotten is a final record with nothing in it: its id, by which a resend is known and has no effect,
its workload, its status and its times. It is nobody's any more."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from random import Random
from typing import Any

import msgspec

from decoupled.core import limits
from decoupled.core.outcomes import Record
from decoupled.core.workload import Message, collection_of

FORGOTTEN = "forgotten"
"""The reason of a record that has one; with it no import of an export brings the message back."""

NOTHING = '{"forgotten":true}'
"""The result of a record that has one."""

KEPT = "kept items"
"""Begins the kind of those that stay, and are nobody's."""

NEEDLE_CHARS = 12  # of a text that is searched for, at least: what is shorter stands elsewhere by chance
NEEDLES = 32  # that are searched for, at most
LONGEST_NEEDLE = 48
SHORTEST_NAME_BYTES = 4  # of a caller that is searched for in bytes: a shorter one stands everywhere by chance
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OF_OUR_MAKING = re.compile("[0-9a-f]{33}|[0-9a-f]{40}")  # ids: see core/identifiers.py


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Whose data: a caller's, or that of one message and of all that came of it. `unfinished`: what still waits is
    given up, too. `keep`: collections whose items stay, and are nobody's from then on."""

    caller: str | None = None
    id: str | None = None
    unfinished: bool = False
    keep: tuple[str, ...] = ()

    @property
    def says(self) -> str:
        """In words."""
        return f"caller {self.caller!r}" if self.caller is not None else f"message {self.id!r}"


class Report(msgspec.Struct, kw_only=True):
    """What there was, by kind, and what was erased of it. `left`: places that belong to no row any more, and in which
    something of it could be read still, after all that was done; on AWS, what is its still. `elsewhere`: rows of others
    in which the same texts stand, and stay."""

    of: str
    erased: dict[str, int] = {}
    unfinished: int = 0
    ids: list[str] = []  # some of those that are unfinished
    searched_for: int = 0
    searched_bytes: int = 0
    searched_items: int = 0
    left: int = 0
    elsewhere: int = 0
    scrubbed: int = 0  # places that were found and written over
    since: dict[str, int] = {}  # what came while this was erased, and is there: by kind
    proven: bool = False
    notes: list[str] = []

    def count(self, kind: str, by: int = 1) -> None:
        """So many more of a kind."""
        if by:
            self.erased[kind] = self.erased.get(kind, 0) + by


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """How it goes: what is being done, how much of it, of how much. `error`: it did not come to its end, and why."""

    of: str
    what: str
    done: int = 0
    upto: int = 0
    error: str | None = None
    report: Report | None = None

    @property
    def ended(self) -> bool:
        """It will not change any more."""
        return self.error is not None or self.report is not None


def item_kind(key: str, keep: Sequence[str]) -> str:
    """What becomes of an item, and its collection."""
    collection = collection_of(key)
    return f"{KEPT if collection in keep else 'items'} of {collection or key.partition('/')[0]}"


def is_forgotten(record: Record) -> bool:
    """Whether nothing is left of a message but this."""
    return not record.caller and (record.result == NOTHING or record.reason == FORGOTTEN)


def unfinished(report: Report) -> str:
    """Why nothing is erased."""
    named = ", ".join(report.ids)
    more = f" and {report.unfinished - len(report.ids):,} more" if report.unfinished > len(report.ids) else ""
    return (
        f"{report.unfinished:,} messages of {report.of} are not finished: {named}{more}. Wait until they are, or give"
        " them up, too: --unfinished"
    )


def needles(texts: Iterable[str]) -> Iterator[str]:
    """What to search for of texts that are erased: of a JSON text the longest of its strings, as it stands in it; no
    ids, which stay. Of what is long, the middle."""
    for text in texts:
        said = max((it for it in _strings(text) if not _OF_OUR_MAKING.fullmatch(it)), key=len, default="")
        yield from _middle(said)


def _middle(text: str) -> Iterator[str]:
    """Of what is long enough to be searched for."""
    if len(text) >= NEEDLE_CHARS:
        start = max(0, (len(text) - LONGEST_NEEDLE) // 2)
        yield text[start : start + LONGEST_NEEDLE]


class Sought:
    """What is to be found nowhere any more: of the texts of each kind some, each as likely as the others; of such as
    have no long one in them, the longest as it stands."""

    def __init__(self) -> None:
        self._needles: dict[str, list[str]] = {}
        self._seen = Counter[str]()
        self._chance = Random(0)  # noqa: S311  a sample
        self._longest = ""

    def keep(self, texts: Iterable[str], kind: str = "") -> None:
        """Further ones."""
        some = self._needles.setdefault(kind, [])
        for text in texts:
            self._longest = max(self._longest, text, key=len)
            for needle in needles([text]):
                if needle in some:
                    continue
                self._seen[kind] += 1
                if len(some) < NEEDLES:
                    some.append(needle)
                elif (place := self._chance.randrange(self._seen[kind])) < NEEDLES:
                    some[place] = needle

    def texts(self, caller: str | None) -> list[str]:
        """In turn of each kind; with the caller's name."""
        turns = dict.fromkeys(needle for turn in zip_longest(*self._needles.values()) for needle in turn)
        some = [needle for needle in turns if needle][: NEEDLES - 1] or list(_middle(self._longest))
        return [text for text in [*some, caller or ""] if len(text.encode()) >= SHORTEST_NAME_BYTES]


def _strings(text: str) -> Iterator[str]:
    """Those of JSON that are written as they are, whatever its encoder escapes; also where only its beginning is
    there. What is none, or nothing but a number, whole."""
    try:
        left: list[Any] = [msgspec.json.decode(text)]
    except (msgspec.DecodeError, RecursionError):
        left = []
        found = _QUOTED.findall(text) if text.startswith(("{", "[")) else []
        yield from (it for it in found if "\\" not in it)
        if not found:
            yield text
    if left and isinstance(left[0], (int, float)):
        yield text
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str) and value in text:
            yield value


def may_come_of(message_id: str) -> list[str]:
    """The ids of all that may have come of a message: what it emitted, and its callbacks."""
    message = _of(message_id)
    return [*(message.emitted_id(place) for place in range(limits.MAX_EMITS)), *callbacks_of(message_id)]


def callbacks_of(message_id: str) -> list[str]:
    """The ids of its callbacks."""
    return [_of(message_id).callback_id(), _of(message_id).callback_id(purged=True)]


def _of(message_id: str) -> Message:
    return Message(message_id, "", "", "", 0)
