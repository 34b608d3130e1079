"""Schemas as msgspec makes them, for those who read JSON Schema and are not Python. Pure."""

from __future__ import annotations

import inspect
from typing import Any

from decoupled.pipeline.openapi.ecma import ecma


def for_others(part: Any) -> Any:
    """Schemas without what is Python's in them."""
    if isinstance(part, (list, tuple)):
        return [for_others(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = dict(part)
    for name, value in part.items():
        if name == "properties":  # of any names
            made[name] = {field: for_others(schema) for field, schema in value.items()}
        elif name not in ("const", "default", "enum", "examples"):  # what entries say is not ours to change
            made[name] = for_others(value)
    # What may be left out is not null by that: some would take a field with a default for one that is always there.
    if made.get("default", ...) is None:
        del made["default"]
    if "enum" in made and all(isinstance(word, str) for word in made["enum"]):
        made.setdefault("type", "string")  # the words say it, and yet some ask for it
    if "description" in made:
        made["description"] = inspect.cleandoc(made["description"])
    if "pattern" in made:
        pattern = made.pop("pattern")
        translated = ecma(pattern)
        made |= {"x-python-pattern": pattern} if translated is None else {"pattern": translated}
    return made
