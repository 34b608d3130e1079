"""The template as plain Python: `!Ref X` becomes {"Ref": "X"}, `!Sub s` becomes {"Fn::Sub": s}. For tests only."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

PATH = Path(__file__).parents[2] / "templates" / "decoupled-architecture.yaml"


class _Loader(yaml.CSafeLoader):
    pass


def _function(loader: yaml.CSafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "Ref":
        return {"Ref": value}
    return {f"Fn::{suffix}": value.split(".", 1) if suffix == "GetAtt" and isinstance(value, str) else value}


_Loader.add_multi_constructor("!", _function)


LOOPS = {"OwnQueues": ["orders"], "Releases": ["first"]}
"""What the parameters hold that the template loops over."""


@functools.cache
def load() -> dict[str, Any]:
    """The whole template, its loops run over LOOPS."""
    loaded: dict[str, Any] = expanded(source(), {})
    return loaded


def source() -> dict[str, Any]:
    """The template as it is written."""
    template: dict[str, Any] = yaml.load(PATH.read_text(), _Loader)  # noqa: S506  a SafeLoader with tags of its own
    return template


def expanded(node: Any, names: dict[str, str]) -> Any:
    """With Fn::ForEach run, as an account does: it fills in the name in the loop's keys, in the text of Fn::Sub, and
    for a Ref to it, and nowhere else. A text that has nothing left to fill in is that text."""
    if isinstance(node, list):
        return [expanded(one, names) for one in node]
    if not isinstance(node, dict):
        return node
    if set(node) == {"Ref"}:
        return names.get(node["Ref"], node)
    if set(node) == {"Fn::Sub"} and isinstance(node["Fn::Sub"], str):
        text = _filled(node["Fn::Sub"], names)
        return text if text != node["Fn::Sub"] and "${" not in text else {"Fn::Sub": text}
    made: dict[str, Any] = {}
    for key, value in node.items():
        if not key.startswith("Fn::ForEach::"):
            made[key] = expanded(value, names)
            continue
        name, over, fragment = value
        for item in LOOPS[over["Ref"]]:
            inner = {**names, name: item}
            made |= {_filled(its, inner): expanded(body, inner) for its, body in fragment.items()}
    return made


def _filled(text: str, names: dict[str, str]) -> str:
    for name, item in names.items():
        text = text.replace(f"${{{name}}}", item)
    return text


def properties(resource: str) -> dict[str, Any]:
    """The properties of a resource, functions and all."""
    found: dict[str, Any] = load()["Resources"][resource]["Properties"]
    return found


def defaults() -> dict[str, Any]:
    """What each parameter is when nobody says otherwise."""
    return {name: parameter.get("Default") for name, parameter in load()["Parameters"].items()}
