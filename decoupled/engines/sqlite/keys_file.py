"""The file in a data directory that API keys are kept in, or rather what `core/api_keys.py` keeps of them, and the
secrets of those who sign webhooks. Commands change it, one at a time; every front of a running server looks at it again
and again."""

from __future__ import annotations

import os
from collections.abc import Callable
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
    DataDirectory,
    write_private,
)
from decoupled.engines.sqlite.file_lock import Stamp, locked, stamp

P = TypeVar("P")
T = TypeVar("T")


class _Part(Generic[P]):
    """What one command changes of that file. It is replaced whole, so that whoever reads it sees one state of it."""

    part: ClassVar[str]  # of the credentials
    command: ClassVar[str]  # that makes the file

    def __init__(self, data: Path) -> None:
        self.path = data / KEYS_NAME
        self._data = data
        self._seen: Stamp | None = None

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
        busy = f"another command changes the keys of {self._data}"
        with locked(self._data / KEYS_LOCK_NAME, busy):  # two at once would each write what the other has not seen
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
            if stamp(os.stat(self.path)) == self._seen:  # noqa: PTH116  half as fast with a Path
                return None
            with self.path.open("rb") as file:
                seen, text = stamp(os.fstat(file.fileno())), file.read(limits.MAX_API_KEYS_BYTES + 1)
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
        self._seen = seen
        return credentials


class KeysFile(_Part[Keys]):
    """The API keys of one data directory."""

    part, command = "keys", "keys add NAME"


class SendersFile(_Part[Senders]):
    """The senders of webhooks of one data directory."""

    part, command = "senders", "senders add NAME"
