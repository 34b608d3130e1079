"""The rules that keep the house in order, read from the source itself."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.longest_first import FOLDERS, LONGEST

ROOT = Path(__file__).parents[2]
PRODUCT = sorted(p for folder in ("decoupled", "functions") for p in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_LINES = 300
FORBIDDEN = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc", "job", "jobs", "task", "tasks"}

# The whole import graph: what a room may import of ours, beside its own modules. A room stands before those within it.
# `functions` and those that name an engine load engines only when they are called.
MAY_IMPORT: dict[str, set[str]] = {
    "decoupled.core": set(),
    "decoupled.engines.protocols": {"decoupled.core"},
    "decoupled.pipeline": {"decoupled.core", "decoupled.engines.protocols", "decoupled.__version__"},
    "decoupled.engines.sqlite": {"decoupled.core", "decoupled.engines.protocols", "decoupled.__version__"},
    "decoupled.engines.aws": {"decoupled.core", "decoupled.engines.protocols"},
    "decoupled.outbound": {"decoupled.core"},
    "decoupled.plan": {"decoupled.core", "decoupled.server.scheduling.breaker"},
    "decoupled.workloads": {"decoupled", "decoupled.outbound"},
    "decoupled.dashboard": {
        "decoupled.core",
        "decoupled.pipeline",
        "decoupled.engines.protocols",
        "decoupled.__version__",
    },
    # Beside the SDK, only what a process or a function starts and ends its traces with.
    "decoupled.telemetry": {
        "decoupled.core",
        "decoupled.pipeline",
        "decoupled.engines.protocols",
        "decoupled.__version__",
    },
    "decoupled.server.app": {
        "decoupled.core",
        "decoupled.engines",
        "decoupled.pipeline",
        "decoupled.dashboard",
        "decoupled.server",
        "decoupled.telemetry",
    },
    "decoupled.server.fronts.process": {
        "decoupled.core",
        "decoupled.engines",
        "decoupled.pipeline",
        "decoupled.dashboard",
        "decoupled.server",
        "decoupled.telemetry",
    },
    "decoupled.server.files": {"decoupled.core", "decoupled.engines", "decoupled.server"},
    "decoupled.server.upkeep.upkeep": {
        "decoupled.core",
        "decoupled.engines",
        "decoupled.pipeline",
        "decoupled.server",
    },
    "decoupled.server.page": {
        "decoupled.core",
        "decoupled.engines.sqlite",
        "decoupled.dashboard",
        "decoupled.server",
    },
    "decoupled.server": {
        "decoupled.core",
        "decoupled.engines.protocols",
        "decoupled.pipeline",
        "decoupled.dashboard",
        "decoupled.telemetry",
    },
    "decoupled.cli.check": {"decoupled.core", "decoupled.engines.aws", "decoupled.pipeline", "decoupled.cli"},
    "decoupled.cli.releases": {"decoupled.core", "decoupled.engines.aws", "decoupled.pipeline", "decoupled.cli"},
    "decoupled.cli.stranded": {"decoupled.core", "decoupled.engines.aws"},
    "decoupled.cli.deploy": {
        "decoupled.core",
        "decoupled.engines.aws",
        "decoupled.pipeline",
        "decoupled.dashboard",
        "decoupled.cli",
        "decoupled.server",
    },
    "decoupled.cli.destroy": {"decoupled.engines.aws", "decoupled.cli"},
    "decoupled.cli.move_sides": {"decoupled.core", "decoupled.engines", "decoupled.cli"},
    "decoupled.cli.forget_target": {
        "decoupled.core",
        "decoupled.engines",
        "decoupled.cli",
        "decoupled.server.configuration",
    },
    "decoupled.cli.data_files": {"decoupled.core", "decoupled.engines.sqlite"},
    "decoupled.cli.acknowledging": {"decoupled.core", "decoupled.engines.sqlite", "decoupled.cli"},
    "decoupled.cli.calling_aws": {"decoupled.engines.aws", "decoupled.cli"},
    "decoupled.cli.secrets": {
        "decoupled.core",
        "decoupled.engines.aws",
        "decoupled.cli",
    },
    "decoupled.cli.headroom": {
        "decoupled.core",
        "decoupled.engines.aws",
        "decoupled.cli",
        "decoupled.server",
    },
    "decoupled.cli.stack_audit": {"decoupled.core", "decoupled.engines.aws", "decoupled.cli", "decoupled.server"},
    "decoupled.cli.target": {
        "decoupled.core",
        "decoupled.engines",
        "decoupled.pipeline",
        "decoupled.dashboard",
        "decoupled.cli",
        "decoupled.server",
    },
    "decoupled.cli": {
        "decoupled.core",
        "decoupled.engines.protocols",
        "decoupled.pipeline",
        "decoupled.plan",
        "decoupled.dashboard",
        "decoupled.server",
        "decoupled.__version__",
    },
    "decoupled.workload": {"decoupled"},
    "decoupled": {"decoupled.core"},
    "functions": {"decoupled.core", "decoupled.engines", "decoupled.pipeline", "decoupled.telemetry"},
}
PUBLIC = {"decoupled"}  # names of the package itself, not of a room in it


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in PRODUCT}


def imports(path: Path, *, at_import_time: bool = False) -> Iterator[str]:
    """The full names that a module imports; with `at_import_time`, only those outside of functions and type checks."""
    nodes: list[ast.AST] = [parsed(path)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: imports are written out in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (at_import_time and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            nodes.extend(ast.iter_child_nodes(node))


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def ours(path: Path) -> set[str]:
    """The modules of ours that a module imports, and `decoupled.NAME` for a public name of the package."""
    found = {name for name in imports(path) if within(name, "decoupled") or within(name, "functions")}
    return {
        name if name in NAMES or name.rpartition(".")[0] == "decoupled" else name.rpartition(".")[0] for name in found
    }


def room_of(module: str) -> str:
    return next(room for room in MAY_IMPORT if within(module, room))


def allowed(name: str, room: str) -> bool:
    if within(name, room) and room != "decoupled":
        return True
    for may in MAY_IMPORT[room]:
        if may in PUBLIC:
            if name == may or (name.rpartition(".")[0] == may and name not in NAMES):
                return True
        elif within(name, may):
            return True
    return False


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_imports_point_downward(path: Path) -> None:
    room = room_of(name_of(path))
    assert [name for name in sorted(ours(path)) if not allowed(name, room)] == []


def test_every_room_is_in_the_graph_and_no_other() -> None:
    used = {room_of(name) for name in NAMES}
    assert used == set(MAY_IMPORT)


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_a_module_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_a_module_opens_with_what_lives_there(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


@pytest.mark.parametrize(
    ("library", "room"),
    [
        ("boto3", "decoupled.engines.aws"),
        ("botocore", "decoupled.engines.aws"),
        ("sqlite3", "decoupled.engines.sqlite"),
        ("opentelemetry", "decoupled.telemetry"),
    ],
)
def test_a_driver_has_one_room(library: str, room: str) -> None:
    strangers = [
        name_of(path)
        for path in PRODUCT
        if not within(name_of(path), room) and any(within(name, library) for name in imports(path))
    ]
    assert strangers == []


@pytest.mark.parametrize("function", ["receiver", "processor", "status"])
def test_importing_a_function_loads_no_driver_and_no_server(function: str) -> None:
    code = f"import sys, functions.{function}; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {
        "boto3",
        "botocore",
        "sqlite3",
        "uvicorn",
        "uvloop",
        "asyncio",
        "click",
        "rich",
        "opentelemetry",
    }


@pytest.mark.parametrize("process", ["fronts", "workers"])
def test_the_processes_of_a_server_load_nothing_that_only_its_tools_need(process: str) -> None:
    code = f"import sys, decoupled.server.{process}.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"botocore", "click", "http.client", "prometheus_client", "rich", "urllib.request"}


@pytest.mark.parametrize("function", ["receiver", "processor", "status"])
def test_a_function_is_a_shell_that_reads_like_the_picture(function: str) -> None:
    code = parsed(ROOT / "functions" / f"{function}.py")
    (handler,) = [node for node in code.body if isinstance(node, ast.FunctionDef) and node.name == "handler"]
    assert len(handler.body) <= 4


def test_no_name_says_nothing() -> None:
    for path in PRODUCT:
        assert path.stem not in FORBIDDEN, path
        for node in ast.walk(parsed(path)):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                words = set(node.name.strip("_").lower().split("_"))
                assert not words & FORBIDDEN, f"{path}: {node.name}"


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_no_pattern_has_a_group_that_gives_nothing_back(path: Path) -> None:
    """Before 3.11.5, Python takes a possessive group for matched where it is not."""
    constants = [node.value for node in ast.walk(parsed(path)) if isinstance(node, ast.Constant)]
    texts = [re.sub(r"\[(?:\\.|[^]\\])+]", "a set", text) for text in constants if isinstance(text, str)]
    assert [text for text in texts if re.search(r"\)[*+?]\+|\(\?>", text)] == []


def test_no_test_imports_a_test() -> None:
    for path in TESTS:
        strangers = [name for name in imports(path) if within(name, "tests") and ".test_" in f".{name}"]
        assert strangers == [], path


def test_the_path_of_a_request_is_real() -> None:
    """ARCHITECTURE.md numbers its hops: each file is there, and each function that it names is in that file."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    hops = re.findall(r"^\d+\. \[([a-z_/]+\.py)\]\([^)]*\)(?:, `([\w.]+)`)?", text, re.MULTILINE)
    assert len(hops) >= 10
    for file, function in hops:
        names = {
            node.name for node in ast.walk(parsed(ROOT / file)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }
        assert all(part in names for part in function.split(".") if part), f"{file} has no {function}"
    to_the_row = text[: text.index("The commit is on the disk")]
    assert len(re.findall(r"^\d+\. ", to_the_row, re.MULTILINE)) <= 8


def test_the_files_that_begin_first_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).exists()] == []
    assert len(set(LONGEST)) == len(LONGEST)
    assert {name.partition("/")[0] for name in LONGEST} <= set(FOLDERS)
