"""`decoupled build`: the zip that all three Lambda functions run. It holds functions/, what of decoupled/ they import,
the workloads of the user's project with their neighbours, and both sides' requirements. The same sources give the same
bytes."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from decoupled.cli.kit import PACKAGE, kit
from decoupled.cli.target import refusals
from decoupled.core.workload import Workloads
from decoupled.pipeline.loading import is_file, load
from decoupled.server.configuration import from_process

PYTHON_VERSION = "3.14"  # as Runtime in templates/decoupled-architecture.yaml; a test compares them
# Lambda's Amazon Linux 2023 has glibc 2.34; wheels for an older one run there too, the newest first.
_WHEELS = [f"manylinux_2_{minor}_aarch64" for minor in range(34, 16, -1)] + ["manylinux2014_aarch64"]
_LAMBDA = [
    *(part for wheel in _WHEELS for part in ("--platform", wheel)),
    *("--implementation", "cp", "--python-version", PYTHON_VERSION),
]
# Whatever its options say, pip asks the Python that runs it whether `; python_version < "3.13"` holds. So it runs with
# the answers that Lambda's would give.
_ANSWERS = {
    "implementation_name": "cpython",
    "implementation_version": f"{PYTHON_VERSION}.0",
    "platform_python_implementation": "CPython",
    "python_full_version": f"{PYTHON_VERSION}.0",
    "python_version": PYTHON_VERSION,
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "aarch64",
}
_PIP_OF_LAMBDA = f"""
import sys
from pip._vendor.packaging import markers
here = markers.default_environment
markers.default_environment = lambda: here() | {_ANSWERS}
from pip._internal.cli.main import main
sys.exit(main())
"""


@click.command()
@click.option(
    "--platform",
    default="lambda",
    type=click.Choice(["lambda", "local"]),
    help="local takes the requirements for this machine's Python, for an emulator that runs functions on it.",
)
@click.option("--output", default=Path("build/lambda.zip"), type=click.Path(path_type=Path, dir_okay=False))
@click.option("--workloads", help="As those of `serve`.  [default: decoupled.toml's]")
@click.option("--traces", is_flag=True, help="With OpenTelemetry, for traces: see docs/operations.md.")
def build(platform: str, output: Path, workloads: str | None, traces: bool) -> None:
    """Pack the zip that all three Lambda functions run."""
    with refusals():
        names, root, _ = served(workloads)
        click.echo(pack(names, root, platform, output, traces))


def served(workloads: str | None) -> tuple[Sequence[str], Path | None, Workloads]:
    """The workloads to deploy, as they are named, the project that they are in, and what is there. They are loaded, so
    that a wrong one is told here."""
    options = from_process({"workloads": workloads and tuple(name.strip() for name in workloads.split(","))})
    return options.workloads, options.root, load(options.workloads, options.root)


def pack(names: Sequence[str], project: Path | None, platform: str, output: Path, traces: bool = False) -> str:
    """Write the zip, with what traces need if they are wanted. Returns a line that says how large it became; raises
    ValueError."""
    with tempfile.TemporaryDirectory() as directory:
        staging = Path(directory, "zip")
        _requirements(project, platform, Path(directory, "theirs"), staging, traces)
        shutil.rmtree(staging / "bin", ignore_errors=True)
        _copy(kit("functions"), staging / "functions")
        theirs = _project(names, (project or Path()).resolve(), staging)
        _ours([*staging.glob("functions/*.py"), *theirs], staging)
        files = sorted(p for p in staging.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        output.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in files:  # names in order, one date, one mode, no byte code: nothing of this machine gets in
                entry = zipfile.ZipInfo(path.relative_to(staging).as_posix(), (1980, 1, 1, 0, 0, 0))
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
    return f"{output}: {len(files)} files, {output.stat().st_size:,} bytes"


def _requirements(project: Path | None, platform: str, theirs: Path, staging: Path, traces: bool) -> None:
    """The project's own requirements first, at our pins where both need a library; then ours above them."""
    locks = [kit(f"requirements/{name}.lock") for name in ("lambda", *(["lambda-traces"] if traces else []))]
    pins = [pin for lock in locks for pin in _pin.findall(lock.read_text(encoding="utf-8"))]
    for name in ("requirements.lock", "requirements.txt") if project is not None else ():
        wanted = project / name if project is not None else Path(name)
        if wanted.is_file() and re.search(r"^[^#\s]", wanted.read_text(encoding="utf-8"), re.MULTILINE):
            constraints = theirs.with_suffix(".pins")
            constraints.write_text("\n".join(pins))
            _pip(["--constraint", str(constraints)], wanted, pins, platform, theirs)
            _copy(theirs, staging)
            break
    ours = theirs.with_name("ours")
    for lock in locks:
        _pip(["--require-hashes", "--no-deps"], lock, pins, platform, ours)
        _copy(ours, staging)


