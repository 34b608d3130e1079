"""Waiting for what a message comes to (`Prefer: wait=N`) where nobody tells of it: its record is read again, after
pauses that grow. For functions on AWS, which are billed for the time. What is accepted stays so: whatever goes wrong
with a wait, its client gets the answer that it would have got without."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from decoupled.core import limits
from decoupled.core.outcomes import Record
from decoupled.core.problem import Problem, Response
from decoupled.core.signed_ids import bits
from decoupled.core.status import ENDED
from decoupled.core.times import now_ms
from decoupled.core.workload import Message, Workloads
from decoupled.engines.protocols import Producer, Table
from decoupled.pipeline import status
from decoupled.pipeline.call import Call
from decoupled.pipeline.issued import Issued, is_another
from decoupled.pipeline.prefer import applied, wait_s
from decoupled.pipeline.receiver import admit, respond

log = logging.getLogger("decoupled.waiting")


class Waiting:
    """How long this call may wait: as its client prefers, and within what the function has left."""

    def __init__(
        self,
        remaining_s: Callable[[], float],
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._remaining_s = remaining_s
        self._pause = pause
        self._clock = clock

    def granted_s(self, call: Call) -> int:
        """Whole seconds; 0 for a client that does not prefer to wait, or cannot."""
        wanted = wait_s(call.headers.get("prefer"))
        return max(0, min(wanted, int(self._remaining_s() - limits.WAIT_RESERVED_S))) if wanted else 0

    def ended(self, look: Callable[[], Record | None], seconds: int) -> Record | None:
        """Look at a record until it has ended, or for so many seconds. Returns it as it was seen last. Raises what
        `look` raises."""
        until, pause_s = self._clock() + seconds, limits.WAIT_FIRST_PAUSE_S
        record = look()
        while (record is None or record.status not in ENDED) and (left_s := until - self._clock()) > 0:
            self._pause(min(pause_s, left_s))
            pause_s = min(pause_s * limits.WAIT_PAUSE_GROWTH, limits.WAIT_PAUSE_CAP_S)
            record = look()
        return record


def receive(
    call: Call, producer: Producer, workloads: Workloads, issued: Issued, table: Callable[[], Table], waiting: Waiting
) -> Response:
    """As `receiver.receive`; and for a client that prefers to wait, 200 with the record of a single entry, if that has
    ended in time. The table is called only for that, and only when the queue has the message."""
    admission = admit(call, workloads, now_ms())
    response = respond(admission, producer.send(admission.messages), issued.shown)
    if response.status != 202 or admission.indexes is not None or not (seconds := waiting.granted_s(call)):
        return response
    (message,) = admission.messages
    try:
        reader = table()
        record = waiting.ended(lambda: _record(message, reader), seconds)
        answer = response if record is None or record.status not in ENDED else _final(message, record, issued, response)
    except Problem as problem:
        return problem.response()
    except Exception:  # the queue has the message: from here on, no trouble of ours may say otherwise
        log.exception("not waited")
        return response
    return applied(answer, seconds)


def _record(message: Message, table: Table) -> Record | None:
    record = table.get(message.id)
    if record is None or record.caller != message.caller:
        return None  # or somebody else's, of a version that had natural keys without callers
    return None if message.digest and is_another(record, bits(message.digest)) else record


def _final(message: Message, record: Record, issued: Issued, accepted: Response) -> Response:
    found = status.shown(msgspec.structs.replace(record, id=issued.shown(message)))
    return msgspec.structs.replace(found, headers={**found.headers, "location": accepted.headers["location"]})


def read(call: Call, table: Table, workloads: Workloads, issued: Issued, waiting: Waiting) -> Response:
    """As `status.read`; and for a client that prefers to wait, when the record has ended, or its time is up."""
    seconds = waiting.granted_s(call) if len(call.path) == _RECORD else 0
    if not seconds:
        return status.read(call, table, workloads, issued)
    seen: list[Record] = []

    def look() -> Record:
        seen[:] = [status.look(call, table, workloads, issued)]
        return seen[0]

    try:
        waiting.ended(look, seconds)
    except Problem as problem:
        if problem.status == 404 and not seen:  # a listing, or nothing
            return status.read(call, table, workloads, issued)
        if problem.status != 503 or not seen:
            raise
        return status.shown(seen[0])
    return applied(status.shown(seen[0]), seconds)


_RECORD = 2  # parts of a record's path, and of a listing's, of which there is nothing to wait for
