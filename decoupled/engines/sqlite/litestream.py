"""Litestream, the program that replicates a data directory's file: where it is found, what it has written of late,
here and at the replica's place, and how a file is fetched back from there. All that is known of its files and commands
stands here; what it does to our log, in `beside.py`.

    data/.decoupled.sqlite3-litestream/ltx/0/N-N.ltx    changes number N, read from the log, not sent yet or lately
    PLACE/ltx/LEVEL/N-M.ltx                             those of N to M; level 0 as above, higher ones put together"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec

from decoupled.core.replicas import Part, Place, Reached, is_url, shown, url_of, without_password
from decoupled.core.times import parse_rfc3339, rfc3339
from decoupled.core.upkeep_limits import (
    REPLICA_ASK_S,
    REPLICA_CALL_S,
    REPLICA_LOOK_S,
    REPLICA_PARTS,
    REPLICA_SAYS_CHARS,
)
from decoupled.engines.sqlite import log_file
from decoupled.engines.sqlite.backup import KEYS_MARK
from decoupled.engines.sqlite.data_directory import KEYS_NAME, LITESTREAM_NAME
from decoupled.engines.sqlite.database import FILE_NAME, Database, DataDirectoryError

LEVELS = range(10)
_NOT_KNOWN = ""  # a file of keys has more
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.ltx")
# https://github.com/superfly/ltx: magic, 28 bytes, timestamp, 8 bytes, place and length in the log, its salts
_HEADER = struct.Struct(">4s28xQ8xQQ8s")
_MAGIC = b"LTX1"
_SECOND_MS = 1000  # to which Litestream tells times


class ReplicaError(DataDirectoryError):
    """A replica cannot be read, or Litestream not called, and why."""


def program() -> str:
    """Litestream itself: beside this Python, or on the PATH. Raises ReplicaError."""
    beside = Path(sys.executable).with_name("litestream")
    found = str(beside) if beside.exists() else shutil.which("litestream")
    if found is None:
        raise ReplicaError(
            f"there is no litestream, neither in {beside.parent} nor on the PATH: pip install 'decoupled[replica]'"
        )
    return found


def directory_of(target: str) -> Path | None:
    """Where a replica is that is in a directory of this machine."""
    if target.startswith("file://"):
        return Path(target.removeprefix("file://"))
    return None if is_url(target) else Path(target)


# --- what there is --------------------------------------------------------------


def parts_of(target: str, levels: Sequence[int] = LEVELS) -> list[Part]:
    """The files of a replica. Raises ReplicaError."""
    place = directory_of(target)
    if place is None:
        return _listed(target, levels)
    if not place.is_dir():
        raise ReplicaError(f"there is no replica in {place}")
    try:
        return [part for level in levels for part in _parts_in(place / "ltx" / str(level), level)]
    except OSError as error:
        raise ReplicaError(f"{place} cannot be read: {error.strerror}") from error


def _parts_in(directory: Path, level: int) -> list[Part]:
    """Raises OSError."""
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in islice(entries, REPLICA_PARTS):
                if named := _NAME.fullmatch(entry.name):
                    there = entry.stat(follow_symlinks=False)
                    at = there.st_mtime_ns // 1_000_000
                    found.append(Part(level, int(named[1], 16), int(named[2], 16), there.st_size, at))
    except FileNotFoundError:
        return []  # nothing of that level yet, or no more
    return found


class _Listed(msgspec.Struct):
    """What `litestream ltx -json` says of one."""

    level: int
    min_txid: str
    max_txid: str
    size: int
    timestamp: str

    def part(self) -> Part:
        return Part(
            self.level, int(self.min_txid, 16), int(self.max_txid, 16), self.size, parse_rfc3339(self.timestamp)
        )


def _listed(url: str, levels: Sequence[int]) -> list[Part]:
    level = str(levels[0]) if len(levels) == 1 else "all"
    said = called("ltx", "-json", "-level", level, url)
    try:
        return [listed.part() for listed in msgspec.json.decode(said, type=list[_Listed])]
    except ValueError as error:
        raise ReplicaError(f"what litestream says of {shown(url)} is not understood: {error}") from error


def called(*arguments: str, timeout_s: float | None = REPLICA_ASK_S) -> bytes:
    """What Litestream prints. Raises ReplicaError."""
    command = [program(), *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603  the program that an operator has installed
    except subprocess.TimeoutExpired as error:
        raise ReplicaError(f"litestream {arguments[0]} gave no answer within {timeout_s:g} s") from error
    except OSError as error:
        raise ReplicaError(f"{command[0]} cannot be called: {error.strerror}") from error
    if done.returncode != 0:
        said = (done.stderr + done.stdout).decode(errors="replace").strip()
        said = without_password(said)[-REPLICA_SAYS_CHARS:]
        raise ReplicaError(f"litestream {arguments[0]}: {said or done.returncode}")
    return done.stdout


# --- how far it is --------------------------------------------------------------


class Watched:
    """The replica of one data directory. Used by one thread."""

    def __init__(self, data: Path, target: str, database: Database) -> None:
        """`database`: the server's, for the operations of its writer."""
        self.every_s = REPLICA_LOOK_S if directory_of(target) is not None else REPLICA_CALL_S
        self._own = data / LITESTREAM_NAME / "ltx" / "0"
        self._data = data
        self._target = target
        self._database = database
        self._keys: str | None = _NOT_KNOWN  # as the file has them

    def here(self) -> Place:
        """How far the log is. Raises OSError."""
        return log_file.place(self._data / FILE_NAME)

    def keys(self) -> tuple[Callable[[], None], Callable[[], None]] | None:
        """If the keys have changed, what puts them into the file, where a restored one looks for them; and what is to
        be called once that is on the disk. Raises OSError."""
        try:
            keys = (self._data / KEYS_NAME).read_text()
        except FileNotFoundError:
            keys = None
        if keys == self._keys:
            return None

        def kept() -> None:
            self._keys = keys

        return partial(mirror_keys, self._database, keys), kept

    def reached(self) -> Reached:
        """What is at its place, held against what Litestream has written here: its word is not asked for. Raises
        ReplicaError or OSError."""
        there = parts_of(self._target, (0,))
        if not there:
            return Reached()
        here = {part.last: part for part in _parts_in(self._own, 0)}
        foreign = [part.last for part in there if part.last in here and here[part.last].size != part.size]
        mixed = bool(foreign)
        newest = max(there, key=lambda part: part.last)
        if here and newest.last > max(here):  # ours writes each part here before it sends it
            foreign.append(newest.last)
        found = None if foreign or newest.last not in here else self._place(newest.last)
        return Reached(found, newest.at, foreign, mixed)

    def _place(self, number: int) -> Place | None:
        try:
            with (self._own / f"{number:016x}-{number:016x}.ltx").open("rb") as file:
                head = file.read(_HEADER.size)
        except FileNotFoundError:
            return None  # it has just been put together with others
        if len(head) < _HEADER.size:
            return None
        magic, _, offset, size, salts = _HEADER.unpack(head)
        return Place(salts, offset + size) if magic == _MAGIC else None


