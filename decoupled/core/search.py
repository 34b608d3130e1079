"""Messages as a person on call looks for them: what is sought, what is found, and the story of one. What each engine
can find stands in its `search.py`. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from decoupled.core.outcomes import Record
from decoupled.core.status import Status


class Sought(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is given has to hold. Times are milliseconds since the epoch. `id` and `key` (an Idempotency-Key, with
    its caller and workload) name one message, or none; a key names each of a request with several. `error` is an
    error's type, or part of its text or of a rejection's reason, in either case."""

    id: str | None = None
    key: str | None = None
    workload: str | None = None
    caller: str | None = None
    group: str | None = None
    status: Status | None = None
    error: str | None = None
    accepted_after: int | None = None
    accepted_before: int | None = None
    cursor: str | None = None  # where an earlier look ended: go on from there
    limit: int = 50


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message in a list. Times are milliseconds since the epoch."""

    id: str
    workload: str
    status: Status
    accepted_at: int
    caller: str = ""
    group: str = ""
    finished_at: int | None = None
    attempts: int = 0
    error_type: str = ""
    error: str = ""
    reason: str = ""


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """Newest first. `cursor`: there may be more, from there on. `note`: what was not looked at, and why."""

    rows: list[Row]
    cursor: str | None = None
    note: str = ""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened to a message, or will: `accepted`, `due`, `received`, `failed`, `waits`, `processed`,
    `rejected`, `dead`, `edited`, `emitted`. `at`: milliseconds since the epoch; None where only that it happened is
    known."""

    what: str
    at: int | None = None
    detail: str = ""
    traceback: str = ""
    id: str = ""  # of the message that was emitted


class Story(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is known of one message. `body`: its JSON text, while the engine keeps it."""

    row: Row
    record: Record
    steps: list[Step]
    receive_count: int = 0
    body: str | None = None
    result: Any = None
    note: str = ""  # what is not known, and why
