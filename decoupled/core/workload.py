"""What a use case is made of: a schema, and a pure function from a message to its effects. Plain data and checks of
it; no I/O, no clock, no engine. A workload's own file imports these from `decoupled`, and nothing else."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import UnionType
from typing import Any

import msgspec

from decoupled.core import limits
from decoupled.core.identifiers import derived_id, is_id

ANONYMOUS = "anonymous"
"""The caller of those who did not say who they are."""

Number = int | Decimal
Item = Mapping[str, Any]
"""Attributes of an item: text, whole numbers, Decimals, booleans, None, and lists and mappings of these."""


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One accepted entry of a request, as the queue carries it."""

    id: str  # opaque, URL-safe, at most 64 characters
    workload: str
    body: str  # the entry's JSON text, as the client sent it
    caller: str  # who sent it: scopes idempotency keys
    accepted_at: int  # milliseconds since the epoch
    group: str = ""  # what it shares a fate with (see `Workload.group`), at most MAX_GROUP_CHARS
    due_at: int | None = None  # not before this time, likewise; told to the queue, which hands it out without
    digest: str = ""  # of the entry, where its sender gave a key for it: told to the queue, likewise
    callback: str = ""  # a URL that the final record is sent to
    trace: str = ""  # the context of the trace that it is part of, if it is: see `core/traces.py`
    hops: int = 0  # how many messages before it emitted one the next, where the engine keeps that (AWS)

    @property
    def owner(self) -> str:
        """Whose the items are that it makes: its caller's, or nobody's ("") where nobody can tell callers apart."""
        return "" if self.caller == ANONYMOUS else self.caller

    def emitted_id(self, index: int) -> str:
        """The id of the message that this one's `emits[index]` becomes: the same at every redelivery."""
        return derived_id(self.id, "emit", str(index))

    def callback_id(self, purged: bool = False) -> str:
        """The id of the message that tells this one's `callback` what it came to, likewise. To be purged can be taken
        back by a person, so that another message tells what follows."""
        return _callback_ids(self.id)[purged]

    def tells_of(self, message_id: str) -> bool:
        """Whether this message is such a one, of the message with that id, or with that and a tail, as clients of AWS
        have it: what clients send never has such an id itself."""
        return is_id(message_id) and self.id in _callback_ids(message_id.partition(".")[0])


def _callback_ids(message_id: str) -> tuple[str, str]:
    return derived_id(message_id, "callback"), derived_id(message_id, "callback", "purged")


class Conditions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What must hold of an item before it is written: else the message is rejected, and nothing of it is applied.

    `if_present` and `if_absent` ask that the item exists, or that it does not, and are the reasons when it is not so.
    `equal` asks that attributes have these values (text, numbers, booleans), `absent` that there are no attributes of
    these names; `otherwise` is the reason when one of these does not hold, or a bound of an Add."""

    if_present: str | None = None
    if_absent: str | None = None
    equal: Item = {}
    absent: Sequence[str] = ()
    otherwise: str = "a condition does not hold"


class Put(Conditions, frozen=True, tag=True):
    """Store an item whole."""

    key: str
    item: Item


class Add(Conditions, frozen=True, tag=True):
    """Add to numbers of an item, which starts from nothing.

    `lowest` and `highest` keep the smaller and the larger of the stored number and the given one. `floor` and `ceiling`
    bound numbers named in `amounts`, after adding."""

    key: str
    amounts: Mapping[str, Number]
    lowest: Mapping[str, Number] = {}
    highest: Mapping[str, Number] = {}
    floor: Mapping[str, Number] = {}
    ceiling: Mapping[str, Number] = {}


class Update(Conditions, frozen=True, tag=True):
    """Set single attributes of an item, which starts from nothing, and remove others. One that does neither only asks
    that its conditions hold."""

    key: str
    set: Item = {}
    remove: Sequence[str] = ()


class Delete(Conditions, frozen=True, tag=True):
    """Remove an item, if it is there."""

    key: str


Write = Put | Add | Update | Delete


class Emit(msgspec.Struct, frozen=True):
    """A message for another workload: sent exactly once in effect, if and only if this message is processed."""

    workload: str
    entry: Any  # a schema's Struct, or plain data that it accepts
    delay_s: float = 0  # after this one is processed; at most MAX_LATER_S


class Effects(msgspec.Struct, frozen=True):
    """All that a message does, applied in one atomic step together with its record."""

    result: Mapping[str, Any]  # what GET shows
    writes: Sequence[Write] = ()
    emits: Sequence[Emit] = ()


class Rejected(Exception):  # noqa: N818  a verdict, not an error
    """A business rule says no: final, recorded with its reason, never retried."""


class Unavailable(Exception):  # noqa: N818  a state of the backend, not an error of the message
    """Something the workload needs is sick. The message waits and is retried; it is never dead-lettered for this."""

    def __init__(self, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class NotYet(Exception):  # noqa: N818  neither a verdict nor an error
    """It is not time for this message yet: it comes back `until` then, or after so many seconds. That is no attempt,
    and nobody's fault. Raises ValueError for a time without its zone, or seconds that are not 0 to MAX_LATER_S."""

    def __init__(self, until: datetime | float) -> None:
        if isinstance(until, datetime):
            if until.tzinfo is None:
                raise ValueError(f"NotYet until {until} of which time zone?")
        elif not 0 <= until <= limits.MAX_LATER_S:
            raise ValueError(f"NotYet takes 0 to {limits.MAX_LATER_S} seconds, or a time; not {until}")
        super().__init__(f"not before {until}" if isinstance(until, datetime) else f"not for {until} s")
        self.until = until


