"""The directory that one server owns: its lock, who may read what is in it, and whether its files are still the ones
that the server has open. What is in the SQLite file is `database.py`'s affair."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from decoupled.engines.sqlite.database import FILE_NAME, Database, DataDirectoryError
from decoupled.engines.sqlite.durable import sync_names

log = logging.getLogger("decoupled.data_directory")

PRIVATE_FILE, PRIVATE_DIRECTORY = 0o600, 0o700
OTHERS = 0o077  # what a mode must have nothing of
SOCKET_NAME = "admin"
KEYS_NAME, KEYS_LOCK_NAME = "keys", "keys.lock"
PAGE_SECRET_NAME = "page.secret"  # noqa: S105  a name
NO_PAGE = "page off\n"  # the second line of `server`, where that is so
HISTORY_NAME = "history"
LITESTREAM_NAME = f".{FILE_NAME}-litestream"  # a directory: what is to be sent to a replica
_OURS = (
    *(FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", "lock", "server", "outage", "clock", SOCKET_NAME),
    *(KEYS_NAME, KEYS_LOCK_NAME, PAGE_SECRET_NAME, HISTORY_NAME),
)


class Watch:
    """Answers why the files of a running server are not its own any more, or None. From the first such answer on it
    stays with that: what was written since then is in a file that nobody will find."""

    def __init__(self, always: Sequence[Path], also: Sequence[Path]) -> None:
        """All of them are there. `always` are looked at by each call."""
        self._always = [_seen(path) for path in always]
        self._also = [_seen(path) for path in also]
        self.lost: str | None = None

    def __call__(self) -> str | None:
        """After each commit, before it is believed: two system calls."""
        return self.lost or self._look(self._always)

    def all(self) -> str | None:
        """Of the others, too: about once a second."""
        return self() or self._look(self._also)

    def _look(self, seen: Sequence[tuple[str, int, int]]) -> str | None:
        for path, device, inode in seen:
            try:
                now = os.stat(path)  # noqa: PTH116  half as fast with a Path
            except OSError as error:
                self.lost = f"{path} was taken away while the server ran: {error.strerror}"
                break
            if now.st_ino != inode or now.st_dev != device:
                self.lost = f"{path} was replaced by another file while the server ran"
                break
        return self.lost


def _seen(path: Path) -> tuple[str, int, int]:
    there = path.stat()
    return str(path.absolute()), there.st_dev, there.st_ino


class DataDirectory:
    """A directory that one process owns: by locks that are held until it ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / FILE_NAME
        self._locks: list[int] = []

    def own(self) -> Database:
        """Create the directory if need be, lock it, open its database, and make all of it private. Raises
        DirectoryInUse, which names the process that owns it, or DataDirectoryError."""
        self.lock()
        return self.open()

    def lock(self) -> None:
        """Create the directory if need be, and own it; its database may be missing. Raises as `own` does."""
        try:
            self._lock_all()
        except DataDirectoryError:
            self.unlock()
            raise

    def open(self) -> Database:
        """The database of a directory that is locked. Raises DataDirectoryError, and then it is not locked any more."""
        try:
            self._refuse_second_names()
            database = Database(self.file)  # it is ours, or refused: what is not, keeps its permissions
            self._make_private()
        except DataDirectoryError:
            self.unlock()
            raise
        return database

    def _lock_all(self) -> None:
        doing = "used"
        try:
            self.make()
            # By the directory itself, so that a `lock` that somebody removed lets nobody in; and by that file as ever,
            # for the sake of earlier versions.
            self._lock(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            self.refuse_another_owner()
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock(file := os.open(self.path / "lock", flags, PRIVATE_FILE))
            doing = "written"
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise DataDirectoryError(f"the data directory {self.path} cannot be {doing}: {error.strerror}") from error

    def others(self) -> list[str]:
        """Names of what is in it besides its own files: of a copy that did not come to its end, say, or of backups.
        Raises OSError."""
        return sorted(name for name in os.listdir(self.path) if name not in _OURS)  # noqa: PTH208  names are enough

    def make(self) -> None:
        """Create it if it is not there. Raises OSError."""
        self.path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)

    def _lock(self, descriptor: int) -> None:
        self._locks.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUse(
                f"the data directory {self.path} is in use by {self._owner()}; one process owns it at a time"
            ) from None

    def _owner(self) -> str:
        with contextlib.suppress(OSError):
            if owner := (self.path / "lock").read_bytes()[:32].decode(errors="replace").strip():
                return f"process {owner}"
        return "another process"

    def unlock(self) -> None:
        """Let others own it. The end of the process does that, too."""
        while self._locks:
            os.close(self._locks.pop())

    # --- who may read it ------------------------------------------------------

    def refuse_another_owner(self) -> None:
        """Raises DataDirectoryError where this process runs as another user, and OSError."""
        owner, user = self.path.stat().st_uid, os.geteuid()
        if owner != user:
            raise DataDirectoryError(
                f"the data directory {self.path} belongs to user {owner}, and this process runs as user {user}: only"
                " its owner can keep it private. Run it as that user, or name a directory that is not there yet"
            )

    def _make_private(self) -> None:
        """Whatever the umask was when its files were made."""
        mended = [path.name for name in _OURS if self._mend(path := self.path / name, PRIVATE_FILE)]
        for directory in (self.path / LITESTREAM_NAME, self.path):
            if self._mend(directory, PRIVATE_DIRECTORY):
                mended.insert(0, str(directory))
        if mended:
            log.warning("files were open to other users of this machine; now they are not", extra={"files": mended})

    def _mend(self, path: Path, mode: int) -> bool:
        """Whether it had to be made private."""
        try:
            before = path.lstat()
        except FileNotFoundError:
            return False
        if stat.S_ISLNK(before.st_mode) or not before.st_mode & OTHERS:
            return False
        try:
            path.chmod(mode)
        except OSError as error:
            raise DataDirectoryError(f"{path} cannot be made private: {error.strerror}") from error
        if path.lstat().st_mode & OTHERS:
            raise DataDirectoryError(
                f"{path} cannot be made private: its file system keeps no permissions. Name a directory on another one"
            )
        return True

    def _refuse_second_names(self) -> None:
        """SQLite keeps the log beside the name that it was given: under another name, what the log holds is missing."""
        try:
            there = self.file.lstat()
        except FileNotFoundError:
            return
        if stat.S_ISLNK(there.st_mode):
            raise DataDirectoryError(f"{self.file} is a symbolic link: name the directory that it points into")
        if stat.S_ISREG(there.st_mode) and there.st_nlink > 1:
            raise DataDirectoryError(
                f"{self.file} has {there.st_nlink} names (hard links), of which only one can have its log beside it:"
                " remove the others, or make copies of them"
            )

    # --- a running server -----------------------------------------------------

    def watch(self) -> Watch:
        """Of a server that has the database open. Raises DataDirectoryError."""
        wal, shm = (self.path / f"{FILE_NAME}{suffix}" for suffix in ("-wal", "-shm"))
        try:
            return Watch([self.file, wal], [shm, self.path / "lock"])
        except OSError as error:
            raise DataDirectoryError(f"the data directory {self.path} cannot be used: {error}") from error

    def publish(self, url: str, page: bool = True) -> None:
        """Tell the tools where the server of this directory listens, and whether it has a page. Raises
        DataDirectoryError."""
        try:
            write_private(self.path / "server", f"{os.getpid()} {url}\n" + ("" if page else NO_PAGE))
        except OSError as error:
            raise DataDirectoryError(f"the data directory {self.path} cannot be written: {error.strerror}") from error

    def withdraw(self) -> None:
        """It listens no more."""
        for name in ("server", SOCKET_NAME):
            (self.path / name).unlink(missing_ok=True)

    def server_url(self) -> str | None:
        """Where the server listens; None if there is none. One that was killed left the file, but not its process."""
        try:
            said, *_ = (self.path / "server").read_text().splitlines()
            pid, _, url = said.partition(" ")
            os.kill(int(pid), 0)
        except PermissionError:
            return url  # alive, and another user's
        except (OSError, ValueError):
            return None
        return url

    def has_page(self) -> bool:
        """Whether the server that listens has one for people on call."""
        with contextlib.suppress(OSError):
            return not (self.path / "server").read_text().endswith(NO_PAGE)
        return True


class DirectoryInUse(DataDirectoryError):  # noqa: N818  a state, which a tool can do something about
    """Another process owns it."""


def write_private(path: Path, content: str | bytes, synced: bool = False) -> None:
    """Make a file of a data directory whole or not at all, for its owner's eyes; `synced`: whatever happens to the
    machine from then on. Raises OSError."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE), "wb") as file:  # noqa: PTH123  a descriptor
        os.fchmod(file.fileno(), PRIVATE_FILE)
        file.write(content.encode() if isinstance(content, str) else content)
        if synced:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)
    if synced:
        sync_names(path.parent)
