"""Where `decoupled forget` erases, a data directory or a stack; and what else may have a copy of what it erases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from decoupled.core.api_keys import KeysError
from decoupled.core.forgetting import Asked, Report
from decoupled.core.times import rfc3339
from decoupled.engines.sqlite.backup_place import BackupPlace
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.forget_tool import forget, survey
from decoupled.engines.sqlite.keys_file import KeysFile
from decoupled.server.configuration import from_process

if TYPE_CHECKING:
    from decoupled.engines.aws.forgetting import AwsForgetting

Show = Callable[[str, int, int], None]

_NAMED = 10  # other files of a directory


class OfData:
    """A data directory, whose server runs or not."""

    def __init__(self, data: Path) -> None:
        self._directory = DataDirectory(data)

    def cost(self, asked: Asked) -> str:  # noqa: ARG002  nothing is billed
        """In words, where there is one."""
        return ""

    def survey(self, asked: Asked, show: Show) -> tuple[Report, bool]:
        """What there is, and whether an earlier run is still to be proven. Raises DataDirectoryError or Unavailable."""
        return survey(self._directory, asked, show)

    def forget(self, asked: Asked, show: Show) -> Report:
        """Erase it. Raises DataDirectoryError or Unavailable."""
        report = forget(self._directory, asked, show)
        report.notes += self.copies(asked)
        return report

    def copies(self, asked: Asked) -> Iterator[str]:
        """What else has it, and until when."""
        yield from self._keys(asked)
        if others := self._directory.others():
            more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
            yield (
                f"Not searched, in {self._directory.path}, which may have it still: {', '.join(others[:_NAMED])}{more}."
                " Remove what is of a copy that did not come to its end (.compact, .part)."
            )
        yield from self._backups()
        yield (
            "Any other copy has it until you remove it: backups elsewhere, a replica's snapshots and log, exports of"
            " dead letters, snapshots of disks, and whatever wrote the server's log."
        )

    def _keys(self, asked: Asked) -> Iterator[str]:
        try:
            keys = KeysFile(self._directory.path).look() or []
        except KeysError as error:
            yield f"Whether there is a key of that name is not known: {error}"
            return
        for key in keys:
            if key.caller == asked.caller:
                yield f"The file of keys has the name still, and its caller may send: decoupled keys revoke {key.name}"

    def _backups(self) -> Iterator[str]:
        """Those that the server makes, where the options of this process say so."""
        options = from_process()
        if options.backup_dir is None:
            return
        with contextlib.suppress(FileNotFoundError):
            if times := BackupPlace(options.backup_dir, self._directory.path).times():
                yield (
                    f"{len(times):,} backups in {options.backup_dir}, of {rfc3339(times[-1])} to {rfc3339(times[0])},"
                    f" have it still. The last of them goes when {options.backup_keep:,} newer ones are made; make one"
                    " now, and delete these, to be sooner rid of it."
                )


class OfStack:
    """A stack on AWS. `units_s`: of its table's capacity a second, at most."""

    def __init__(self, stack: str, units_s: float) -> None:
        """Raises ValueError or Unavailable."""
        self._forgetting = forgetting_of(stack, units_s)

    def cost(self, asked: Asked) -> str:
        """In words. Raises Unavailable."""
        return self._forgetting.cost(asked)

    def survey(self, asked: Asked, show: Show) -> tuple[Report, bool]:
        """What there is. Nothing of an earlier run is to be proven: what is erased there has left nothing. Raises
        ValueError or Unavailable."""
        return self._forgetting.survey(asked, show), False

    def forget(self, asked: Asked, show: Show) -> Report:
        """Erase it. Raises ValueError or Unavailable."""
        report = self._forgetting.forget(asked, show)
        report.notes += self.copies(asked)
        return report

    def copies(self, asked: Asked) -> Sequence[str]:  # noqa: ARG002  whose it is makes no difference
        """What else has it, and until when."""
        return self._forgetting.copies()


def forgetting_of(stack: str, units_s: float) -> AwsForgetting:
    """The engine's part. Raises ValueError or Unavailable."""
    from decoupled.engines.aws.forgetting import AwsForgetting

    return AwsForgetting.of_stack(stack, units_s)
