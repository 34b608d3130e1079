"""Which two systems a move is between: beside `target.py`, the only place of the tools that names both engines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from decoupled.cli.calling_aws import is_emulator
from decoupled.core.moving import Marks, Source, Target
from decoupled.core.workload import Workloads

LOCK_NAME = "move.lock"
EMULATORS_QUIET_S = 1.0  # an emulator's queues say how many they have at once


@dataclass(frozen=True, slots=True)
class Sides:
    """From where, to where, and where it is kept how far it has got. `url`: of the target, as far as it is known."""

    source: Source
    target: Target
    marks: Marks
    url: str = ""


@contextlib.contextmanager
def to_stack(data: Path, stack: str, workloads: Workloads) -> Iterator[Sides]:
    """From a data directory to a stack. Raises ValueError, DataDirectoryError, Unavailable or OSError."""
    from decoupled.engines.aws.moving_stack import target_of
    from decoupled.engines.sqlite.data_directory import DataDirectory
    from decoupled.engines.sqlite.database import DataDirectoryError
    from decoupled.engines.sqlite.departure_tool import ToolMarks
    from decoupled.engines.sqlite.file_lock import locked
    from decoupled.engines.sqlite.moving_source import SqliteSource

    directory = DataDirectory(data.absolute())
    if not directory.file.exists():
        raise DataDirectoryError(f"there is no {directory.file}")
    with contextlib.ExitStack() as both:
        both.enter_context(locked(data / LOCK_NAME, f"another `decoupled move` of {data} is under way"))
        target, url = target_of(stack, workloads)
        both.enter_context(contextlib.closing(target))
        source = both.enter_context(contextlib.closing(SqliteSource(directory)))
        yield Sides(source, target, ToolMarks(directory), url)


@contextlib.contextmanager
def from_stack(stack: str, to: Path) -> Iterator[Sides]:
    """From a stack to a data directory, which is new or of this move. Raises as `to_stack`."""
    from decoupled.engines.aws.closing import QUIET_S
    from decoupled.engines.aws.moving_stack import source_of
    from decoupled.engines.sqlite.data_directory import DataDirectory
    from decoupled.engines.sqlite.moving_target import SqliteTarget, name_of

    directory = DataDirectory(to.absolute())
    source = source_of(stack, EMULATORS_QUIET_S if is_emulator() else QUIET_S, name_of(directory))
    with contextlib.closing(source), contextlib.closing(SqliteTarget(directory, source.name)) as target:
        yield Sides(source, target, target)
