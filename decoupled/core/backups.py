"""What is said of a backup: how far it is, what it holds, and what came of it. As data; pure."""

from __future__ import annotations

import msgspec

from decoupled.core.limits import MIB
from decoupled.core.times import rfc3339


class Step(msgspec.Struct, tag=True):
    """How far it has got with `what`: `done` of `of`."""

    what: str
    done: int
    of: int


class Holdings(msgspec.Struct, frozen=True, tag="Verified"):
    """What a file holds that is whole: the highest number of a message, how many have each status, and how many were
    removed."""

    highest: int
    counts: dict[str, int]
    removed: int = 0

    def says(self) -> str:
        """In one sentence."""
        parts = [f"{status} {count:,}" for status, count in sorted(self.counts.items())]
        parts += [f"removed {self.removed:,}"] if self.removed else []
        return f"{self.highest:,} messages = {' + '.join(parts) or 'none'}"


class Sealed(msgspec.Struct, frozen=True):
    """What a backup says of itself. `at`: as of when, in ms since the epoch; `of`: of which data directory; `size`: of
    its file, in bytes."""

    at: int
    of: str
    host: str
    size: int
    holds: Holdings

    def says(self) -> str:
        """In one sentence."""
        return f"as of {rfc3339(self.at)}, {self.size / MIB:,.1f} MiB: {self.holds.says()}"


class Told(msgspec.Struct):
    """How it goes with one. It has come to its end with `error` or `sealed`."""

    to: str
    step: Step
    error: str | None = None
    sealed: Sealed | None = None

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self.error is not None or self.sealed is not None

    def says(self) -> str:
        """In one sentence, while it goes on."""
        part = f" {self.step.done * 100 // self.step.of} %" if self.step.of else ""
        return f"a backup to {self.to} is being made: {self.step.what}{part}"


class Begin(msgspec.Struct):
    """What a server is asked for. `to`: a file, or a directory, where it gets a name by its time."""

    to: str