class BadField(ValueError):  # noqa: N818  a verdict on what the client sent, not an error of the schema
    """Raised in a schema's `__post_init__`: a field that is wrong in view of the others. `pointer` is the field's JSON
    pointer within the schema's own object, such as "/lines/0/unit_price"."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer


class EffectsError(ValueError):
    """Effects that no engine can apply: too many or too large items, one key twice, a number out of range."""


Schema = type[msgspec.Struct] | UnionType
"""What entries look like: a Struct, or a union of Structs told apart by a tag (`Open | Transfer`)."""


Process = Callable[[Any, Message], Effects] | Callable[[Any, Message], Awaitable[Effects]]
"""From an entry and its message to what it does. A coroutine function (`async def`) is for what calls others."""

Invariant = Callable[[Iterator[tuple[str, Item]]], Iterable[str]]
"""From the workload's items, each with its key and in the order of their keys, to what is wrong with them, a sentence
each."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A use case: `POST /{name}` takes entries of `schema`, and `process` turns each into effects.

    `group` names what an entry shares a fate with: the receiver's host, an account, a device; without it, that is the
    caller. Groups do not wait for each other. `rate` is how many messages a second are processed at most on one
    machine, `group_rate` how many of each group: a receiver that allows 20 gets 20. With `ordered`, the messages of a
    group are processed one at a time, in the order in which they were accepted: one that fails holds its group back
    until it has succeeded, or is rejected or dead.

    `natural_key` names what makes an entry the same entry when it is sent again (device and timestamp, say); entries
    without one are told apart by Idempotency-Key or not at all. `readable` are the collections of items that
    `GET /{name}/{collection}/{key}` shows, `listed` those of them that `GET /{name}/{collection}` lists, at a price on
    AWS. Where callers say who they are, an item is shown to its owner only, whose message made it, and nothing is
    listed; those of `public` are shown to all, and operators see everything.
    `emits_to` lists the workloads it emits to, which must be served too. One that is `internal` has no route: other
    workloads emit to it, and nobody else sends to it or reads of it. `example` is an entry as a client would send it,
    for the document that describes the API. `check_callback` is for `notifications`, which delivers the callbacks of
    all the others: it raises ValueError for a URL that it could never deliver to.

    A plain `process` decides one message at a time in its worker process. An `async` one decides up to `concurrency` at
    once there (limits.ASYNC_CONCURRENCY by default); with `threads`, a plain one as many as that, for client libraries
    that block.
    """

    name: str
    schema: Schema
    process: Process
    group: Callable[[Any], str] | None = None
    rate: float | None = None
    group_rate: float | None = None
    ordered: bool = False
    natural_key: Callable[[Any], str] | None = None
    readable: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    emits_to: tuple[str, ...] = ()
    concurrency: int | None = None
    threads: int = 0
    internal: bool = False
    example: Any = field(default=None, repr=False, compare=False)
    public: tuple[str, ...] = ()
    check_callback: Callable[[str], None] | None = None
    invariant: Invariant | None = None
    is_async: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        process = self.process  # or a callable object, whose method may be async
        is_async = inspect.iscoroutinefunction(process) or inspect.iscoroutinefunction(type(process).__call__)
        object.__setattr__(self, "is_async", is_async)

    @property
    def concurrent(self) -> bool:
        """Whether its messages are decided at once, not one after the other."""
        return self.is_async or self.threads > 0

    @property
    def at_once(self) -> int:
        """How many of its messages one process decides at the same time."""
        return self.threads or ((self.concurrency or limits.ASYNC_CONCURRENCY) if self.is_async else 1)

    def group_of(self, entry: Any, caller: str) -> str:
        """The group of an entry: what `group` says, or the caller; "" for callers that nobody can tell apart. A name
        that is too long is told by its digest. Raises whatever `group` raises, and TypeError where it gives no text: no
        queue must get to see that."""
        name = caller if self.group is None else self.group(entry)
        if not isinstance(name, str):
            raise TypeError(f"the group of an entry of {self.name!r} is text, and not a {type(name).__name__}")
        if type(name) is not str or not name.isascii():  # a class of its own, or unpaired surrogates
            name = name.encode(errors="replace").decode()
        if name == ANONYMOUS and self.group is None:
            return ""
        return name if len(name) <= limits.MAX_GROUP_CHARS else derived_id("group", name)


Workloads = Mapping[str, Workload]


def collection_of(key: str) -> str:
    """The collection of an item: `shop/orders` of `shop/orders/17`, and "" of a key that is in none."""
    workload, _, rest = key.partition("/")
    collection, slash, _ = rest.partition("/")
    return f"{workload}/{collection}" if slash else ""


def listed(workloads: Workloads) -> frozenset[str]:
    """The collections that are listed, as `collection_of` names them."""
    return frozenset(f"{workload.name}/{name}" for workload in workloads.values() for name in workload.listed)


@functools.cache
def decoder(schema: Schema) -> msgspec.json.Decoder[Any]:
    """The decoder of a schema, made once."""
    return msgspec.json.Decoder(schema)
