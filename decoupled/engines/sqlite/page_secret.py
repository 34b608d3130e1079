"""The secret of a data directory that codes and sessions of its page are signed with: a file, made by whoever needs it
first. To delete it ends every session."""

from __future__ import annotations

import contextlib
import os
import secrets

from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite.data_directory import PAGE_SECRET_NAME, PRIVATE_FILE, DataDirectory
from decoupled.engines.sqlite.database import DataDirectoryError
from decoupled.engines.sqlite.file_lock import Stamp, locked, stamp

SECRET_BYTES = 32


class PageSecret:
    """Of one data directory. Used by one thread."""

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory
        self._path = directory.path / PAGE_SECRET_NAME
        self._seen: Stamp | None = None
        self._secret: bytes | None = None

    def __call__(self, make: bool) -> bytes | None:
        """As the file has it now: where it has not changed, that is one system call. Raises Unavailable."""
        try:
            with contextlib.suppress(FileNotFoundError):
                if self._secret is None or stamp(os.stat(self._path)) != self._seen:  # noqa: PTH116  as in keys_file
                    self._secret = self._read()
                if self._secret is not None:
                    return self._secret
            self._secret = self._make() if make else None
        except (OSError, DataDirectoryError) as error:
            raise Unavailable(f"{self._path} cannot be used: {error}") from error
        return self._secret

    def _read(self) -> bytes | None:
        """None while it is not whole."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._seen = stamp(os.fstat(descriptor))
            return _decoded(os.read(descriptor, 4 * SECRET_BYTES))
        finally:
            os.close(descriptor)

    def _make(self) -> bytes:
        """One for all: whoever comes second finds what the first has written."""
        self._directory.refuse_another_owner()
        with locked(self._path, "another process makes it, and does not end") as descriptor:
            secret = _decoded(os.pread(descriptor, 4 * SECRET_BYTES, 0))
            if secret is None:
                secret = secrets.token_bytes(SECRET_BYTES)
                os.fchmod(descriptor, PRIVATE_FILE)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{secret.hex()}\n".encode(), 0)
                os.fsync(descriptor)
            self._seen = stamp(os.fstat(descriptor))
        return secret


def _decoded(text: bytes) -> bytes | None:
    try:
        secret = bytes.fromhex(text.decode("ascii").removesuffix("\n"))
    except ValueError:
        return None
    return secret if len(secret) == SECRET_BYTES and text.endswith(b"\n") else None
