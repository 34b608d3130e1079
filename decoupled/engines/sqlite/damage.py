"""What SQLite refuses, told apart by what helps: another process's lock (a moment), a damaged place in the file (a
person), or all else that is wrong with a disk. And what is known to be damaged, from its first sight until the process
ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from decoupled.core import limits
from decoupled.engines.protocols import StoreBusy, StoreDamaged, StoreUnavailable
from decoupled.engines.sqlite.driver import sqlite3

# SQLite's result codes, the last byte of which is the kind. The driver does not have names for all of them.
_BUSY = 5
_MALFORMED = {11, 26}  # SQLITE_CORRUPT, SQLITE_NOTADB
# SQLITE_IOERR_READ, _DATA, _CORRUPTFS: a page that the disk does not give back is the fault of one place in the file,
# too. For it, SQLite undoes a transaction whole.
_UNREADABLE = {10 | detail << 8 for detail in (1, 32, 33)}


class Damage:
    """Of one file. `tell` hears of it once, in words for a person on call."""

    def __init__(self, file: Path | str, tell: Callable[[str], None] = lambda _: None) -> None:
        self.file = file
        self.tell = tell
        self.set_aside: set[int] = set()  # messages, by their `seq`, that cannot be handed out
        self._what: str | None = None

    def refusal(self, error: sqlite3.DatabaseError) -> StoreUnavailable | None:
        """The error as those above know it; None if it is the statement's fault, and not the store's."""
        code = getattr(error, "sqlite_errorcode", None)
        if code is None and "decode" in str(error):  # Python's own error, whose message would repeat what is stored
            return self._found("text that is not UTF-8")
        if code is not None and (code & 0xFF in _MALFORMED or code in _UNREADABLE):
            return self._found(str(error))
        if code is not None and code & 0xFF == _BUSY:
            return StoreBusy("another process holds its lock")
        return StoreUnavailable(str(error)) if isinstance(error, sqlite3.OperationalError) else None

    def _found(self, what: str) -> StoreDamaged:
        if self._what is None:
            self._what = what
            self.tell(self.told() or "")
        return StoreDamaged("a part of it is damaged", self.told() or "")

    def set_aside_message(self, seq: int) -> None:
        """This one is handed out no more. Raises StoreDamaged when there are too many: then the file is past it."""
        if len(self.set_aside) >= limits.MAX_SET_ASIDE:
            raise StoreDamaged("too much of it is damaged", self.told() or "")
        self.set_aside.add(seq)
        self.tell(f"message number {seq} (seq) is handed out no more: the database is damaged where it stands")

    def told(self) -> str | None:
        """What is wrong, and what to do; None while nothing is known."""
        if self._what is None:
            return None
        kept_back = f", {len(self.set_aside):,} messages in it cannot be handed out" if self.set_aside else ""
        return f"{self.file} is damaged ({self._what}){kept_back}: {advice(self.file)}"


def advice(file: Path | str) -> str:
    """What a person can do about damage."""
    directory = Path(file).parent
    return (
        "stop the server, then restore a backup, or save what can be read:"
        f" decoupled recover --data {directory} --to {directory}.recovered"
    )


class Refusals:
    """`with database.refusals:` raises what SQLite refuses inside as StoreUnavailable."""

    def __init__(self, damage: Damage) -> None:
        self._damage = damage

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, sqlite3.DatabaseError) and (refusal := self._damage.refusal(error)) is not None:
            raise refusal from error
