"""What several commands share: the options that say which system is meant (a data directory or a stack), how durations
are typed, and how texts are shown."""

from __future__ import annotations

import contextlib
import functools
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from decoupled.engines.protocols import DeadLetters, Stats

if TYPE_CHECKING:
    from decoupled.dashboard.gate import Secret
    from decoupled.dashboard.sources import Sources
    from decoupled.engines.sqlite.kept_bodies import KeptBodies
    from decoupled.engines.sqlite.keys_file import KeysFile, SendersFile

F = TypeVar("F", bound=Callable[..., Any])

SECRET_BYTES = 32  # of a secret that lives no longer than the process
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


def plain(text: str) -> str:
    """A text of a client's or a workload's, for rich: nothing in it is a command to the terminal, or markup."""
    from rich.markup import escape  # which most commands need not wait for

    return escape("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))


def target(command: F) -> F:
    """The options --data and --stack; what the system refuses, or does not answer, ends the command with status 1."""

    @click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory.  [default: .data]")
    @click.option("--stack", help="Name of a CloudFormation stack, instead of a data directory.")
    @functools.wraps(command)
    def checked(data: Path | None, stack: str | None, **others: Any) -> Any:
        if data is not None and stack is not None:
            raise click.UsageError("--data and --stack name two systems; choose one")
        with refusals():
            return command(data=data or default_data(stack), stack=stack, **others)

    return checked  # type: ignore[return-value]  # click hands it the two options that it declares


def default_data(stack: str | None = None) -> Path:
    """The one that a server started here would use. Beside a stack nobody looks at it."""
    from decoupled.server.configuration import from_process

    return Path(".data") if stack is not None else from_process().data


def dead_letters_of(data: Path, stack: str | None) -> DeadLetters:
    """Those of a data directory or a stack. Raises ValueError, DataDirectoryError or Unavailable."""
    if stack is not None:
        from decoupled.engines.aws.dead_letters import AwsDeadLetters

        return AwsDeadLetters.of_stack(stack)
    from decoupled.engines.sqlite.data_directory import DataDirectory
    from decoupled.engines.sqlite.tool import ToolDeadLetters

    return ToolDeadLetters(DataDirectory(data))


def item_of(data: Path, stack: str | None) -> Callable[[str], Mapping[str, Any] | None]:
    """Reads an item as it is now, by its key. Raises ValueError, DataDirectoryError or Unavailable."""
    if stack is not None:
        from decoupled.engines.aws.stack import outputs, tool_client
        from decoupled.engines.aws.table import DynamoTable

        return DynamoTable(tool_client("dynamodb"), outputs(stack)["TableName"]).item
    from decoupled.engines.sqlite.data_directory import DataDirectory
    from decoupled.engines.sqlite.database import Database
    from decoupled.engines.sqlite.table import SqliteTable

    return SqliteTable(Database(DataDirectory(data).file, read_only=True)).item


def stats_of(data: Path, stack: str | None) -> Stats:
    """Those of a data directory or a stack. Raises ValueError, DataDirectoryError or Unavailable."""
    if stack is not None:
        from decoupled.engines.aws.stats import AwsStats

        return AwsStats.of_stack(stack)
    from decoupled.engines.sqlite.data_directory import DataDirectory
    from decoupled.engines.sqlite.stats import SqliteStats

    return SqliteStats(DataDirectory(data))


def sources_of(data: Path, stack: str | None) -> Sources:
    """What the page shows of a data directory or a stack. Raises ValueError, DataDirectoryError or Unavailable."""
    if stack is not None:
        from decoupled.engines.aws.sources import AwsSources

        return AwsSources(stack)
    from decoupled.engines.sqlite.data_directory import DataDirectory
    from decoupled.engines.sqlite.database import Database
    from decoupled.engines.sqlite.sources import SqliteSources

    directory = DataDirectory(data)
    Database(
        directory.file, read_only=True
    ).close()  # one that is not ours is told of now, and nothing is put beside it
    return SqliteSources(directory)


def secret_of(data: Path, stack: str | None) -> Secret:
    """What the page's codes and sessions are signed with: of a data directory, by whoever may read that. For a stack,
    by this process only."""
    if stack is not None:
        secret = secrets.token_bytes(SECRET_BYTES)
        return lambda _make: secret
    from decoupled.engines.sqlite.data_directory import DataDirectory
    from decoupled.engines.sqlite.page_secret import PageSecret

    return PageSecret(DataDirectory(data))


def keys_of(data: Path) -> KeysFile:
    """Where a data directory has its API keys."""
    from decoupled.engines.sqlite.keys_file import KeysFile

    return KeysFile(data)


def senders_of(data: Path) -> SendersFile:
    """Where a data directory has those who sign webhooks."""
    from decoupled.engines.sqlite.keys_file import SendersFile

    return SendersFile(data)


class LocalServer:
    """The server of a data directory on this machine, as a load test sees it from beside."""

    def __init__(self, data: Path) -> None:
        from decoupled.engines.sqlite.data_directory import DataDirectory

        self.data = data
        directory = DataDirectory(data)
        self.url: str | None = directory.server_url()  # None: it does not run
        self.has_page = directory.has_page()  # for people on call

    def begin_outage(self, seconds: float) -> None:
        """Take its table away, for so long at most."""
        from decoupled.engines.sqlite import outage

        outage.begin(self.data, seconds)

    def end_outage(self) -> None:
        """Give it back."""
        from decoupled.engines.sqlite import outage

        outage.end(self.data)

    def effects(self, marker: str) -> Mapping[str, int]:
        """See `engines/sqlite/stats.effects`."""
        from decoupled.engines.sqlite.data_directory import DataDirectory
        from decoupled.engines.sqlite.database import Database
        from decoupled.engines.sqlite.stats import effects

        with contextlib.closing(Database(DataDirectory(self.data).file, read_only=True)) as database:
            return effects(database, marker)


def kept_of(data: Path) -> KeptBodies:
    """What has ended and kept its body, of a data directory. Raises DataDirectoryError."""
    from decoupled.engines.sqlite.data_directory import DataDirectory
    from decoupled.engines.sqlite.database import Database
    from decoupled.engines.sqlite.kept_bodies import KeptBodies

    return KeptBodies(Database(DataDirectory(data).file, read_only=True))


def gateway_of(stack: str) -> tuple[str, str]:
    """The URL of a stack's API, and whom it lets in. Raises ValueError or Unavailable."""
    from decoupled.engines.aws.stack import outputs

    found = outputs(stack)
    return found["Endpoint"], found["Authorization"]


def signer(region: str) -> Callable[[str, str, Mapping[str, str], bytes], Mapping[str, str]]:
    """Signs requests to a stack's API. Raises ValueError if there are no credentials."""
    from decoupled.engines.aws.signing import Signer

    return Signer(region)


class refusals:  # noqa: N801  used as a verb's object: `with refusals():`
    """Errors that a person can do something about, as one line and status 1."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            return
        from decoupled.core.workload import Unavailable
        from decoupled.engines.protocols import StoreDamaged
        from decoupled.engines.sqlite.database import DataDirectoryError
        from decoupled.server.last_resort import UnforeseenError

        if isinstance(error, BrokenPipeError):
            return  # `| head` has seen enough: click ends quietly
        if isinstance(error, ModuleNotFoundError) and str(error.name).startswith("botocore"):
            raise click.ClickException(f"{error}: pip install 'decoupled[aws]'") from error
        if isinstance(error, StoreDamaged):
            raise click.ClickException(error.advice) from error
        if isinstance(error, (DataDirectoryError, UnforeseenError, Unavailable, ValueError, OSError)):
            raise click.ClickException(str(error)) from error
