"""Whether what one release accepted is understood by another: each entry that is valid by the older schema has to be
valid by the newer, because messages wait in the queue and among the dead letters while releases change. Pure.

It answers "yes" only where that can be shown from the two types; what it cannot show is a difference. A table of types,
each with each, is held to msgspec itself by the tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from decoupled.pipeline.schemas import Described, comparable

MAX_DIFFERENCES = 50  # that are told of a workload


class Difference(msgspec.Struct, frozen=True):
    """What an older entry may run into. `breaks`: there are such entries; otherwise they are possible, not likely."""

    workload: str
    pointer: str  # of the field, with * for any element
    detail: str
    breaks: bool = True


def differences(older: Mapping[str, Described], newer: Mapping[str, Described]) -> list[Difference]:
    """Of two releases as `schemas.described` tells them."""
    found: list[Difference] = []
    for name, before in older.items():
        if (after := newer.get(name)) is None:
            found.append(Difference(name, "", "it is not served any more"))
            continue
        found += [msgspec.structs.replace(each, workload=name) for each in _of(before, after)][:MAX_DIFFERENCES]
    return found


def _of(before: Described, after: Described) -> Iterator[Difference]:
    if before["ordered"] != after["ordered"]:
        was = "is not ordered any more" if before["ordered"] else "is ordered now"
        yield Difference("", "", f"it {was}: what waits has no order beside what comes", breaks=False)
    if comparable(before, after, "natural_key") and before["natural_key"] != after["natural_key"]:
        yield Difference("", "", "its natural_key is another: an entry that is sent again is taken for a new one")
    if comparable(before, after, "group") and before["group"] != after["group"]:
        yield Difference("", "", "its group is another: what waits keeps the one that it has", breaks=False)
    yield from _Comparison(before["structs"], after["structs"]).types(before["schema"], after["schema"], "")


class _Comparison:
    """Of two types; `structs` of both by name."""

    def __init__(self, older: Mapping[str, Described], newer: Mapping[str, Described]) -> None:
        self._older, self._newer = older, newer
        self._seen: set[tuple[str, str]] = set()

    def types(self, older: Described, newer: Described, at: str) -> Iterator[Difference]:
        """Whether all that is valid by the older is valid by the newer."""
        before, after = _alternatives(older), _alternatives(newer)
        if any(each["is"] == "any" for each in after):
            return
        yield from self._tags(before, after, at)
        for each in before:
            yield from self._one(each, before, after, at)

    def _one(self, older: Described, before: list[Described], after: list[Described], at: str) -> Iterator[Difference]:
        """One alternative of the older among those of the newer: what such JSON is decoded by."""
        kin = [each for each in after if self._json(each, self._newer) & self._json(older, self._older)]
        kin.sort(key=lambda each: each["is"] != older["is"])
        if older["is"] != "ref" and older in kin and all(each in before for each in kin):
            kin = [older]  # the others are for what the others were for
        if older["is"] == "ref":
            tag = self._older[older["to"]]["tag"]
            tagged = [each for each in kin if each["is"] == "ref" and self._newer[each["to"]]["tag"] == tag]
            if not tagged and kin:
                yield Difference("", at, f"Objects that are told by {tag!r} are not known any more")
                return
            kin = tagged
        if not kin:
            yield Difference("", at, f"Expected `{_shown(after)}`, and it may be `{older['is']}`")
        for each in kin if older["is"] in ("any", "float", "decimal") else kin[:1]:
            yield from self._pair(older, each, at)

    def _tags(self, before: list[Described], after: list[Described], at: str) -> Iterator[Difference]:
        """A Struct that is alone may come without its tag; one of several may not."""
        old = [self._older[each["to"]] for each in before if each["is"] == "ref"]
        new = [each for each in after if each["is"] == "ref"]
        if len(old) == 1 and old[0]["tag"] and len(new) > 1:
            yield Difference("", f"{at}/{old[0]['tag'][0]}", "It may be missing, and is required now")

    def _json(self, of: Described, structs: Mapping[str, Described]) -> set[str]:
        """What JSON of a type is, at first sight."""
        if of["is"] == "ref":
            return {"array" if structs[of["to"]]["array"] else "object"}
        if of["is"] == "values":
            return {
                "null" if value is None else "string" if isinstance(value, str) else "integer" for value in of["of"]
            }
        return _JSON[of["is"]]

    def _pair(self, older: Described, newer: Described, at: str) -> Iterator[Difference]:
        match older["is"], newer["is"]:
            case _, "any":
                pass
            case "ref", "ref":
                yield from self._structs(older["to"], newer["to"], at)
            case ("array" | "set", "array" | "set"):
                yield from _narrower(older, newer, at)
                if newer["is"] == "set" and older["is"] != "set" and newer.get("min_length"):
                    yield Difference("", at, "What is there twice counts once now, and there may be too few")
                yield from self.types(older["item"], newer["item"], f"{at}/*")
            case "tuple", "tuple" if len(older["items"]) == len(newer["items"]):
                for index, (before, after) in enumerate(zip(older["items"], newer["items"], strict=True)):
                    yield from self.types(before, after, f"{at}/{index}")
            case "tuple", "array":
                yield from _narrower({"min_length": len(older["items"]), "max_length": len(older["items"])}, newer, at)
                for index, before in enumerate(older["items"]):
                    yield from self.types(before, newer["item"], f"{at}/{index}")
            case "dict", "dict":
                yield from _narrower(older, newer, at)
                yield from self.types(older["key"], newer["key"], f"{at}/*")
                yield from self.types(older["value"], newer["value"], f"{at}/*")
            case "values", "values":
                if gone := [value for value in older["of"] if value not in newer["of"]]:
                    yield Difference("", at, f"{', '.join(map(repr, gone[:5]))} is not among the values any more")
            case "int", "float":
                yield from _narrower(older, newer, at)
                if not {"gt", "ge"} & older.keys() or not {"lt", "le"} & older.keys():
                    yield Difference("", at, "A whole number of 400 digits is no `float`", breaks=False)
            case "values", ("str" | "int" | "float" | "null") if not _bounds(newer):
                pass
            case "custom", "custom" if older == newer:
                pass
            case (before, after) if before == after or (before, after) in _WIDER:
                yield from _narrower(older, newer, at)
            case before, after:
                yield Difference("", at, f"Expected `{after}`, and it may be `{before}`")

    def _structs(self, older: str, newer: str, at: str) -> Iterator[Difference]:
        if (older, newer) in self._seen:
            return  # it stands in itself, or elsewhere, and is told of once
        self._seen.add((older, newer))
        before, after = self._older[older], self._newer[newer]
        if before["array"]:
            yield from self._places(before, after, at)
        else:
            yield from self._fields(before, after, at)
        if after["checks"] and comparable(before, after, "checks") and before["checks"] != after["checks"]:
            detail = "__post_init__ is another: what it refuses cannot be told from outside"
            yield Difference("", at, detail, breaks=False)

    def _fields(self, before: Described, after: Described, at: str) -> Iterator[Difference]:
        for name, field in before["fields"].items():
            if name in after["fields"]:
                yield from self.types(field["type"], after["fields"][name]["type"], f"{at}/{name}")
            elif after["closed"]:
                yield Difference("", f"{at}/{name}", "It is not known any more, and is refused")
        if after["closed"] and not before["closed"]:
            yield Difference("", at, "Unknown fields were let through, and are refused now")
        for name, field in after["fields"].items():
            old = before["fields"].get(name)
            if field["required"] and (old is None or not old["required"]):
                yield Difference("", f"{at}/{name}", "It may be missing, and is required now")
            elif old is None and not before["closed"]:
                detail = "Unknown fields were let through, so that anything may stand under this name"
                yield Difference("", f"{at}/{name}", detail, breaks=False)

    def _places(self, before: Described, after: Described, at: str) -> Iterator[Difference]:
        """Of Structs that are arrays: a place has no name, so that only what is added at the end is sure."""
        old, new = list(before["fields"].values()), list(after["fields"].values())
        added = new[len(old) :]
        let_through = not before["closed"] and (after["closed"] or added)
        if len(old) > len(new) or any(each["required"] for each in added) or let_through:
            yield Difference("", at, "The places of an array are others")
        for index, (was, now) in enumerate(zip(old, new, strict=False)):
            if now["required"] and not was["required"]:
                yield Difference("", f"{at}/{index}", "It may be missing, and is required now")
            yield from self.types(was["type"], now["type"], f"{at}/{index}")


_JSON = {
    "any": {"null", "bool", "integer", "number", "string", "array", "object"},
    "null": {"null"},
    "bool": {"bool"},
    "int": {"integer"},
    "float": {"integer", "number"},
    "decimal": {"integer", "number", "string"},
    **dict.fromkeys(("array", "set", "tuple"), {"array"}),  # noqa: RUF024  never changed
    **dict.fromkeys(("str", "bytes", "datetime", "time", "date", "timedelta", "uuid"), {"string"}),  # noqa: RUF024
    "dict": {"object"},
    "custom": {"null", "bool", "integer", "number", "string", "array", "object"},
}
_WIDER = {
    ("int", "decimal"),
    ("float", "decimal"),
    *((name, "str") for name in ("bytes", "datetime", "time", "date", "timedelta", "uuid")),
}


def _alternatives(of: Described) -> list[Described]:
    if of["is"] == "union":
        return [inner for each in of["of"] for inner in _alternatives(each)]
    if of["is"] == "values":
        kinds = {type(value) for value in of["of"]}
        return [{"is": "values", "of": [value for value in of["of"] if type(value) is kind]} for kind in kinds]
    return [of]


def _shown(types: list[Described]) -> str:
    return " | ".join("object" if each["is"] == "ref" else str(each["is"]) for each in types)


def _bounds(of: Described) -> Described:
    return {
        name: bound for name, bound in of.items() if name not in ("is", "item", "items", "key", "value", "of", "to")
    }


def _narrower(older: Described, newer: Described, at: str) -> Iterator[Difference]:
    """Bounds of the newer that the older does not have, or had further out."""
    for name, bound in _bounds(newer).items():
        before = older.get(name)
        match name:
            case "gt" | "ge":
                low = [(older[n], n == "gt") for n in ("gt", "ge") if n in older]
                fits = bool(low) and max(low) >= (bound, name == "gt")
            case "lt" | "le":
                high = [(-older[n], n == "lt") for n in ("lt", "le") if n in older]
                fits = bool(high) and max(high) >= (-bound, name == "lt")
            case "min_length":
                fits = (before or 0) >= bound
            case "max_length":
                fits = before is not None and before <= bound
            case "multiple_of":
                fits = before == bound or (isinstance(before, int) and isinstance(bound, int) and before % bound == 0)
            case _:  # a pattern, or a time zone that has to be there, or must not
                fits = before == bound
        if not fits:
            yield Difference(
                "", at, f"{name} is {bound!r} now, and was {before!r}" if before else f"{name} is {bound!r} now"
            )
