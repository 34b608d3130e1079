"""Names every fault of a refused entry by JSON pointer. msgspec decodes a good entry in microseconds but stops at the
first fault of a bad one; only then is this slower walk taken. Pure.

Its work is bounded, whatever is sent: what is good is passed by msgspec, a whole list at a time; only what is bad is
looked into, no deeper than a limit, and until enough faults are named. So it costs a few times what decoding does."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from itertools import islice
from types import GenericAlias
from typing import Any, get_args, get_origin

import msgspec

from decoupled.core import limits
from decoupled.core.workload import BadField

Fault = dict[str, str]  # {"pointer": "#/lines/0/quantity", "detail": "Expected `int`, got `str`"}

_WITHIN = " - at `$"  # what msgspec puts between what is wrong and where, if it is a part of what was to be converted
_INDEX = re.compile(r"\[(\d+)\]")


def faults(entry: Any, schema: Any, at_most: int = limits.MAX_FAULTS_NAMED) -> list[Fault]:
    """The first so many faults of an entry (plain data) against a schema; empty if it is valid."""
    return list(islice(_walk(entry, schema, "#", limits.MAX_FAULT_DEPTH), at_most))


def fault(error: msgspec.ValidationError, pointer: str = "#") -> Fault:
    """What msgspec says of the value at `pointer`. Where only a part of it is wrong, the detail says which part."""
    if isinstance(error.__cause__, BadField) and _WITHIN not in str(error):
        pointer += error.__cause__.pointer
    return {"pointer": pointer, "detail": _clip(str(error))}


def _walk(value: Any, schema: Any, pointer: str, depth: int) -> Iterator[Fault]:
    refusal = _refusal(value, schema)
    if refusal is None:
        return
    found = False
    if depth:
        for inner in _inner(value, schema, pointer, refusal, depth - 1):
            found = True
            yield inner
    if not found:  # the whole cannot be valid where a part is not
        yield fault(refusal, pointer)


def _refusal(value: Any, schema: Any) -> msgspec.ValidationError | None:
    try:
        msgspec.convert(value, schema, strict=True, str_keys=True)
    except msgspec.ValidationError as error:
        if not str(error).startswith("Expected `raw`"):
            return error
    else:
        return None
    try:  # the longer way: convert makes no Raw of plain data
        msgspec.json.decode(msgspec.json.encode(value), type=schema)
    except msgspec.ValidationError as error:
        return error
    return None


def _inner(value: Any, schema: Any, pointer: str, refusal: msgspec.ValidationError, depth: int) -> Iterator[Fault]:
    """Faults of the parts of a value: fields of a Struct, elements of a list. Other kinds have no parts."""
    if isinstance(value, dict) and (structs := _structs(schema)):
        yield from _object(value, structs, pointer, depth)
    elif isinstance(value, list) and (element := _list_element(schema)) is not None:
        yield from _elements(value, element, pointer, refusal, depth)


def _elements(
    values: list[Any], element: Any, pointer: str, refusal: msgspec.ValidationError, depth: int
) -> Iterator[Fault]:
    """Faults of a list's elements: msgspec says which is the first bad one, and then which of those after it."""
    start, found = 0, _first_bad(refusal)
    while found is not None:
        start += found
        yield from _walk(values[start], element, f"{pointer}/{start}", depth)
        start += 1
        further = _refusal(values[start:], GenericAlias(list, element))
        found = None if further is None else _first_bad(further)


def _first_bad(refusal: msgspec.ValidationError) -> int | None:
    """The index of the element that a list is refused for; None if it is refused for what it is itself."""
    index = _INDEX.match(str(refusal).rpartition(_WITHIN)[2])
    return None if index is None else int(index[1])


def _object(value: dict[str, Any], structs: list[type[msgspec.Struct]], pointer: str, depth: int) -> Iterator[Fault]:
    """Faults of an object that may be one of several Structs: its tag says which, and what that one lacks is named."""
    field = structs[0].__struct_config__.tag_field
    if len(structs) == 1 and (field is None or field not in value):
        yield from _fields(value, structs[0], pointer, depth)
        return
    if field is None:
        return  # a union without tags is not a schema that msgspec takes
    tags = {struct.__struct_config__.tag: struct for struct in structs}
    at = f"{pointer}/{_escape(field)}"
    if field not in value:
        yield {"pointer": at, "detail": f"Required field is missing: {_one_of(tags)}"}
    elif not isinstance(value[field], (str, int)) or value[field] not in tags:
        yield {"pointer": at, "detail": f"Expected {_one_of(tags)}"}
    else:
        yield from _fields(value, tags[value[field]], pointer, depth)


def _fields(value: dict[str, Any], struct: type[msgspec.Struct], pointer: str, depth: int) -> Iterator[Fault]:
    fields = _fields_of(struct)
    tag = struct.__struct_config__.tag_field
    for name, field in fields.items():
        if name in value:
            yield from _walk(value[name], field.type, f"{pointer}/{_escape(name)}", depth)
        elif field.required:
            yield {"pointer": f"{pointer}/{_escape(name)}", "detail": "Required field is missing"}
    if struct.__struct_config__.forbid_unknown_fields:
        for name in value:
            if name not in fields and name != tag:
                yield _unknown(name, pointer)


@functools.cache
def _fields_of(struct: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(struct)}


def _structs(schema: Any) -> list[type[msgspec.Struct]]:
    """The Structs that a schema may mean: itself, annotated, optional, or several told apart by a tag."""
    return [part for part in _alternatives(schema) if isinstance(part, type) and issubclass(part, msgspec.Struct)]


def _list_element(schema: Any) -> Any:
    lists = [part for part in _alternatives(schema) if get_origin(part) is list or get_args(part)[1:] == (...,)]
    return get_args(lists[0])[0] if len(lists) == 1 else None


def _one_of(tags: dict[Any, Any]) -> str:
    return "one of " + ", ".join(f"`{tag}`" for tag in tags)


def _alternatives(schema: Any) -> list[Any]:
    if hasattr(schema, "__metadata__"):  # Annotated[T, Meta(...)]
        return _alternatives(get_args(schema)[0])
    if get_origin(schema) in (list, tuple, dict) or not get_args(schema):
        return [schema]
    return [inner for part in get_args(schema) for inner in _alternatives(part)]  # X | None


def _unknown(name: str, pointer: str) -> Fault:
    """An answer does not repeat a name of a hundred kilobytes: such a field is told by the object it stands in."""
    if len(name) > limits.MAX_FAULT_CHARS:
        return {"pointer": pointer, "detail": f"Unknown field {_clip(name)!r}"}
    return {"pointer": f"{pointer}/{_escape(name)}", "detail": "Unknown field"}


def _clip(text: str) -> str:
    return text if len(text) <= limits.MAX_FAULT_CHARS else text[: limits.MAX_FAULT_CHARS] + "…"


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
