"""Checks effects and encodes them for an engine, before anything is written. The limits are DynamoDB's, so that a
workload that runs on one machine runs on AWS. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from decoupled import limits
from decoupled.engine import Commit
from decoupled.workload import Add, Effects, EffectsError, Emit, Message, Put, Workloads, Write, derived_id


def encode(effects: Effects, message: Message, workloads: Workloads) -> Commit:
    """Effects as a Commit. Raises EffectsError naming what no engine can apply."""
    if not isinstance(effects, Effects):
        raise EffectsError(f"process must return Effects, not {type(effects).__name__}")
    if not isinstance(effects.result, Mapping):
        raise EffectsError("result must be a mapping")
    _check_writes(effects.writes)
    result = _encode(effects.result)
    emits = _messages(effects.emits, message, workloads)
    size = len(result) + sum(len(emitted.body) for emitted in emits)
    if size > limits.MAX_ITEM_BYTES:
        raise EffectsError(f"the result and what is emitted have {size} bytes; a record takes {limits.MAX_ITEM_BYTES}")
    return Commit(result.decode(), list(effects.writes), emits)


def _check_writes(writes: Sequence[Write]) -> None:
    if len(writes) > limits.MAX_ITEMS - 1:
        raise EffectsError(f"{len(writes)} writes; {limits.MAX_ITEMS - 1} fit one atomic step beside the record")
    keys = set()
    for write in writes:
        if not 0 < len(write.key.encode()) <= limits.MAX_KEY_BYTES:
            raise EffectsError(f"a key has 1 to {limits.MAX_KEY_BYTES} bytes: {write.key[:40]!r}")
        if write.key in keys:
            raise EffectsError(f"two writes to {write.key!r}: one atomic step takes one write an item")
        keys.add(write.key)
        match write:
            case Put(item=item):
                if len(_encode(item)) > limits.MAX_ITEM_BYTES:
                    raise EffectsError(f"the item {write.key!r} is over {limits.MAX_ITEM_BYTES} bytes")
                _check_numbers(_numbers(item))
            case Add():
                if unknown := (write.floor.keys() | write.ceiling.keys()) - write.amounts.keys():
                    raise EffectsError(f"bounds on {sorted(unknown)}, which {write.key!r} adds nothing to")
                for part in (write.amounts, write.lowest, write.highest, write.floor, write.ceiling):
                    _check_numbers(part.values())


def _messages(emits: Sequence[Emit], message: Message, workloads: Workloads) -> list[Message]:
    if len(emits) > limits.MAX_EMITS:
        raise EffectsError(f"{len(emits)} messages emitted; {limits.MAX_EMITS} is the limit")
    messages = []
    for index, emit in enumerate(emits):
        if emit.workload not in workloads:
            raise EffectsError(f"emits to {emit.workload!r}, which is not served here")
        body = _encode(emit.entry)
        try:
            msgspec.json.decode(body, type=workloads[emit.workload].schema)
        except msgspec.ValidationError as error:
            raise EffectsError(f"emits what {emit.workload!r} would refuse: {error}") from error
        if len(body) > limits.MAX_ENTRY_BYTES:
            raise EffectsError(f"emits {len(body)} bytes to {emit.workload!r}; {limits.MAX_ENTRY_BYTES} is the limit")
        emitted_id = derived_id(message.id, "emit", str(index))  # the same at every redelivery
        messages.append(Message(emitted_id, emit.workload, body.decode(), message.caller, message.accepted_at))
    return messages


def _encode(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise EffectsError(f"not plain data: {error}") from error


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        yield value


def _check_numbers(values: Any) -> None:
    for value in values:
        if isinstance(value, float):
            raise EffectsError(f"{value!r} is a float: items hold whole numbers and Decimals, which are exact")
        number = Decimal(value)
        if not number.is_finite() or len(number.as_tuple().digits) > limits.MAX_NUMBER_DIGITS:
            raise EffectsError(f"{value} is not a finite number of at most {limits.MAX_NUMBER_DIGITS} digits")
