"""Python values as DynamoDB attributes and back: text, exact numbers, booleans, None, lists, mappings. Pure.

boto3 has this too, but rounds in a decimal context, makes sets and binaries that nothing here stores, and costs its
import."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from decoupled.core.times import parse_rfc3339, rfc3339

Attribute = dict[str, Any]  # {"S": "text"}, {"N": "12.5"}, ...
Attributes = dict[str, Attribute]


def encode(value: Any) -> Attribute:
    """A value as an attribute; what is not plain data (a Struct, a date) as its JSON would be."""
    if isinstance(value, str):
        # An unpaired surrogate, in an error's text say, is not UTF-8 and no store takes it.
        return {"S": value if value.isascii() else value.encode(errors="replace").decode()}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, (int, Decimal)):
        return {"N": str(value)}
    if isinstance(value, Mapping):
        return {"M": encode_item(value)}
    if isinstance(value, (list, tuple)):
        return {"L": [encode(part) for part in value]}
    return encode(msgspec.to_builtins(value, builtin_types=(Decimal,), str_keys=True))


def encode_item(values: Mapping[str, Any]) -> Attributes:
    """A mapping's values as attributes."""
    return {name: encode(value) for name, value in values.items()}


def decode(attribute: Attribute) -> Any:
    """The value of an attribute; a number without a fraction as int, else as Decimal."""
    ((kind, value),) = attribute.items()
    match kind:
        case "S" | "BOOL":
            return value
        case "NULL":
            return None
        case "N":
            return int(value) if value.lstrip("-").isdigit() else _number(value)
        case "M":
            return decode_item(value)
        case "L":
            return [decode(part) for part in value]
        case _:
            raise TypeError(f"attribute of type {kind}: no workload wrote that")


def decode_item(attributes: Attributes) -> dict[str, Any]:
    """Attributes as a mapping of values."""
    return {name: decode(attribute) for name, attribute in attributes.items()}


def _number(text: str) -> int | Decimal:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else number


def encode_time(ms: int) -> Attribute:
    """A time as a person reads it in the console; it sorts as text."""
    return {"S": rfc3339(ms)}


def decode_time(attribute: Attribute) -> int:
    """Milliseconds since the epoch."""
    return parse_rfc3339(attribute["S"])
