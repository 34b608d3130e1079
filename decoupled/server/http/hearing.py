"""Who waits in this process for what messages come to, and how many may. Their ends are told of, so that nobody asks
again and again, and the record is read when there is something new to read.

    send ─▶ on the disk ─▶ it ends ─▶ read ─▶ 200 with the record       (Prefer: wait)
                  └─ N seconds ───────────▶ 202, as ever
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from decoupled.core import limits
from decoupled.core.outcomes import Record, Together
from decoupled.core.problem import Problem, Response
from decoupled.core.signed_ids import record_id
from decoupled.core.status import ENDED
from decoupled.core.workload import ANONYMOUS, Message, Workloads
from decoupled.engines.protocols import Table
from decoupled.pipeline import prefer, status
from decoupled.pipeline.call import Call
from decoupled.server.http.exchange import Reply
from decoupled.server.http.reads import Reads
from decoupled.server.http.request import Held, Request
from decoupled.server.http.watching import Watching
from decoupled.server.listening import places


class Hearing:
    """Of one process."""

    def __init__(
        self,
        watching: Watching,
        reads: Reads,
        table: Table,
        workloads: Workloads,
        loop: asyncio.AbstractEventLoop,
        of: int = 1,
    ) -> None:
        """One `of` so many processes that have clients."""
        self.watching = watching
        self.reads = reads
        self.table = table
        self.workloads = workloads
        self.loop = loop
        self.closed = False  # nobody waits any more, and who would is not kept
        self._held: dict[Held, str] = {}  # and whose they are
        self._of_caller: Counter[str] = Counter()
        self._most = max(1, limits.MAX_HEARERS * places(of) // limits.MAX_CLIENTS)
        self._most_of_caller = max(1, limits.MAX_HEARERS_OF_CALLER * places(of) // limits.MAX_CLIENTS)

    def read(self, call: Call) -> Record:
        """The record that the call names. Raises Problem."""
        return status.look(call, self.table, self.workloads)

    # --- how many -------------------------------------------------------------

    def has_room(self, caller: str) -> bool:
        """For one more of this caller's."""
        if len(self._held) >= self._most:
            return False
        return caller == ANONYMOUS or self._of_caller[caller] < self._most_of_caller

    def hold(self, held: Held, request: Request, caller: str) -> None:
        """It waits, and is told when it must not any more."""
        request.held = held
        self._held[held] = caller
        self._of_caller[caller] += 1

    def release(self, held: Held) -> None:
        """It waits no more. Harmless if it did not."""
        caller = self._held.pop(held, None)
        if caller is not None:
            self._of_caller[caller] -= 1
            if not self._of_caller[caller]:
                del self._of_caller[caller]

    def close(self) -> None:
        """This process lets nobody in any more: who waits is answered now, and streams end, to go on elsewhere."""
        self.closed = True
        for held in list(self._held):
            held.end()

    # --- Prefer: wait ---------------------------------------------------------

    def wait_for_sent(self, call: Call, seconds: int, request: Request, reply: Reply) -> Wait | None:
        """Wait for what is about to be sent; None if that cannot be had."""
        if self.closed or not self.has_room(call.caller):
            return None
        return Wait(self, call, seconds, request, reply)

    def get(self, call: Call, seconds: int, request: Request, reply: Reply) -> None:
        """Answer with a record, as it is when it has ended or the time is up. Raises Problem."""
        record = self.read(call)
        response = status.shown(record)
        if record.status in ENDED or self.closed or not self.has_room(call.caller):
            reply(response)
        else:
            Wait(self, call, seconds, request, reply).look_on(response)


class Wait:
    """One client's, for one message. Implements Held and Listener."""

    def __init__(self, hearing: Hearing, call: Call, seconds: int, request: Request, reply: Reply) -> None:
        self._hearing = hearing
        self._call = call
        self._seconds = seconds
        self._request = request
        self._reply = reply
        self._id = ""
        self._asked = False  # by GET: then its answer is the record, as it is
        self._looks_when_watched = False  # since it may have ended before
        self._otherwise: Response | None = None  # what is answered if it does not end in time; None: not sent yet
        self._timer: asyncio.TimerHandle | None = None
        self._listening = True
        self._over = False  # the time is up
        self._done = False
        hearing.hold(self, request, call.caller)

    def send(self, message: Message, known: bool, respond: Callable[[Together], Response]) -> None:
        """Send the message, and wait for its end. `known`: it may have been sent before, and have ended."""
        self._id = message.id
        self._call = Call([message.workload, message.id], "", {}, b"", self._call.caller, self._call.operator)

        def sent(outcome: Together) -> None:
            self._begin(respond(outcome), known)

        self._hearing.watching.send(message, self, sent)

    def look_on(self, response: Response) -> None:
        """The message has not ended, as the response says: wait for its end."""
        self._id = record_id(self._call.path[1])
        self._asked = self._looks_when_watched = True
        self._begin(response, False)
        self._hearing.watching.listen(self._id, self)

    def _begin(self, response: Response, known: bool) -> None:
        self._otherwise = response
        if self._done:
            self._hearing.watching.leave(self._id, self)  # it may have been watched after the client had gone
            return
        if response.status >= 400 or self._over:  # refused, or its place is wanted by now
            self._answer(response)
            return
        self._timer = self._hearing.loop.call_later(self._seconds, self.end)
        if known or not self._listening:
            self._look()

    # --- what is told ---------------------------------------------------------

    def watched(self) -> None:
        if self._looks_when_watched:
            self._look()

    def ended(self) -> None:
        self._listening = False
        if self._otherwise is not None:
            self._look()

    def refused(self, _why: str) -> None:
        self.end()

    def _look(self) -> None:
        if not self._done:
            self._hearing.reads.take(self._read)

    def _read(self) -> None:
        if self._done or self._otherwise is None:
            return
        try:
            record = self._hearing.read(self._call)
        except Problem as problem:
            # What was accepted is not refused because the table cannot be read.
            self._answer(problem.response() if self._asked else self._otherwise)
            return
        if record.status in ENDED or (self._over and self._asked):
            self._answer(self._shown(record))
        elif not self._listening:  # it had ended, and somebody has put it back
            self._listening = self._looks_when_watched = True
            self._hearing.watching.listen(self._id, self)

    def _shown(self, record: Record) -> Response:
        response = status.shown(record)
        if self._asked or self._otherwise is None:
            return response
        location = {"location": self._otherwise.headers["location"]}
        return Response(response.status, response.headers | location, response.body)

    # --- its end --------------------------------------------------------------

    def end(self) -> None:
        """Answer with what there is."""
        self._over = True
        if self._asked:
            self._look()
        elif self._otherwise is not None:
            self._answer(self._otherwise)

    def forget(self) -> None:
        self._leave()

    def _answer(self, response: Response) -> None:
        if self._done:
            return
        self._leave()
        self._reply(prefer.applied(response, self._seconds) if response.status < 400 else response)

    def _leave(self) -> None:
        if self._done:
            return
        self._done = True
        self._request.held = None
        if self._timer is not None:
            self._timer.cancel()
        self._hearing.release(self)
        if self._listening:
            self._hearing.watching.leave(self._id, self)
