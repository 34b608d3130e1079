"""The dead letters of a data directory as a tool on this machine gets at them: it looks in the file itself, beside
whoever owns the directory, and changes nothing there behind a server's back. SQLite up to 3.51.2 may damage a file that
two connections write at the same moment.

    a server runs ─▶ asked for each change, at its socket; it rides in a group commit
    none does     ─▶ the tool owns the directory meanwhile, and writes itself
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter, Groups, Outcome, Some, Wanted
from decoupled.core.metrics import Numbers
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite import admin, admin_socket
from decoupled.engines.sqlite.data_directory import DataDirectory, DirectoryInUse
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.queue_clock import QueueClock


class ToolDeadLetters:
    """Implements DeadLetters."""

    def __init__(self, directory: DataDirectory, served: bool = False) -> None:
        """`served`: by the server that this process is a part of, and by nobody else, even while that comes to its end.
        Raises DataDirectoryError."""
        self._directory = directory
        self._looking = SqliteDeadLetters(Database(directory.file, read_only=True))
        self._changing: SqliteDeadLetters | ServedDeadLetters | None = None
        if served:
            self._changing = ServedDeadLetters(directory, f"the data directory {directory.path} is in use")

    def find(self, wanted: Wanted, bodies: bool = False) -> Iterator[DeadLetter]:
        return self._looking.find(wanted, bodies)

    def some(self, wanted: Wanted, after: str | None, most: int) -> Some:
        return self._looking.some(wanted, after, most)

    def groups(self, wanted: Wanted) -> Groups:
        return self._looking.groups(wanted)

    def get(self, message_id: str) -> DeadLetter | None:
        return self._looking.get(message_id)

    def redrive(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        return self._owner().redrive(letters)

    def restore(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        return self._owner().restore(letters)

    def edit(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        return self._owner().edit(letters)

    def purge(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        return self._owner().purge(letters)

    def _owner(self) -> SqliteDeadLetters | ServedDeadLetters:
        """Who makes the changes, found out once: with the directory's lock, no server starts meanwhile."""
        if self._changing is None:
            try:
                owned = self._directory.own()
                self._changing = SqliteDeadLetters(owned, queue_clock_ms=QueueClock.of(self._directory.path))
            except DirectoryInUse as in_use:
                self._changing = ServedDeadLetters(self._directory, str(in_use))
        return self._changing

    def notes(self) -> list[str]:
        return self._looking.notes()

    def close(self) -> None:
        """Close the connections, and let others own the directory."""
        self._looking.close()
        if isinstance(self._changing, SqliteDeadLetters):
            self._changing.close()
        self._directory.unlock()


class ServedDeadLetters:
    """The changing half of DeadLetters, made by the server of the directory."""

    def __init__(self, directory: DataDirectory, in_use: str) -> None:
        """`in_use` says who has the directory."""
        self._directory = directory
        self._in_use = in_use

    def redrive(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        return self._ask("redrive", letters)

    def purge(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        return self._ask("purge", letters)

    def restore(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        return self._ask_in_parts("restore", letters)

    def edit(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        return self._ask_in_parts("edit", letters)

    def _ask_in_parts(self, change: Literal["restore", "edit"], letters: Sequence[DeadLetter]) -> list[Outcome]:
        """In requests that the server takes, each a transaction: bodies are large."""
        outcomes: list[Outcome] = []
        for part in _parts(letters):
            outcomes += self._ask(change, part)
        return outcomes

    def _ask(
        self, change: Literal["redrive", "restore", "edit", "purge"], letters: Sequence[DeadLetter]
    ) -> list[Outcome]:
        try:
            server = admin_socket.connect(self._directory.path, limits.ANSWER_S)
        except OSError as error:
            raise Unavailable(f"{self._in_use}. It takes no changes from tools: {error.strerror}") from error
        with server:
            try:
                return admin.ask(server, admin.Change(change, letters))
            except OSError as error:
                raise Unavailable(
                    f"the server did not say what it did: {error}; to repeat the command is safe"
                ) from error


class ServerNumbers:
    """What only the server of a directory knows."""

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory

    def ask(self) -> tuple[Numbers, dict[str, Any]] | None:
        """What it has counted since it started, and what GET /health says; None if no server runs. Raises Unavailable
        when it does not say so in time."""
        if self._directory.server_url() is None:
            return None
        try:
            with admin_socket.connect(self._directory.path, limits.ASK_S) as server:
                told = admin.ask_numbers(server)
        except OSError as error:
            why = "it has not answered in time" if isinstance(error, TimeoutError) else error.strerror or error
            raise Unavailable(f"the server does not say how it is doing: {why}") from error
        return told.numbers, told.health


def _parts(letters: Sequence[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """None over MAX_CHANGE_BYTES: as JSON, a letter is no smaller than in a frame."""
    part: list[DeadLetter] = []
    part_bytes = 0
    for letter in letters:
        letter_bytes = len(msgspec.json.encode(letter)) + 1
        if part and part_bytes + letter_bytes > limits.MAX_CHANGE_BYTES - limits.KIB:
            yield part
            part, part_bytes = [], 0
        part.append(letter)
        part_bytes += letter_bytes
    if part:
        yield part
