"""The template as an account makes a stack of it: loops run, conditions decided, parameters filled in. What only the
account knows, the names of what it makes, are made up. For checkers that read values and no functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.support import template

Parameters = Mapping[str, str]
ACCOUNT, REGION = "123456789012", "us-east-1"
PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/shop/1",
    "AWS::StackName": "shop",
    "AWS::URLSuffix": "amazonaws.com",
}
_NOTHING = object()  # AWS::NoValue


def stack(given: Parameters) -> dict[str, Any]:
    """Resources, and their metadata, of a stack with these parameters, and the defaults of the others."""
    resources = {}
    of = _Stack(given)
    for name, resource in template.load()["Resources"].items():
        if "Condition" not in resource or of.holds(resource["Condition"]):
            kept = {key: value for key, value in resource.items() if key not in ("Condition", "DependsOn")}
            resources[name] = of.value(kept)
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}


class _Stack:
    def __init__(self, given: Parameters) -> None:
        parameters = template.load()["Parameters"]
        assert given.keys() <= parameters.keys(), given.keys() - parameters.keys()
        self._parameters: dict[str, Any] = {}
        for name, parameter in parameters.items():
            value = str(given.get(name, parameter.get("Default", "")))
            kind = parameter["Type"]
            self._parameters[name] = value.split(",") if kind == "CommaDelimitedList" else _number(value, kind)

    def holds(self, condition: str) -> bool:
        return bool(self.value(template.load()["Conditions"][condition]))

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for value in map(self.value, node) if value is not _NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            if name in ("Ref", "Condition") or name.startswith("Fn::"):
                return self._function(name.removeprefix("Fn::"), argument)
        found = {name: self.value(value) for name, value in node.items()}
        return {name: value for name, value in found.items() if value is not _NOTHING}

    def _function(self, name: str, argument: Any) -> Any:
        match name:
            case "Ref":
                return self._ref(argument)
            case "Condition":
                return self.holds(argument)
            case "If":
                condition, then, otherwise = argument
                return self.value(then if self.holds(condition) else otherwise)
            case "Sub":
                return self._sub(argument)
            case "GetAtt":
                return _attribute(*argument)
        values = self.value(argument)
        match name:
            case "Equals":
                return str(values[0]) == str(values[1])
            case "Not":
                return not values[0]
            case "And":
                return all(values)
            case "Or":
                return any(values)
            case "Join":
                return values[0].join(map(str, values[1]))
            case "Select":
                return values[1][int(values[0])]
            case "Split":
                return values[1].split(values[0])
            case "Length":
                return len(values)
            case "FindInMap":
                mapping, first, second = values
                return template.load()["Mappings"][mapping][str(first)][str(second)]
        raise NotImplementedError(f"Fn::{name}")

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        if name in PSEUDO:
            return PSEUDO[name]
        return self._parameters.get(name, f"made-{name}")

    def _sub(self, argument: Any) -> str:
        text, values = argument if isinstance(argument, list) else (argument, {})

        def fill(match: re.Match[str]) -> str:
            name = match[1]
            if name in values:
                return str(self.value(values[name]))
            return _attribute(*name.split(".", 1)) if "." in name else str(self._ref(name))

        return re.sub(r"\$\{([\w:.]+)\}", fill, text)


def _number(value: str, kind: str) -> Any:
    return float(value) if kind == "Number" and "." in value else int(value) if kind == "Number" else value


def _attribute(resource: Any, attribute: str) -> str:
    if attribute.endswith("Arn"):
        service = template.load()["Resources"][resource]["Type"].split("::")[1].lower()
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}:made-{resource}"
    return f"made-{resource}-{attribute}"
