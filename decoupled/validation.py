"""Names every fault of a refused entry by JSON pointer. msgspec decodes a good entry in microseconds but stops at the
first fault of a bad one; only then is this slower walk taken. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, get_args, get_origin

import msgspec

from decoupled import limits
from decoupled.workload import BadField

Fault = dict[str, str]  # {"pointer": "#/lines/0/quantity", "detail": "Expected `int`, got `str`"}


def faults(entry: Any, schema: type) -> list[Fault]:
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
        msgspec.convert(value, schema, strict=True)
    except msgspec.ValidationError as error:
        field = error.__cause__.pointer if isinstance(error.__cause__, BadField) else ""
        yield {"pointer": pointer + field, "detail": _clip(str(error).split(" - at `$")[0])}


def _inner(value: Any, schema: Any, pointer: str) -> Iterator[Fault]:
    """Faults of the parts of a value: fields of a Struct, elements of a list. Other kinds have no parts."""
    struct = _only_struct(schema)
    if struct is not None and isinstance(value, dict):
        yield from _fields(value, struct, pointer)
    elif (element := _list_element(schema)) is not None and isinstance(value, list):
        for index, part in enumerate(value):
            yield from _walk(part, element, f"{pointer}/{index}")


def _fields(value: dict[str, Any], struct: type[msgspec.Struct], pointer: str) -> Iterator[Fault]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    if (tag := struct.__struct_config__.tag_field) is not None:
        fields.pop(tag, None)
    for name, field in fields.items():
        if name in value:
            yield from _walk(value[name], field.type, f"{pointer}/{_escape(name)}")
        elif field.required:
            yield {"pointer": f"{pointer}/{_escape(name)}", "detail": "Required field is missing"}
    if struct.__struct_config__.forbid_unknown_fields:
        for name in value:
            if name not in fields and name != tag:
                yield _unknown(name, pointer)


def _only_struct(schema: Any) -> type[msgspec.Struct] | None:
    """The one Struct that a schema means: itself, annotated, or optional. None for a union of several."""
    structs = [part for part in _alternatives(schema) if isinstance(part, type) and issubclass(part, msgspec.Struct)]
    return structs[0] if len(structs) == 1 else None


def _list_element(schema: Any) -> Any:
    lists = [part for part in _alternatives(schema) if get_origin(part) is list or get_args(part)[1:] == (...,)]
    return get_args(lists[0])[0] if len(lists) == 1 else None


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