def mirror_keys(database: Database, keys: str | None) -> None:
    """In a transaction: the file has these, or none any more, which somebody may have revoked since."""
    if keys is None:
        database.execute("DELETE FROM marks WHERE name = ?", (KEYS_MARK,))
    else:
        database.execute("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)", (KEYS_MARK, keys))


def drop_keys(database: Database) -> None:
    """Of a file that is not replicated any more. Raises StoreUnavailable."""
    if database.execute("SELECT 1 FROM marks WHERE name = ?", (KEYS_MARK,)).fetchone() is not None:
        with database.transaction():
            mirror_keys(database, None)


# --- fetching it ----------------------------------------------------------------


class _Planned(msgspec.Struct):
    """A part that makes up what is restored."""

    max_txid: str
    timestamp: str


class _Plan(msgspec.Struct):
    """What `litestream restore -dry-run -json` says."""

    files: list[_Planned]


def fetch(target: str, to: Path, at: int | None) -> int:
    """Write the file as it was before that moment, in ms since the epoch, or with all that there is, to a name that is
    not there yet. As of when it is, to the second. Raises ReplicaError."""
    parts = parts_of(target)
    if not parts:
        raise ReplicaError(f"there is nothing of a replica in {shown(target)}")
    begins, ends = min(part.at for part in parts), max(part.at for part in parts)
    if at is not None and at < begins:
        raise ReplicaError(f"the replica in {shown(target)} goes back to {rfc3339(begins)}, not to {rfc3339(at)}")
    all_of_it = at is None or at >= ends + _SECOND_MS  # Litestream knows of no moment after its newest
    moment = () if at is None or all_of_it else ("-timestamp", rfc3339(at))
    arguments = ("-o", str(to), *moment, url_of(target, Path.cwd()))
    try:
        plan = msgspec.json.decode(called("restore", "-dry-run", "-json", *arguments), type=_Plan)
        reaches = max(int(file.max_txid, 16) for file in plan.files)
        as_of = max(parse_rfc3339(file.timestamp) for file in plan.files)
    except ValueError as error:
        raise ReplicaError(f"what litestream says of {shown(target)} is not understood: {error}") from error
    counts = [part.last for part in parts if at is None or part.at + _SECOND_MS <= at]
    if lost := sorted(last for last in counts if last > reaches):
        raise ReplicaError(
            f"the replica in {shown(target)} has a gap: it is whole up to change {reaches}, as of {rfc3339(as_of)},"
            f" and has later ones up to {lost[-1]}. To do without these, name that moment"
        )
    called("restore", *arguments, timeout_s=None)  # as long as it takes
    return as_of
