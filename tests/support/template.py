"""The template as plain Python: `!Ref X` becomes {"Ref": "X"}, `!Sub s` becomes {"Fn::Sub": s}. For tests only."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

PATH = Path(__file__).parents[2] / "templates" / "decoupled-architecture.yaml"


class _Loader(yaml.SafeLoader):
    pass


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
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
    return {f"Fn::{suffix}": value.split(".", 1) if suffix == "GetAtt" else value}


_Loader.add_multi_constructor("!", _function)


@functools.cache
def load() -> dict[str, Any]:
    """The whole template."""
    template: dict[str, Any] = yaml.load(PATH.read_text(), _Loader)  # noqa: S506  a SafeLoader with tags of its own
    return template


def properties(resource: str) -> dict[str, Any]:
    """The properties of a resource, functions and all."""
    found: dict[str, Any] = load()["Resources"][resource]["Properties"]
    return found


def defaults() -> dict[str, Any]:
    """What each parameter is when nobody says otherwise."""
    return {name: parameter.get("Default") for name, parameter in load()["Parameters"].items()}
