"""The file in a data directory that API keys are kept in, or rather what `core/api_keys.py` keeps of them, and the
secrets of those who sign webhooks. Commands change it, one at a time; every front of a running server looks at it again
and again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from decoupled.core import limits
from decoupled.core.api_keys import Keys, KeysError
from decoupled.core.credentials import Credentials, decode, encode
from decoupled.core.senders import Senders
from decoupled.engines.sqlite.data_directory import (
    KEYS_LOCK_NAME,
    KEYS_NAME,
    PRIVATE_FILE,
    DataDirectory,
    write_private,
)
from decoupled.engines.sqlite.database import DataDirectoryError

LOOK_AGAIN_S = 0.02  # whether another command is done by now

P = TypeVar("P")
T = TypeVar("T")


class _Part(Generic[P]):
    """What one command changes of that file. It is replaced whole, so that whoever reads it sees one state of it."""

    part: ClassVar[str]  # of the credentials
    command: ClassVar[str]  # that makes the file

    def __init__(self, data: Path) -> None:
        self.path = data / KEYS_NAME
        self._data = data
        self._seen: tuple[int, ...] | None = None

    def look(self) -> P | None:
        """What is kept, if that has changed since this was last asked; where that is not so, one system call. Raises
        KeysError if there is no such file, or it cannot be read."""
        credentials = self._look()
        return None if credentials is None else getattr(credentials, self.part)

    def change(self, by: Callable[[P], tuple[P, T]]) -> T:
        """Have it changed, on the disk when this returns; what `by` gives beside it. Raises KeysError,
        DataDirectoryError or OSError, and then nothing is changed."""
        directory = DataDirectory(self._data)
        directory.make()
        directory.refuse_another_owner()
        with self._locked():
            credentials = self._now() if self.path.exists() else Credentials()
            changed: Any
            changed, told = by(getattr(credentials, self.part))
            text = encode(msgspec.structs.replace(credentials, **{self.part: changed}))
            if len(text.encode()) > limits.MAX_API_KEYS_BYTES:
                raise KeysError(f"the keys take over {limits.MAX_API_KEYS_BYTES} bytes: revoke some")
            write_private(self.path, text, synced=True)
        return told

    def _now(self) -> Credentials:
        self._seen = None
        return self._look() or Credentials()

    def _look(self) -> Credentials | None:
        try:
            if _stamp(os.stat(self.path)) == self._seen:  # noqa: PTH116  half as fast with a Path
                return None
            with self.path.open("rb") as file:
                stamp, text = _stamp(os.fstat(file.fileno())), file.read(limits.MAX_API_KEYS_BYTES + 1)
        except FileNotFoundError:
            raise KeysError(f"there is no {self.path}: decoupled {self.command} makes it") from None
        except OSError as error:
            raise KeysError(f"{self.path} cannot be read: {error.strerror}") from error
        if len(text) > limits.MAX_API_KEYS_BYTES:
            raise KeysError(f"{self.path} is over {limits.MAX_API_KEYS_BYTES} bytes")
        try:
            credentials = decode(text)
        except KeysError as error:
            raise KeysError(f"{self.path} is damaged: {error}") from error
        self._seen = stamp
        return credentials

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Two commands at once would each write what the other one has not seen."""
        descriptor = os.open(self._data / KEYS_LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            until = time.monotonic() + limits.LOCK_WAIT_S
            while not _lock(descriptor):
                if time.monotonic() > until:
                    raise DataDirectoryError(f"another command changes the keys of {self._data}")
                time.sleep(LOOK_AGAIN_S)
            yield
        finally:
            os.close(descriptor)


class KeysFile(_Part[Keys]):
    """The API keys of one data directory."""

    part, command = "keys", "keys add NAME"


class SendersFile(_Part[Senders]):
    """The senders of webhooks of one data directory."""

    part, command = "senders", "senders add NAME"


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stamp(there: os.stat_result) -> tuple[int, ...]:
    return there.st_dev, there.st_ino, there.st_mtime_ns, there.st_size
