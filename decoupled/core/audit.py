"""What an audit finds, and by which rules: what each field of a message must be in each status. Pure; the engines read
the rows. The rules are a table, from which a statement of SQL is made as well as sentences for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args

import msgspec

from decoupled.core import upkeep_limits
from decoupled.core.comparing import Compared
from decoupled.core.forgetting import FORGOTTEN, NOTHING
from decoupled.core.identifiers import is_id
from decoupled.core.outcomes import Record
from decoupled.core.status import STATUSES, Status
from decoupled.core.workload import Message

Kind = Literal["file", "missing", "surplus", "tally", "record", "item", "invariant", "effect", "unknown"]
"""file: what SQLite's own check finds. missing, surplus: numbers of the ledger without rows, or the other way round.
tally: a count that is kept is not what is there. record, item: a row that cannot be. invariant: items that a
workload says cannot be. effect: what a message must have done, and is not there. unknown: an id of a client's that
nobody knows."""
KINDS: tuple[Kind, ...] = get_args(Kind)

Progress = Callable[[str, int, int], None]
"""Hears how far it is: what is being looked at, how much of it, of how much."""

Must = Literal["there", "none"]
"""Of a field: it is not NULL, or it is."""

RULES: Mapping[Status, Mapping[str, Must]] = {
    "queued": {"body": "there", "result": "none", "reason": "none", "finished_at": "none"},
    "processed": {"result": "there", "reason": "none", "finished_at": "there"},
    "rejected": {"result": "none", "reason": "there", "finished_at": "there"},
    "dead": {
        "body": "there",
        "result": "none",
        "reason": "none",
        "finished_at": "there",
        "error_type": "there",
        "error": "there",
    },
}
"""What a message must have, or not, by its status. What stands in no row of it may be there or not: a final record may
keep its body and the story of its failures."""


EMPTY_WHEN_FORGOTTEN = ("body", "error", "error_type", "traceback", "callback", "digest", "message_group", "trace")
"""What a message that was forgotten has none of (see `core/forgetting.py`)."""


class TooLong(Exception):  # noqa: N818  a limit, not an error
    """What was looked at beside a server is given up, after so long: why."""


class Kept(msgspec.Struct, frozen=True):
    """A final message that has kept its body: its number, what its record says, and the message again."""

    number: int
    record: Record
    message: Message


class Past(msgspec.Struct):
    """What is known of messages that cannot be run again. `known_from`: after this time, in milliseconds since the
    epoch, none of them ended. `without`: processed ones whose body was not kept; `forgotten`: those of them whose items
    may be gone with them. `done`: how far the reading is, of how
    many numbers."""

    known_from: int = 0
    without: int = 0
    forgotten: int = 0
    removed: int = 0
    done: int = 0
    of: int = 0


class Acknowledgement(msgspec.Struct, frozen=True):
    """Of a fault that was looked into: by whom, when (milliseconds since the epoch), and what was found out."""

    by: str
    at: int
    why: str


MORE = "and more faults of other kinds"


class Fault(msgspec.Struct, kw_only=True):
    """One thing that is wrong, as often as it was found. `where`: numbers, an index, a file. `ids`: some of those that
    it is wrong with, up to FAULT_IDS; messages by their ids, items by their keys. Where `what` or `where` say something
    that changes, `key` is what it is known by, and `size` how much it is."""

    kind: Kind
    what: str
    where: str = ""
    count: int = 1
    ids: list[str] = []
    key: str = ""
    size: int = 0
    acknowledged: Acknowledgement | None = None

    @property
    def says(self) -> str:
        """In one line."""
        some = f": {', '.join(self.ids)}" + (" and more" if self.count > len(self.ids) else "") if self.ids else ""
        often = f" ({self.count:,} times)" if self.count > 1 else ""
        return f"{self.kind}: {self.what}{often}{f' [{self.where}]' if self.where else ''}{some}"


class Day(msgspec.Struct):
    """What was accepted on a day (UTC), of one workload, by what it is now."""

    day: str
    workload: str
    processed: int = 0
    rejected: int = 0
    dead: int = 0
    queued: int = 0

    @property
    def accepted(self) -> int:
        """Those that are there. What was removed is known by its status, and not by its day."""
        return self.processed + self.rejected + self.dead + self.queued


class Report(msgspec.Struct, kw_only=True):
    """What an audit has come to. `accepted` is how many numbers were given out, and `removed` how many of these were
    removed by retention or a person, by what they were; both None where the engine gives out no numbers. `differences`:
    some of the `differing` messages that would come to something else in the code that is here."""

    of: str
    accepted: int | None = None
    counts: dict[str, int] = {}
    removed: dict[str, int] | None = None
    days: list[Day] = []
    faults: list[Fault] = []
    checked: list[str] = []
    unchecked: list[str] = []
    remarks: list[str] = []
    differences: list[Compared] = []
    differing: int = 0
    took_s: float = 0.0

    @property
    def balance(self) -> str:
        """The account, in one line."""
        there = " + ".join(f"{status} {self.counts.get(status, 0):,}" for status in STATUSES)
        if self.accepted is None or self.removed is None:
            return f"records {sum(self.counts.values()):,} = {there}"
        gone = sum(self.removed.values())
        lost = self.accepted - gone - sum(self.counts.values())
        return f"accepted {self.accepted:,} = {there} + removed {gone:,}" + (f" + not there {lost:,}" if lost else "")

    @property
    def alarming(self) -> list[Fault]:
        """Faults that nobody has looked into."""
        return [fault for fault in self.faults if fault.acknowledged is None]

    def find(
        self,
        kind: Kind,
        what: str,
        where: str = "",
        ids: list[str] | None = None,
        count: int = 0,
        key: str = "",
        size: int = 0,
    ) -> None:
        """Something is wrong. What is wrong alike is one fault."""
        some = ids or []
        for fault in self.faults:
            if key and (fault.kind, fault.key) == (kind, key):  # looked at again, it has grown perhaps
                fault.what, fault.where, fault.size = what, where, size
                return
            if (fault.kind, fault.what, fault.where) == (kind, what, where):
                fault.count += count or len(some) or 1
                fault.ids += some[: max(0, upkeep_limits.FAULT_IDS - len(fault.ids))]
                return
        if len(self.faults) < upkeep_limits.FAULTS:
            self.faults.append(
                Fault(
                    kind=kind,
                    what=what,
                    where=where,
                    count=count or len(some) or 1,
                    ids=some[: upkeep_limits.FAULT_IDS],
                    key=key,
                    size=size,
                )
            )
            return
        self.faults[-1] = Fault(kind=kind, what=MORE, count=self.faults[-1].count + 1)


class Mark(msgspec.Struct, frozen=True):
    """Where the audit in a server's background has got to: the highest number that it has seen, the block that is next,
    and how many rounds it has ended."""

    highest: int = 0
    block: int = 0
    rounds: int = 0


class Step(msgspec.Struct, frozen=True):
    """One step of it: how many rows it has looked at, what the round has found until now, and whether it has ended."""

    rows: int
    found: list[Fault]
    ended: bool


def faults_of(row: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a message, given all that is known of it by the names of its fields. A field that the engine
    does not have is not asked for."""
    status = row["status"]
    if status not in STATUSES:
        yield f"it has the status {status!r:.40}, which there is not"
        return
    for name, must in RULES[status].items():
        if name in row and (row[name] is None) == (must == "there"):
            yield f"a {status} message {'without' if must == 'there' else 'with'} {name}"
    if not isinstance(row["id"], str) or not is_id(row["id"]):
        yield "its id is none"
    if not isinstance(row["accepted_at"], int) or not isinstance(row.get("finished_at"), int | None):
        yield "a time of it is none"
    for name in ("attempts", "receive_count", "mark"):
        if name in row and not (isinstance(row[name], int) and row[name] >= 0):
            yield f"{name} is not a number from 0 on"
    if status != "queued" and row.get("in_flight"):
        yield f"a {status} message that is in flight"
    if status == "queued" and row.get("in_flight") and not row.get("receive_count"):
        yield "a message in flight that nobody has received"
    if "visible_at" in row and status == "queued" and row["visible_at"] is None:
        yield "a queued message that will never be visible"
    if not row.get("caller", "?") and (row.get("result") == NOTHING or row.get("reason") == FORGOTTEN):
        for name in EMPTY_WHEN_FORGOTTEN:
            if row.get(name):
                yield f"it was forgotten, and has {name} still"
    if row.get("result") is not None and not _is_object(row["result"]):
        yield "its result is no JSON object"


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, TypeError):
        return False
