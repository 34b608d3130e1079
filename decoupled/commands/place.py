"""Options that several commands share: which system is meant (a data directory or a stack), and how durations are
typed."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_UNITS_S = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Duration(click.ParamType[float]):
    """`90`, `90s`, `15m`, `2h`, `3d`: as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|[smhd]?)", value.strip())
        if found is None:
            self.fail(f"{value!r} is not a duration like 90s, 15m, 2h or 3d", param, ctx)
        return float(found[1]) * _UNITS_S[found[2]]


DURATION = Duration()


def place(command: F) -> F:
    """The options --data and --stack; what the system refuses, or does not answer, ends the command with status 1."""

    @click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory.  [default: .data]")
    @click.option("--stack", help="Name of a CloudFormation stack, instead of a data directory.")
    @functools.wraps(command)
    def checked(data: Path | None, stack: str | None, **others: Any) -> Any:
        if data is not None and stack is not None:
            raise click.UsageError("--data and --stack name two systems; choose one")
        with refusals():
            return command(data=data or Path(".data"), stack=stack, **others)

    return checked  # type: ignore[return-value]  # click hands it the two options that it declares


class refusals:  # noqa: N801  used as a verb's object: `with refusals():`
    """Errors that a person can do something about, as one line and status 1."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        from decoupled.embedded.database import DataDirectoryError
        from decoupled.workload import Unavailable

        if isinstance(error, (DataDirectoryError, Unavailable, ValueError, OSError)):
            raise click.ClickException(str(error)) from error