_pin = re.compile(r"^\S+==[^\\\s]+", re.MULTILINE)


def _pip(arguments: Sequence[str], wanted: Path, pins: Sequence[str], platform: str, target: Path) -> None:
    """Put the wheels of a requirements file into a directory. Raises ValueError that says what cannot be had."""
    there = platform == "lambda"
    command = [sys.executable, "-P", *(("-c", _PIP_OF_LAMBDA) if there else ("-m", "pip"))]
    command += ["--disable-pip-version-check", "--quiet", "install", "--only-binary", ":all:", "--no-compile"]
    command += ["--target", str(target), *(_LAMBDA if there else ()), *arguments, "--requirement", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own arguments
    if done.returncode:
        why = "pip could not install what it names"
        if none := re.search(r"No matching distribution found for (\S+)", done.stderr):
            runs = f"Lambda (Python {PYTHON_VERSION} on arm64, Linux)" if there else "this machine's Python"
            why = f"there is no wheel of {none[1]} for {runs}"
        elif "conflicting dependencies" in done.stderr:
            why = f"it cannot be had together with what decoupled runs on ({', '.join(pins)})"
        raise ValueError(f"{wanted.name}: {why}:\n{done.stderr.strip()}")


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))


def _project(names: Sequence[str], root: Path, staging: Path) -> list[Path]:
    """Copies the named workloads that are the user's, whole packages, and what these import of the project."""
    waiting: list[Path] = []
    for name in names:
        place = name.partition(":")[0]
        if is_file(place):
            file = (root / place).resolve()
            if not file.is_relative_to(root):
                raise ValueError(f"workload {name!r} is outside of the project {root}: it cannot travel to Lambda")
            waiting.append(file)
        elif "." in place:
            waiting += _top(root, place)
    copied: dict[Path, Path] = {}
    while waiting:
        file = waiting.pop()
        if file in copied:
            continue
        copied[file] = staging / file.relative_to(root)
        copied[file].parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copied[file])
        if file.suffix == ".py":
            for name in _imported(file):
                waiting += [*_top(root, name), *_top(file.parent, name)]
    return [path for path in copied.values() if path.suffix == ".py"]


def _top(directory: Path, name: str) -> list[Path]:
    """The files of the package, or the module, that a dotted name begins with, if that is in the directory."""
    top = name.partition(".")[0]
    if top in {"decoupled", "functions"} or top in sys.stdlib_module_names:
        return []
    if (directory / f"{top}.py").is_file():
        return [directory / f"{top}.py"]
    files = (directory / top).rglob("*") if (directory / top).is_dir() else ()
    return [p for p in files if p.is_file() and not {"__pycache__", ".git"} & {*p.parts} and p.name[0] != "."]


def _ours(waiting: list[Path], staging: Path) -> None:
    """Of decoupled/, its workloads and what is imported, directly or not: no command line, no SQLite."""
    names = {f"decoupled.workloads.{path.stem}" for path in (PACKAGE / "workloads").glob("*.py")}
    seen: set[str] = set()
    while waiting or names:
        imported = _imported(waiting.pop()) if waiting else ()
        names |= {name for name in imported if name.partition(".")[0] == "decoupled"}
        for name in names - seen:
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                for module in (Path(*parts[:end]).with_suffix(".py"), Path(*parts[:end], "__init__.py")):
                    source, target = PACKAGE.parent / module, staging / module
                    if source.is_file() and not target.exists():
                        target.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(source, target)
                        waiting.append(target)
        seen |= names
        names = set()


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
