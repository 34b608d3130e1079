"""Finds workloads by the names that an operator gives, and refuses what could not work. Imports the modules named,
and no others. The four ways to name one:

    orders                 one of ours, in `decoupled/workloads/`
    shop.orders            WORKLOAD of a module that can be imported
    shop.orders:RETURNS    another one of that module
    ./orders.py            WORKLOAD of a file
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import msgspec

from decoupled.core import limits
from decoupled.core.workload import Workload, Workloads, decoder

OURS = "decoupled.workloads"
RESERVED = frozenset({"docs", "health", "metrics"})  # routes that are, or will be, the server's own
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")  # of a workload, which is its route
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


class WorkloadError(ValueError):
    """A workload cannot be served: which one, and what is wrong with it, in one line."""


def load(names: Sequence[str], root: Path | None = None) -> Workloads:
    """The workloads of these names, by the name that each has, which is its route.

    `root`: the directory of the user's project. What is named `./orders.py` is looked for from there (else from the
    working directory), and modules can be imported from it, after all that is installed. Raises WorkloadError."""
    if root is not None and str(root) not in sys.path:
        sys.path.append(str(root))
    loaded: dict[str, Workload] = {}
    for name in names:
        workload = _load(name, root or Path())
        if workload.name in loaded:
            raise WorkloadError(f"workload {name!r}: there are two with the name {workload.name!r}")
        loaded[workload.name] = workload
    if not loaded:
        raise WorkloadError("name at least one workload")
    for workload in loaded.values():
        for target in workload.emits_to:
            if target not in loaded:
                raise WorkloadError(f"workload {workload.name!r} emits to {target!r}: name that one too")
    return loaded


def is_file(name: str) -> bool:
    """Does this name a workload by its file?"""
    return name.endswith(".py") or "/" in name


def _load(name: str, root: Path) -> Workload:
    place, colon, attribute = name.partition(":")
    if is_file(place):
        module, own_name = _import_file(name, root / place), Path(place).stem
    elif _MODULE.fullmatch(place):
        module, own_name = _import(name, place if "." in place else f"{OURS}.{place}"), place.rpartition(".")[2]
    else:
        raise WorkloadError(f"workload {name!r} is none of: orders, shop.orders, shop.orders:WORKLOAD, ./orders.py")
    workload = getattr(module, attribute or "WORKLOAD", None)
    if not isinstance(workload, Workload):
        found = "has no" if workload is None else f"has a {type(workload).__name__}, not a Workload, as"
        raise WorkloadError(f"workload {name!r}: its module {found} {attribute or 'WORKLOAD'}")
    if not NAME.fullmatch(workload.name):
        raise WorkloadError(f"workload {name!r}: its name {workload.name!r} is no route: a-z, then a-z, 0-9 and _")
    if workload.name in RESERVED:
        raise WorkloadError(f"workload {name!r}: the route /{workload.name} is the server's own")
    if not colon and workload.name != own_name:
        raise WorkloadError(
            f"workload {name!r}: it calls itself {workload.name!r}, which would be its route; name it {own_name!r},"
            f" or ask for {name}:{attribute or 'WORKLOAD'}"
        )
    checks = (_not_to_be_named, _not_to_be_grouped, _not_at_once, _no_invariant, _no_example)
    if wrong := next((wrong for check in checks if (wrong := check(workload))), None):
        raise WorkloadError(f"workload {name!r}: {wrong}")
    return workload


def _not_to_be_named(workload: Workload) -> str | None:
    """What is wrong with the collections and the workloads that it names."""
    for names in ("readable", "listed", "public", "emits_to"):
        if isinstance(given := getattr(workload, names), str):
            return f"{names} is {given!r:.80}, one name: make it a tuple, ({given!r:.80},)"
    if workload.internal and workload.readable:
        return "it is internal, so that nothing of it can be readable: it has no route"
    if hidden := set(workload.listed) - set(workload.readable):
        return f"it lists {hidden.pop()!r}, which is not among its readable collections"
    if hidden := set(workload.public) - set(workload.readable):
        return f"{hidden.pop()!r} is public, and not among its readable collections"
    return None


def _not_to_be_grouped(workload: Workload) -> str | None:
    """What is wrong with what it says of its groups and their pace. No claim of it would succeed."""
    if workload.group is not None and not callable(workload.group):
        return f"group is {workload.group!r:.80}, not a function from an entry to the name of its group"
    if type(workload.ordered) is not bool:
        return f"ordered is {workload.ordered!r:.80}, not True or False"
    for name, rate in (("rate", workload.rate), ("group_rate", workload.group_rate)):
        if rate is None:
            continue
        if type(rate) not in (int, float) or not limits.MIN_RATE <= rate <= limits.MAX_RATE:
            between = f"{limits.MIN_RATE} to {limits.MAX_RATE:,}"
            return f"{name} is {rate!r:.80}, not a number of messages a second, {between}, or None for no ceiling"
    return None


def _not_at_once(workload: Workload) -> str | None:
    """What is wrong with what it says of deciding messages at once."""
    concurrency, threads = workload.concurrency, workload.threads
    if threads != 0 and not _is_whole(threads, limits.MAX_THREADS):
        return f"threads is {threads!r}, not a whole number from 1 to {limits.MAX_THREADS}, or 0 for none"
    if concurrency is not None and not _is_whole(concurrency, limits.MAX_CONCURRENCY):
        return f"concurrency is {concurrency!r}, not a whole number from 1 to {limits.MAX_CONCURRENCY}"
    if workload.is_async and threads:
        return "threads are for a plain process, and its process is async: say concurrency"
    if concurrency is not None and not workload.is_async:
        return "concurrency is for an async process: for a plain one that waits for others, say threads"
    return None


def _no_invariant(workload: Workload) -> str | None:
    if workload.invariant is not None and not callable(workload.invariant):
        return f"invariant is {workload.invariant!r:.80}, not a function from the items to what is wrong with them"
    return None


def _no_example(workload: Workload) -> str | None:
    """What is wrong with its example: clients take it for what they may send."""
    if workload.example is None:
        return None
    try:
        decoder(workload.schema).decode(msgspec.json.encode(workload.example))
    except (TypeError, ValueError) as error:
        return f"its example is none that it would take: {error}"
    return None


def _is_whole(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _import(name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            hint = "" if "." in name else f"; yours are named like shop.{name} or ./{name}.py"
            raise WorkloadError(f"there is no workload {name!r}: no module {error.name}{hint}") from None
        raise WorkloadError(_failed(name, error)) from error
    except (Exception, SystemExit) as error:
        raise WorkloadError(_failed(name, error)) from error


def _import_file(name: str, path: Path) -> ModuleType:
    """A file under a module name of its own, so that it hides no library; its neighbours can be imported by it."""
    path = path.resolve()
    if not path.is_file():
        raise WorkloadError(f"there is no workload {name!r}: no file {path}")
    module_name = f"workload_{re.sub(r'[^A-Za-z0-9_]', '_', str(path.with_suffix('')))}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise WorkloadError(f"workload {name!r}: {path} is not a Python file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise WorkloadError(_failed(name, error)) from error
    return module


def _failed(name: str, error: BaseException) -> str:
    """What went wrong in the user's module, and on which of its lines."""
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
        return f"workload {name!r} cannot be imported: {type(error).__name__}: {error.msg} ({where})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    theirs = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    at = f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""
    text = str(error).replace("\n", " ")[:500]
    return f"workload {name!r} cannot be imported: {type(error).__name__}: {text}{at}"
