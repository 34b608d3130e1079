"""The rules that keep the house in order, read from the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PRODUCT = sorted(p for folder in ("decoupled", "functions", "workloads") for p in (ROOT / folder).rglob("*.py"))
MAX_LINES = 300
FORBIDDEN = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc", "job", "jobs", "task", "tasks"}

# Who may import whom: a module sees only rooms that stand below it.
BELOW = {
    "decoupled.workload": set[str](),
    "decoupled.limits": set[str](),
    "decoupled.engine": {"decoupled.workload"},
    "decoupled.validation": {"decoupled.limits", "decoupled.workload"},
    "decoupled.retry": {"decoupled.limits"},
    "decoupled.http": set[str](),
    "decoupled.effects": {"decoupled.limits", "decoupled.engine", "decoupled.workload"},
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, at_import_time: bool = False) -> Iterator[str]:
    """The full names that a module imports; with `at_import_time`, only those outside of functions and type checks."""
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (at_import_time and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            nodes.extend(ast.iter_child_nodes(node))


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_a_module_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", [p for p in PRODUCT if p.read_text()], ids=name_of)
def test_a_module_opens_with_what_lives_there(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    ("library", "room"), [("boto3", "decoupled.aws"), ("botocore", "decoupled.aws"), ("sqlite3", "decoupled.embedded")]
)
def test_a_database_has_one_room(library: str, room: str) -> None:
    strangers = [
        name_of(path)
        for path in PRODUCT
        if not within(name_of(path), room) and any(within(name, library) for name in imports(path))
    ]
    assert strangers == []


def test_one_engine_does_not_know_the_other() -> None:
    for room, other in (("decoupled.aws", "decoupled.embedded"), ("decoupled.embedded", "decoupled.aws")):
        for path in PRODUCT:
            if within(name_of(path), room):
                assert not [name for name in imports(path) if within(name, other)], name_of(path)


def test_the_functions_import_no_engine_at_import_time() -> None:
    for path in PRODUCT:
        if within(name_of(path), "functions"):
            engines = [
                name
                for name in imports(path, at_import_time=True)
                if within(name, "decoupled.aws") or within(name, "decoupled.embedded")
            ]
            assert engines == [], name_of(path)


@pytest.mark.parametrize("function", ["receiver", "processor", "status"])
def test_importing_a_function_loads_no_driver_and_no_server(function: str) -> None:
    code = f"import sys, functions.{function}; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"boto3", "botocore", "sqlite3", "uvicorn", "uvloop", "asyncio", "click", "rich"}


def test_workloads_import_only_what_they_are_made_of() -> None:
    for path in PRODUCT:
        if within(name_of(path), "workloads"):
            ours = {name for name in imports(path) if within(name, "decoupled") or within(name, "functions")}
            engines = ("decoupled.aws", "decoupled.embedded", "decoupled.engine", "functions")
            assert not [name for name in ours if any(within(name, room) for room in engines)], name_of(path)


@pytest.mark.parametrize("module", BELOW)
def test_the_core_imports_downward_only(module: str) -> None:
    path = ROOT / (module.replace(".", "/") + ".py")
    ours = {name for name in imports(path) if within(name, "decoupled") or within(name, "functions")}
    allowed = BELOW[module] | {"decoupled"}
    assert not [name for name in ours if name not in allowed and not any(within(name, room) for room in BELOW[module])]


def test_nothing_below_the_command_line_imports_it() -> None:
    for path in PRODUCT:
        assert not [name for name in imports(path) if within(name, "decoupled.cli")], name_of(path)


def test_no_name_says_nothing() -> None:
    for path in PRODUCT:
        assert path.stem not in FORBIDDEN, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                words = set(node.name.strip("_").lower().split("_"))
                assert not words & FORBIDDEN, f"{path}: {node.name}"


def test_the_path_of_a_request_is_five_files_that_tell_it_alone() -> None:
    """ARCHITECTURE.md numbers them in reading order. They import nothing of ours but each other and the words."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"^\d\. \[([a-z/]+\.py)\]", text, re.MULTILINE)
    assert len(named) == 5
    path = {name.removesuffix(".py").replace("/", ".") for name in named}
    for name in named:
        ours = {n for n in imports(ROOT / name, at_import_time=True) if n.startswith(("functions.", "workloads."))}
        assert all(any(within(n, module) for module in path) for n in ours), name
