"""The file in a data directory that API keys are kept in, or rather what `core/api_keys.py` keeps of them. Commands
change it, one at a time; every front of a running server looks at it again and again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from decoupled.core import limits
from decoupled.core.api_keys import Keys, KeysError, decode, encode
from decoupled.engines.sqlite.data_directory import (
    KEYS_LOCK_NAME,
    KEYS_NAME,
    PRIVATE_FILE,
    DataDirectory,
    write_private,
)
from decoupled.engines.sqlite.database import DataDirectoryError

LOOK_AGAIN_S = 0.02  # whether another command is done by now

T = TypeVar("T")


class KeysFile:
    """That of one data directory. It is replaced whole, so that whoever reads it sees one state of it."""

    def __init__(self, data: Path) -> None:
        self.path = data / KEYS_NAME
        self._data = data
        self._seen: tuple[int, ...] | None = None

    def look(self) -> Keys | None:
        """The keys, if they have changed since this was last asked; where that is not so, one system call. Raises
        KeysError if there is no such file, or it cannot be read."""
        try:
            if _stamp(os.stat(self.path)) == self._seen:  # noqa: PTH116  half as fast with a Path
                return None
            with self.path.open("rb") as file:
                stamp, text = _stamp(os.fstat(file.fileno())), file.read(limits.MAX_API_KEYS_BYTES + 1)
        except FileNotFoundError:
            raise KeysError(f"there is no {self.path}: decoupled keys add NAME makes it") from None
        except OSError as error:
            raise KeysError(f"{self.path} cannot be read: {error.strerror}") from error
        if len(text) > limits.MAX_API_KEYS_BYTES:
            raise KeysError(f"{self.path} is over {limits.MAX_API_KEYS_BYTES} bytes")
        try:
            keys = decode(text)
        except KeysError as error:
            raise KeysError(f"{self.path} is damaged: {error}") from error
        self._seen = stamp
        return keys

    def change(self, by: Callable[[Keys], tuple[Keys, T]]) -> T:
        """Have the keys changed, on the disk when this returns; what `by` gives beside them. Raises KeysError,
        DataDirectoryError or OSError, and then nothing is changed."""
        directory = DataDirectory(self._data)
        directory.make()
        directory.refuse_another_owner()
        with self._locked():
            keys, told = by(self._now() if self.path.exists() else [])
            text = encode(keys)
            if len(text) > limits.MAX_API_KEYS_BYTES:
                raise KeysError(f"the keys take over {limits.MAX_API_KEYS_BYTES} bytes: revoke some")
            write_private(self.path, text, synced=True)
        return told

    def _now(self) -> Keys:
        self._seen = None
        return self.look() or []

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


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stamp(there: os.stat_result) -> tuple[int, ...]:
    return there.st_dev, there.st_ino, there.st_mtime_ns, there.st_size
