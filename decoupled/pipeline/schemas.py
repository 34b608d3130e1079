"""What a release takes, told as plain data that outlives its code: of each workload the schema, its keys and whether it
keeps an order. Kept with a release, and compared with the next by `compatible.py`. Pure.

JSON Schema says less than msgspec checks (a datetime is any string to it), so this is msgspec's own view of a type."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable, Mapping
from types import CodeType
from typing import Any

import msgspec
from msgspec import inspect

from decoupled.core.workload import Workload, Workloads

Described = dict[str, Any]
"""A type: {"is": its kind, and what bounds it}. A Struct is {"is": "ref", "to": its name}, and stands in `structs`."""

_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")
_KINDS: dict[type, str] = {
    inspect.AnyType: "any",
    inspect.RawType: "any",
    inspect.NoneType: "null",
    inspect.BoolType: "bool",
    inspect.IntType: "int",
    inspect.FloatType: "float",
    inspect.StrType: "str",
    inspect.BytesType: "bytes",
    inspect.ByteArrayType: "bytes",
    inspect.MemoryViewType: "bytes",
    inspect.DateTimeType: "datetime",
    inspect.TimeType: "time",
    inspect.DateType: "date",
    inspect.TimeDeltaType: "timedelta",
    inspect.UUIDType: "uuid",
    inspect.DecimalType: "decimal",
}
_ARRAYS: dict[type, str] = {
    inspect.ListType: "array",
    inspect.VarTupleType: "array",
    inspect.CollectionType: "array",
    inspect.SetType: "set",
    inspect.FrozenSetType: "set",
}


def described(workloads: Workloads) -> dict[str, Described]:
    """Each workload by its name."""
    return {name: _workload(workload) for name, workload in workloads.items()}


def _workload(workload: Workload) -> Described:
    structs: dict[str, Described] = {}
    schema = _type(inspect.type_info(workload.schema), structs)
    return {
        "schema": schema,
        "structs": structs,
        "ordered": workload.ordered,
        "natural_key": _digest(workload.natural_key),
        "group": _digest(workload.group),
    }


def _type(of: inspect.Type, structs: dict[str, Described]) -> Described:
    if isinstance(of, inspect.Metadata):
        return _type(of.type, structs)
    bounds = {name: bound for name in _BOUNDS if (bound := getattr(of, name, None)) is not None}
    if (kind := _KINDS.get(type(of))) is not None:
        return {"is": kind, **bounds}
    if (kind := _ARRAYS.get(type(of))) is not None:
        return {"is": kind, "item": _type(of.item_type, structs), **bounds}  # type: ignore[attr-defined]
    match of:
        case inspect.UnionType(types=types):
            return {"is": "union", "of": [_type(each, structs) for each in types]}
        case inspect.EnumType(cls=cls):
            return {"is": "values", "of": [member.value for member in cls]}
        case inspect.LiteralType(values=values):
            return {"is": "values", "of": list(values)}
        case inspect.TupleType(item_types=items):
            return {"is": "tuple", "items": [_type(each, structs) for each in items]}
        case inspect.DictType(key_type=key, value_type=value):
            return {"is": "dict", "key": _type(key, structs), "value": _type(value, structs), **bounds}
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() | inspect.NamedTupleType():
            return {"is": "ref", "to": _struct(of, structs)}
    return {"is": "custom", "name": repr(getattr(of, "cls", of))}


def _struct(of: Any, structs: dict[str, Described]) -> str:
    name = f"{of.cls.__qualname__} {id(of)}"  # msgspec tells of a type by one object, wherever it stands
    if name not in structs:
        structs[name] = {}  # it may stand in itself
        structs[name] |= {
            "fields": {
                field.encode_name: {"type": _type(field.type, structs), "required": field.required}
                for field in of.fields
            },
            "tag": None if getattr(of, "tag_field", None) is None else [of.tag_field, of.tag],
            "array": getattr(of, "array_like", isinstance(of, inspect.NamedTupleType)),
            "closed": getattr(of, "forbid_unknown_fields", isinstance(of, inspect.NamedTupleType)),
            "checks": _digest(getattr(of.cls, "__post_init__", None)),
        }
    return name


def _digest(function: Callable[..., Any] | None) -> str:
    """Tells whether a function is as it was: by what Python makes of it, so that comments and layout do not count. Of
    another Python it says nothing, and is not compared."""
    if function is None:
        return ""
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{_PYTHON} {getattr(function, '__qualname__', '')}"
    made = hashlib.sha256(msgspec.json.encode([str(part) for part in _parts(code)])).hexdigest()
    return f"{_PYTHON} {made[:16]}"


_PYTHON = ".".join(platform.python_version_tuple()[:2])


def _parts(code: CodeType) -> Iterable[object]:
    yield from (code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)
        elif constant != code.co_qualname:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def comparable(digest: Mapping[str, str], other: Mapping[str, str], name: str) -> bool:
    """Whether two digests are of one Python, so that they differ only if the functions do."""
    return not (digest[name] and other[name]) or digest[name].split()[0] == other[name].split()[0]
