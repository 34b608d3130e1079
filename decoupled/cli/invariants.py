"""What is asked of the workloads' own code, for `decoupled audit`, in processes with limits: what their invariants say
of their items, and what messages come to (`effects.py`). It goes into the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from decoupled.cli import effects
from decoupled.core import upkeep_limits
from decoupled.core.audit import Progress, Report, TooLong
from decoupled.engines.protocols import StoreDamaged
from decoupled.server.options import Options
from decoupled.server.workers.inspecting import Loaded
from decoupled.server.workers.inspector import Inspector, Unsaid

ItemsOf = Callable[[str], Iterator[tuple[str, str]]]
"""All items of a workload, each a key and its JSON text, in the order of their keys. Raises Unavailable or TooLong."""


class Read(effects.Read, Protocol):
    """What an engine is asked for."""

    def items(self, workload: str) -> Iterator[tuple[str, str]]:
        """All items of a workload, each a key and its text, in the order of their keys. Raises Unavailable or
        TooLong."""
        ...


def look_at_workloads(report: Report, read: Read, options: Options, progress: Progress) -> None:
    """Of those that these options name. Raises Unavailable."""
    inspector = Inspector(options)
    try:
        loaded = inspector.load()
        look_at_invariants(report, read.items, inspector, loaded, progress)
        effects.look_at_effects(report, read, loaded, options, progress)
    except (Unsaid, ValueError) as error:
        report.unchecked.append(f"what workloads say of their items, and effects of messages: {error}")
    finally:
        inspector.close()


def look_at_invariants(
    report: Report, items_of: ItemsOf, inspector: Inspector, loaded: Loaded, progress: Progress
) -> None:
    """Of all that have one."""
    for number, name in enumerate(loaded.invariants, 1):
        _look_at(report, name, items_of, inspector)
        progress("invariants", number, len(loaded.invariants))


def _look_at(report: Report, name: str, items_of: ItemsOf, inspector: Inspector) -> None:
    counted = _Counted(items_of(name))
    try:
        said = inspector.inspect(name, counted)
    except StoreDamaged as error:
        report.find("file", f"items cannot be read: {error.advice}", f"items of {name}")
        return
    except (TooLong, Unsaid) as error:
        report.unchecked.append(f"the invariant of {name}: {error}")
        return
    for what in said.what:
        report.find("invariant", what, name)
    if said.count > len(said.what):
        more = "or more " if said.count == upkeep_limits.INVARIANT_SAYS else ""
        report.find("invariant", "and more", name, count=said.count - len(said.what))
        report.remarks.append(f"the invariant of {name} said {said.count:,} things {more}of its items")
    if said.why:
        report.find("invariant", f"it does not understand its items: {said.why}", name)
    report.checked.append(f"the invariant of {name}: {counted.count:,} items")


class _Counted:
    """Items, counted as they go."""

    def __init__(self, items: Iterator[tuple[str, str]]) -> None:
        self._items = items
        self.count = 0

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for item in self._items:
            self.count += 1
            yield item
