"""What goes over when a system moves from one engine to another: records and items in a form that neither engine owns,
and what a move asks of the side that it leaves and of the one that it goes to. By what the two are compared stands in
`comparing.py`. Pure.

    Source ── pages, each from a mark on ──▶ the course of a move ── put, again as often as it takes ──▶ Target
           ◀─ stop, go on, give over ──────                       ── send, when the source has given over ─▶
                                                                  ◀─ what is there, by id ────────────

What has ended is copied while the source goes on. Then it stops; what is left of that goes over, and items, dead
letters and what waits, and all is compared. Until then it can be taken back. Then the source gives over, for good, and
what waits is sent: so that each id has its effects in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from decoupled.core.status import Status
from decoupled.core.workload import Message


class Edit(msgspec.Struct, frozen=True, array_like=True):
    """A body that a dead letter had until somebody changed it."""

    at: int  # when that was, in milliseconds since the epoch
    body: str
    by: str = ""  # who says to have changed it


class Carried(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message as it goes over, with its record. Times are milliseconds since the epoch. What an engine does not have,
    or does not keep of a message in that status, is left as it is here."""

    id: str  # as queue and table know it: without the tail that a stack shows
    workload: str
    status: Status
    accepted_at: int
    caller: str = ""
    group: str = ""
    digest: str = ""  # of the entry, where its sender gave a key for it
    callback: str = ""
    trace: str = ""
    hops: int = 0
    body: str | None = None  # queued and dead: always; of a final one, where it is kept
    result: str | None = None  # processed: JSON text of an object
    reason: str | None = None  # rejected
    finished_at: int | None = None  # processed, rejected or dead since
    attempts: int = 0
    error_type: str | None = None  # of the last failure
    error: str | None = None
    first_failed_at: int | None = None
    last_failed_at: int | None = None
    traceback: str | None = None
    due_at: int | None = None  # queued: not before this time
    receive_count: int = 0  # queued: how often it was handed out; the other side begins anew
    edits: Sequence[Edit] = ()  # dead: the oldest first

    def message(self) -> Message:
        """As a queue carries it. Raises ValueError if it has no body."""
        if self.body is None:
            raise ValueError(f"{self.id} is {self.status}, and has no body")
        return Message(
            *(self.id, self.workload, self.body, self.caller, self.accepted_at, self.group, self.due_at),
            digest=self.digest,
            callback=self.callback,
            trace=self.trace,
            hops=self.hops,
        )


class CarriedItem(msgspec.Struct, frozen=True):
    """An item that workloads wrote."""

    key: str
    item: str  # JSON text of an object, with exact numbers
    owner: str = ""  # "" is nobody's


class Part(msgspec.Struct, frozen=True):
    """Some records, and the mark to go on from. `more`: there are some behind it at once."""

    records: Sequence[Carried]
    mark: str
    more: bool


class ItemPart(msgspec.Struct, frozen=True):
    """Likewise, of items."""

    items: Sequence[CarriedItem]
    mark: str
    more: bool


class Counts(msgspec.Struct, frozen=True):
    """How much there is. `later`: those of the queued that are due later. `exact`: it was counted now; else it is a
    rough number, and nothing is missed that is not there."""

    processed: int = 0
    rejected: int = 0
    dead: int = 0
    queued: int = 0
    later: int = 0
    items: int = 0
    exact: bool = True

    @property
    def final(self) -> int:
        """Records that nothing changes any more."""
        return self.processed + self.rejected

    @property
    def all(self) -> int:
        """What has to be written."""
        return self.final + self.dead + self.queued + self.items


State = Literal["open", "stopped", "moved"]
"""Of a source. stopped: it accepts nothing, and `go_on` takes that back. moved: for ever."""


class Source(Protocol):
    """What a move leaves. Pages hold up to `most` records, and fewer where they are large. A mark is the source's own
    text, "" is the beginning; what was asked for from one mark may be asked for again. May raise Unavailable."""

    name: str  # for people
    identity: str  # what is made anew under the name has another one

    def counts(self) -> Counts:
        """As it is now; those of a stack may be a moment old."""
        ...

    def state(self) -> State:
        """As it is on the disk."""
        ...

    def ended(self, after: str, most: int) -> Part:
        """Those that are processed or rejected. Asked for again from the last mark, those that have ended since: each
        at least once, in whatever order they end."""
        ...

    # The next three of a source that has stopped, and is not `busy` any more: it then changes no more, but for what
    # is too old to be kept.

    def dead(self, after: str, most: int) -> Part:
        """Those that are dead, with their bodies and edits."""
        ...

    def waiting(self, after: str, most: int) -> Part:
        """Those that are queued, also what is due later; of a group that is ordered, in its order."""
        ...

    def items(self, after: str, most: int) -> ItemPart:
        """All items."""
        ...

    def stop(self, to: str, url: str, drain: bool) -> None:
        """Accept nothing from now on, whatever happens to the process; told clients: it has gone `to` there, to this
        `url` if there is one. Hand out nothing more; with `drain`, go on until nothing is left that is due. To do it
        again is safe."""
        ...

    def busy(self) -> int:
        """How many messages have to come to an end, or to be given back, before a source that was stopped is still."""
        ...

    def go_on(self) -> None:
        """Accept again. Raises ValueError once it has given over."""
        ...

    def give_over(self) -> None:
        """What waits is the other side's from now on, and nothing is ever handed out here again."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Target(Protocol):
    """What a move goes to. All that is put is durable when the call returns. Where it raises Unavailable some of it may
    be: to put all again is safe. ValueError, which names an id or a key: that can never be put."""

    name: str  # for people
    identity: str  # likewise

    def check(self, counts: Counts) -> Sequence[str]:
        """What a person should know before so much is put here. Raises ValueError if it cannot be."""
        ...

    def put(self, records: Sequence[Carried]) -> Sequence[str]:
        """Their records, of any status; nothing is handed out yet. What is there already in a later state, or the same,
        stays as it is. Returns what differs, a sentence each that names the id; that stays as it is, too."""
        ...

    def put_items(self, items: Sequence[CarriedItem]) -> Sequence[str]:
        """Likewise, items: none is changed that is there."""
        ...

    def send(self, records: Sequence[Carried]) -> None:
        """Of queued and dead ones that were put: have them handed out from now on, in this order, or noticed. Those
        that have ended there since an earlier try are left alone."""
        ...

    def take_back(self, records: Sequence[Carried]) -> None:
        """Remove those queued and dead ones that were put and not sent, if they are there, and as they were put: the
        source goes on, and they will be others."""
        ...

    def take_back_items(self, items: Sequence[CarriedItem]) -> None:
        """Likewise, items."""
        ...

    def get(self, ids: Sequence[str]) -> Mapping[str, Carried]:
        """Those that are there, by id; read after all that was put. The body of what waits need not be told."""
        ...

    def get_items(self, keys: Sequence[str]) -> Mapping[str, CarriedItem]:
        """Likewise, items."""
        ...

    def finish(self) -> None:
        """All is there: it may serve."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Marks(Protocol):
    """Where a move remembers how far it has got, durably: on the side of the two that is a data directory."""

    def read(self) -> str | None:
        """What was written last."""
        ...

    def write(self, text: str) -> None:
        """Written when this returns."""
        ...
