"""What a request of the page asks for: parameters by name, numbers within bounds, a body of a shape. What is wrong with
it is told in words that name the parameter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar, overload
from urllib.parse import parse_qsl

import msgspec

from decoupled.core import limits
from decoupled.core.problem import Problem
from decoupled.pipeline.call import Call

T = TypeVar("T")


def parameters(call: Call, *names: str) -> dict[str, str]:
    """Those of the query; what is empty was not given. Raises Problem 400 for one that has no such name, comes twice or
    is too long."""
    given: dict[str, str] = {}
    for name, value in parse_qsl(call.query):
        if name not in names:
            raise Problem(400, f"There is no parameter {name[:40]!r} here; there are {', '.join(names)}.")
        if name in given:
            raise Problem(400, f"{name} comes twice.")
        if len(value) > limits.MAX_PARAMETER_CHARS:
            raise Problem(400, f"{name} has {len(value)} characters; {limits.MAX_PARAMETER_CHARS} is the limit.")
        given[name] = value
    return given


@overload
def number(given: Mapping[str, str], name: str, least: int, most: int, otherwise: int) -> int: ...


@overload
def number(given: Mapping[str, str], name: str, least: int, most: int, otherwise: None) -> int | None: ...


def number(given: Mapping[str, str], name: str, least: int, most: int, otherwise: int | None) -> int | None:
    """A whole number within bounds. Raises Problem 400."""
    if name not in given:
        return otherwise
    text = given[name]
    if not re.fullmatch("[0-9]{1,15}", text, re.ASCII) or not least <= int(text) <= most:
        raise Problem(400, f"{name} is a whole number of {least} to {most}; this was {text[:40]!r}.")
    return int(text)


def body(call: Call, shape: type[T]) -> T:
    """The body as JSON of a shape. Raises Problem 400, 413, 415 or 422."""
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "Send one content-type: application/json.", headers={"accept": "application/json"})
    if len(call.body) > limits.MAX_ASKED_BYTES:
        raise Problem(413, f"The body has {len(call.body)} bytes; {limits.MAX_ASKED_BYTES} is the limit.")
    try:
        return msgspec.json.decode(call.body, type=shape)
    except msgspec.ValidationError as error:
        raise Problem(422, f"{error}.") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, f"The body is not JSON: {error}.") from error
