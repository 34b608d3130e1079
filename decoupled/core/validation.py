"""Names every fault of a refused entry by JSON pointer. msgspec decodes a good entry in microseconds but stops at the
first fault of a bad one; only then is this slower walk taken. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, get_args, get_origin

import msgspec

from decoupled.core import limits
from decoupled.core.workload import BadField

Fault = dict[str, str]  # {"pointer": "#/lines/0/quantity", "detail": "Expected `int`, got `str`"}


def faults(entry: Any, schema: Any) -> list[Fault]:
    """Every fault of an entry (plain data) against a schema, at most MAX_FAULTS_NAMED; empty if it is valid."""
    return list(islice(_walk(entry, schema, "#"), limits.MAX_FAULTS_NAMED))


def _walk(value: Any, schema: Any, pointer: str) -> Iterator[Fault]:
    found = False
    for fault in _inner(value, schema, pointer):
        found = True
        yield fault
    if found:
        return  # the whole cannot be valid where a part is not
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=schema)  # not convert: it makes no Raw of plain data
    except msgspec.ValidationError as error:
        field = error.__cause__.pointer if isinstance(error.__cause__, BadField) else ""
        yield {"pointer": pointer + field, "detail": _clip(str(error).split(" - at `$")[0])}


def _inner(value: Any, schema: Any, pointer: str) -> Iterator[Fault]:
    """Faults of the parts of a value: fields of a Struct, elements of a list. Other kinds have no parts."""
    if isinstance(value, dict) and (structs := _structs(schema)):
        yield from _object(value, structs, pointer)
    elif isinstance(value, list) and (element := _list_element(schema)) is not None:
        for index, part in enumerate(value):
            yield from _walk(part, element, f"{pointer}/{index}")


def _object(value: dict[str, Any], structs: list[type[msgspec.Struct]], pointer: str) -> Iterator[Fault]:
    """Faults of an object that may be one of several Structs: its tag says which, and what that one lacks is named."""
    field = structs[0].__struct_config__.tag_field
    if len(structs) == 1 and (field is None or field not in value):
        yield from _fields(value, structs[0], pointer)
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
        yield from _fields(value, tags[value[field]], pointer)


def _fields(value: dict[str, Any], struct: type[msgspec.Struct], pointer: str) -> Iterator[Fault]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag_field
    for name, field in fields.items():
        if name in value:
            yield from _walk(value[name], field.type, f"{pointer}/{_escape(name)}")
        elif field.required:
            yield {"pointer": f"{pointer}/{_escape(name)}", "detail": "Required field is missing"}
    if struct.__struct_config__.forbid_unknown_fields:
        for name in value:
            if name not in fields and name != tag:
                yield _unknown(name, pointer)


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
