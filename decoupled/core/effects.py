"""Checks effects and encodes them for an engine, before anything is written. The limits are DynamoDB's, so that a
workload that runs on one machine runs on AWS. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, assert_never

import msgspec

from decoupled.core import limits, stack_limits
from decoupled.core.outcomes import Commit
from decoupled.core.workload import (
    Add,
    Delete,
    Effects,
    EffectsError,
    Emit,
    Item,
    Message,
    Put,
    Update,
    Workloads,
    Write,
    decoder,
)


def encode(effects: Effects, message: Message, workloads: Workloads) -> Commit:
    """Effects as a Commit. Raises EffectsError naming what no engine can apply."""
    if not isinstance(effects, Effects):
        raise EffectsError(f"process must return Effects, not {type(effects).__name__}")
    if type(effects.result) is not dict and not isinstance(effects.result, Mapping):
        raise EffectsError("result must be a mapping")
    if effects.writes:
        _check_writes(effects.writes)
    result = _encode(effects.result)
    size = len(result)
    emits: list[Message] = []
    later: dict[int, float] = {}
    if effects.emits:
        emits, later = _messages(effects.emits, message, workloads)
        size += sum(len(emitted.body.encode()) for emitted in emits)
    if size > limits.MAX_ITEM_BYTES:
        raise EffectsError(f"the result and what is emitted have {size} bytes; a record takes {limits.MAX_ITEM_BYTES}")
    if message.trace and size + len(emits) * len(message.trace) > limits.MAX_ITEM_BYTES:
        emits = [msgspec.structs.replace(emitted, trace="") for emitted in emits]  # a trace ends here, and no message
    return Commit(result.decode(), list(effects.writes), emits, later)


def _check_writes(writes: Sequence[Write]) -> None:
    if len(writes) > limits.MAX_ITEMS - 1:
        raise EffectsError(f"{len(writes)} writes; {limits.MAX_ITEMS - 1} fit one atomic step beside the record")
    keys = set()
    for write in writes:
        if not 0 < len(write.key.encode()) <= limits.MAX_KEY_BYTES:
            raise EffectsError(f"a key has 1 to {limits.MAX_KEY_BYTES} bytes: {write.key[:40]!r}")
        if write.key in keys:
            raise EffectsError(f"two writes to {write.key!r}: one atomic step takes one write an item")
        if "/" not in write.key:
            raise EffectsError(f"the key {write.key[:40]!r} has no slash, as in {'workload/collection/name'!r}")
        keys.add(write.key)
        _check_conditions(write)
        match write:
            case Put(item=item):
                _check_attributes(write.key, item)
            case Update():
                _check_update(write)
            case Add():
                _check_add(write)
            case Delete():
                pass
            case never:
                assert_never(never)


def _check_conditions(write: Write) -> None:
    if write.if_present is not None and write.if_absent is not None:
        raise EffectsError(f"{write.key!r} is to be there and not to be there")
    _check_names(write.key, write.equal)
    _check_names(write.key, write.absent)
    _check_plain(write.equal)
    for name, value in write.equal.items():
        if not isinstance(value, (str, int, Decimal)):
            raise EffectsError(f"{name!r} of {write.key!r} is compared with text, a number or a boolean only")
    if both := write.equal.keys() & set(write.absent):
        raise EffectsError(f"{both.pop()!r} of {write.key!r} is to have a value and not to be there")


def _check_names(key: str, names: Iterable[str]) -> None:
    if isinstance(names, str):
        raise EffectsError(f"{names!r:.40} of {key!r} is one name: make it a list")
    for name in names:
        if name in _RESERVED:
            raise EffectsError(f"an attribute of {key!r} cannot have the name {name!r}")
        if not isinstance(name, str):
            raise EffectsError(f"{name!r:.40} names an attribute; names are text")


_RESERVED = ("", limits.KEY_ATTRIBUTE, limits.COLLECTION_ATTRIBUTE, limits.OWNER_ATTRIBUTE)


def _check_attributes(key: str, attributes: Item) -> None:
    _check_names(key, attributes)
    if len(_encode(attributes)) > limits.MAX_ITEM_BYTES:
        raise EffectsError(f"the item {key!r} is over {limits.MAX_ITEM_BYTES} bytes")
    _check_plain(attributes)


def _check_update(write: Update) -> None:
    _check_attributes(write.key, write.set)
    _check_names(write.key, write.remove)
    if both := write.set.keys() & set(write.remove):
        raise EffectsError(f"{both.pop()!r} of {write.key!r} is both set and removed")
    if write.remove and not (write.set or write.if_present or write.equal):
        raise EffectsError(f"{write.key!r} may not be there to remove from: set something, or ask for if_present")


def _check_add(write: Add) -> None:
    if unknown := (write.floor.keys() | write.ceiling.keys()) - write.amounts.keys():
        raise EffectsError(f"bounds on {sorted(unknown)}, which {write.key!r} adds nothing to")
    named = [*write.amounts, *write.lowest, *write.highest]
    _check_names(write.key, named)
    if len(set(named)) < len(named):
        raise EffectsError(f"one number of {write.key!r} is both added to and compared: one step does one of them")
    for part in (write.amounts, write.lowest, write.highest, write.floor, write.ceiling):
        for number in part.values():
            _check_number(number)


def _messages(emits: Sequence[Emit], message: Message, workloads: Workloads) -> tuple[list[Message], dict[int, float]]:
    """What is emitted as messages, and those of them that are due later."""
    if len(emits) > limits.MAX_EMITS:
        raise EffectsError(f"{len(emits)} messages emitted; {limits.MAX_EMITS} is the limit")
    messages, later = [], dict[int, float]()
    for index, emit in enumerate(emits):
        if emit.workload not in workloads:
            raise EffectsError(f"emits to {emit.workload!r}, which is not served here")
        body, workload = _encode(emit.entry), workloads[emit.workload]
        try:
            entry = decoder(workload.schema).decode(body)
        except msgspec.ValidationError as error:
            raise EffectsError(f"emits what {emit.workload!r} would refuse: {error}") from error
        if len(body) > limits.MAX_ENTRY_BYTES:
            raise EffectsError(f"emits {len(body)} bytes to {emit.workload!r}; {limits.MAX_ENTRY_BYTES} is the limit")
        if emit.delay_s:
            later[index] = _delay_s(emit, len(body))
        text = body.decode().translate(ESCAPED)
        emitted_id, group = message.emitted_id(index), workload.group_of(entry, message.caller)
        messages.append(
            Message(
                *(emitted_id, emit.workload, text, message.caller, message.accepted_at, group),
                trace=message.trace,
                hops=_hops(emit, message),
            )
        )
    return messages, later


def _hops(emit: Emit, message: Message) -> int:
    """How far down a chain of messages that one is which a message emits. What waits for a while begins anew: it does
    no harm, however often it comes, and may be meant to come for ever."""
    if emit.delay_s and emit.delay_s >= stack_limits.HOPS_FORGOTTEN_S:
        return 0
    if message.hops >= stack_limits.MAX_HOPS:
        raise EffectsError(f"emits on and on: {stack_limits.MAX_HOPS} messages came of one another, which is the limit")
    return message.hops + 1


def _delay_s(emit: Emit, size: int) -> float:
    if not isinstance(emit.delay_s, (int, float)) or not 0 <= emit.delay_s <= limits.MAX_LATER_S:
        raise EffectsError(f"emits to {emit.workload!r} in {emit.delay_s!r:.40} s; 0 to {limits.MAX_LATER_S} may be")
    if emit.delay_s > limits.MAX_DELAY_S and size > limits.MAX_LATER_ENTRY_BYTES:
        raise EffectsError(
            f"emits {size} bytes to {emit.workload!r}; what is due after {limits.MAX_DELAY_S} s has"
            f" {limits.MAX_LATER_ENTRY_BYTES} at most"
        )
    return emit.delay_s


# SQS takes neither of these two raw; in JSON they can only stand inside a string, where an escape means the same.
ESCAPED = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}


def _encode(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise EffectsError(f"not plain data: {error}") from error


def _check_plain(value: Any) -> None:
    """Only what both engines store alike: a date, bytes or a Struct would be text on one and an error on the other."""
    match value:
        case None | bool() | str():
            pass
        case int() | float() | Decimal():
            _check_number(value)
        case Mapping():
            for name, part in value.items():
                if not isinstance(name, str):
                    raise EffectsError(f"{name!r:.40} names an attribute; names are text")
                _check_plain(part)
        case list() | tuple():
            for part in value:
                _check_plain(part)
        case _:
            raise EffectsError(f"items hold plain data, not {type(value).__name__}")


def _check_number(number: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, Decimal)):
        raise EffectsError(f"{number!r:.40} is not a whole number or a Decimal, which are exact")
    exact = Decimal(number)
    if not exact.is_finite() or len(exact.as_tuple().digits) > limits.MAX_NUMBER_DIGITS:
        raise EffectsError(f"{exact:.40} is not a finite number of at most {limits.MAX_NUMBER_DIGITS} digits")
    if exact and not limits.MIN_NUMBER_EXPONENT <= exact.adjusted() <= limits.MAX_NUMBER_EXPONENT:
        raise EffectsError(f"{exact:.40} is too large or too near to zero")
