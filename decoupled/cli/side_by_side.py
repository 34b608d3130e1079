"""What commands show of two values: JSON, attribute by attribute, and where they differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from decoupled.core.comparing import same

MOST_PATHS = 5  # that are named of where two values differ
json = msgspec.json.Encoder(decimal_format="number", order="sorted")


def text(value: Any) -> str:
    """A value as JSON, its fields in the order of the alphabet."""
    return json.encode(value).decode()


def lines(item: Any) -> list[str]:
    """An attribute a line; none where there is no item."""
    return [] if item is None else [f"  {name}: {text(item[name])}" for name in sorted(item)]


def differing(before: Any, after: Any) -> str:
    """Where two values differ, as paths, and whatever place of a list as `*`: `lines/*/price, total`."""
    found = list(islice(dict.fromkeys(_paths(before, after, "")), MOST_PATHS + 1))
    return ", ".join(found[:MOST_PATHS]) + (", …" if len(found) > MOST_PATHS else "")


def _paths(before: Any, after: Any, path: str) -> Iterator[str]:
    if same(before, after):
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            inner = f"{path}/{name}" if path else str(name)
            if name in before and name in after:
                yield from _paths(before[name], after[name], inner)
            else:
                yield inner
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from _paths(one, other, f"{path}/*" if path else "*")
    else:
        yield path or "all of it"
