"""The ids that a stack on AWS has given out: how they are shown, and what is known of one that comes back before the
table has a record for it. Pure, but for the table, which is passed in. On one machine the row is there with the 202,
and there is none of this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from decoupled.core import limits
from decoupled.core.identifiers import is_id
from decoupled.core.outcomes import REUSED, Record
from decoupled.core.problem import Problem
from decoupled.core.signed_ids import Opened, bits
from decoupled.core.status import FINAL
from decoupled.core.times import now_ms
from decoupled.core.workload import Message
from decoupled.engines.protocols import Table
from decoupled.pipeline.call import Call


class Keys(Protocol):
    """What ids are signed with: `IdKeys`, or what knows these as they are by now."""

    def shown(self, message: Message) -> str:
        """The id as its client gets it."""

    def open(self, shown: str, workload: str, caller: str | None) -> Opened | None:
        """What an id proves that comes back. Raises Unavailable where that cannot be known."""


class Issued:
    """The ids of a stack. `record_ttl_days`: how long final records are kept; 0 is for ever."""

    def __init__(self, keys: Keys, record_ttl_days: int = 0, clock_ms: Callable[[], int] = now_ms) -> None:
        self._keys = keys
        kept_s = record_ttl_days * 86_400 or limits.MAX_UNRECORDED_S
        self._unrecorded_ms = min(kept_s, limits.MAX_UNRECORDED_S) * 1000
        self._clock_ms = clock_ms

    def shown(self, message: Message) -> str:
        """The id as its client gets it."""
        return self._keys.shown(message)

    def find(self, shown: str, workload: str, call: Call, table: Table) -> Record | None:
        """The record of an id, under the id that was asked for; `queued` if it was given out and has none yet. None if
        there is nothing, or if it is another caller's. Raises Problem 422 where the record is another entry's, which
        came first under the same key; Unavailable."""
        opened = self._keys.open(shown, workload, None if call.sees_all else call.caller) if is_id(shown) else None
        record = None if opened is None else table.get(opened.id)
        if opened is None or (record is None and not self._still_queued(opened)):
            return None
        if record is None:
            accepted_at = opened.accepted_at or 0
            return Record(shown, workload, "queued", accepted_at, call.caller, due_at=opened.due_at)
        if opened.digest and (record.caller == call.caller or call.sees_all):
            is_another(record, opened.digest)
        return msgspec.structs.replace(record, id=shown)

    def _still_queued(self, opened: Opened) -> bool:
        """Until so long after it was accepted, or due, that it would have been processed and its record be gone."""
        return opened.issued and (opened.before is None or self._clock_ms() <= opened.before + self._unrecorded_ms)


def is_another(record: Record, digest: str) -> bool:
    """Whether the record is of another entry than these bits of a digest are. Raises Problem 422 if it is final; an
    open one, and that is a dead one too, is of whichever entry has failed, and the other one may still be applied."""
    if not record.digest or bits(record.digest) == digest:
        return False
    if record.status in FINAL:
        raise Problem(422, REUSED.detail)
    return True
