"""Where the options' values come from. The first that has one wins:

    flag > environment variable > [environments.NAME] of decoupled.toml > decoupled.toml > default

Reads; what an option may be stands in `options.py`."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from decoupled.core.replicas import is_url
from decoupled.server.options import OPTIONS, Option, Options

FILE = Path("decoupled.toml")
_NEEDED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path, as text",
    tuple: "a list of names",
}


def choose(
    flags: Mapping[str, Any],
    file: Path | None = None,
    environment: str | None = None,
    variables: Mapping[str, str] = {},
) -> Options:
    """The options. `flags` has those that were typed, by field; the `file`, where none is named, is decoupled.toml of
    the working directory, if there is one. Raises ValueError that says which source is wrong, and how."""
    values: dict[str, Any] = {}
    root = None
    if file is not None or FILE.exists():
        file = file or FILE
        root = file.parent.resolve()
        values = _from_file(file, environment)
    elif environment is not None:
        raise ValueError(f"there is no environment {environment!r}: there is no {FILE} here")
    for option in OPTIONS:
        if option.variable in variables:
            values[option.field] = _value(option, variables[option.variable], option.variable, typed=True)
    values |= {name: value for name, value in flags.items() if value is not None}
    if "data" not in values and file is not None:
        values["data"] = file.parent / Options().data
    return Options(**values, root=root)


def from_process(flags: Mapping[str, Any] | None = None) -> Options:
    """The options as a tool of this process finds them, which has flags for none of them or few."""
    file = os.environ.get("DECOUPLED_CONFIG")
    return choose(flags or {}, Path(file) if file else None, os.environ.get("DECOUPLED_ENV") or None, os.environ)


def _from_file(file: Path, environment: str | None) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not text
        raise ValueError(f"{file}: {error}") from error
    sections = _table(content.pop("environments", {}), f"{file}: environments")
    serve = _table(content.pop("serve", {}), f"{file}: serve")
    values = _section(content, f"{file}: ", file.parent, others=("serve", "environments"))
    values |= _section(serve, f"{file}: [serve] ", file.parent)
    for name, section in sections.items():  # all of them, so that a fault shows before its day comes
        where = f"{file}: [environments.{name}]"
        overrides = _section(_table(section, where), f"{where} ", file.parent)
        if name == environment:
            values |= overrides
    if environment is not None and environment not in sections:
        known = ", ".join(sections) or "none"
        raise ValueError(f"{file}: there is no [environments.{environment}]; there is {known}")
    return values


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {value!r}; a table is needed")  # noqa: TRY004  a fault of the file, as all here
    return value


def _section(section: Mapping[str, Any], where: str, root: Path, others: tuple[str, ...] = ()) -> dict[str, Any]:
    options = {option.name: option for option in OPTIONS}
    values = {}
    for name, given in section.items():
        if name not in options:
            near = difflib.get_close_matches(name, [*options, *others], n=1)
            raise ValueError(f"{where}there is no option {name!r}" + (f"; is it {near[0]!r}?" if near else ""))
        option = options[name]
        value = _value(option, given, f"{where}{name}")
        if option.type is Path:
            value = root / value
        elif option.field == "replica" and not is_url(value):  # a directory, as any other
            value = str(root / value)
        values[option.field] = value
    return values


def _value(option: Option, given: Any, source: str, typed: bool = False) -> Any:
    """`typed`: it is text that stands for something, as in an environment variable."""
    if option.type is tuple and isinstance(given, str):
        given = [name.strip() for name in given.split(",")]
    try:
        if option.type is tuple:
            value: Any = msgspec.convert(given, tuple[str, ...])
        elif option.type is Path:
            value = Path(msgspec.convert(given, str))
        else:
            value = msgspec.convert(given, option.type, strict=not typed)
    except msgspec.ValidationError:
        raise ValueError(f"{source} is {given!r}; {_NEEDED[option.type]} is needed") from None
    if wrong := option.refusal(value):
        raise ValueError(f"{source} is {wrong}")
    return value
