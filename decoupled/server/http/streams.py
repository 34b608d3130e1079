"""Streams of events, each to one client: what becomes of a message, until it has ended; or of all that a caller sends
to a workload, for as long as one likes. A client that takes nothing is sent nothing more: what it has missed is in the
table, and read when it goes on, here or in another connection."""

from __future__ import annotations

from collections.abc import Callable

from decoupled.core import limits
from decoupled.core.outcomes import Record
from decoupled.core.problem import Problem, Response
from decoupled.core.status import ENDED
from decoupled.core.workload import Unavailable
from decoupled.engines.protocols import Ends, Position
from decoupled.pipeline import events
from decoupled.pipeline.call import Call
from decoupled.server.http.comments import Comments
from decoupled.server.http.exchange import Reply, Sink
from decoupled.server.http.hearing import Hearing
from decoupled.server.http.request import Request


class Streams:
    """Of one process. `admit` makes the call of a request anew, and raises Problem if it may not be made any more: its
    key may have been revoked, its token have ended."""

    def __init__(self, hearing: Hearing, ends: Ends, admit: Callable[[Request], Call]) -> None:
        self.hearing = hearing
        self.ends = ends
        self.admit = admit
        self.comments = Comments(hearing.loop)

    def of_record(self, call: Call, request: Request, reply: Reply) -> None:
        """Answer with what becomes of the call's message. Raises Problem: 404, 406 or 503."""
        record = self.hearing.read(call)
        events.require_accepted(call.headers.get("accept"), by_name=False)
        final_id = events.final_id(record)
        if request.method == "HEAD":
            reply(events.HEAD)
        elif final_id is not None and call.headers.get("last-event-id") == final_id:
            reply(Response(204, {}, b""))  # to an EventSource it says that there is nothing more to come
        else:
            self._require_room(call)
            reply(RecordEvents(self, call, request, record))

    def of_caller(self, call: Call, request: Request, reply: Reply) -> None:
        """Answer with the ends of all that the call's caller sends to its workload. Raises Problem: 400, 404, 406 or
        503."""
        workload = self.hearing.workloads.get(call.path[0])
        if workload is None or workload.internal:
            raise Problem(404, f"There is no workload {call.path[0][:64]!r} here.")
        events.require_accepted(call.headers.get("accept"), by_name=True)
        last = call.headers.get("last-event-id")
        position = None if not last else events.position_of(last)
        if request.method == "HEAD":
            reply(events.HEAD)
        else:
            self._require_room(call)
            CallerEvents(self, call, request, reply, position).ask()

    def _require_room(self, call: Call) -> None:
        if not self.hearing.has_room(call.caller):
            raise Problem(503, "Too many clients wait for events.", resend="safe", retry_after_s=1)


class _Events:
    """What both kinds have in common. Implements Stream and Listener."""

    head = events.HEAD

    def __init__(self, streams: Streams, call: Call, request: Request) -> None:
        self._streams = streams
        self._hearing = streams.hearing
        self._call = call
        self._request = request
        self._sink: Sink | None = None
        self._done = False
        self._behind = False  # there may be more, which could not be sent or read
        self._over = self._hearing.closed  # nothing more is to come from this process
        self._hearing.hold(self, request, call.caller)

    def comment(self) -> None:
        """Say that the stream goes on, if it may; and see whether the client is still there."""
        if self._sink is not None and not self._done and self._sink.takes_more:
            try:
                self._streams.admit(self._request)
                self._sink.send(events.COMMENT)
                self.go_on()
            except Problem as problem:
                self._cannot(problem)

    def go_on(self) -> None:
        if self._behind:
            self._behind = False
            self._look()

    def _look(self) -> None:
        """Read what is new, soon."""
        raise NotImplementedError

    def end(self) -> None:
        self._over = True
        if self._sink is not None:
            self._finish()

    def forget(self) -> None:
        if not self._done:
            self._done = True
            self._request.held = None  # which refers to this, as this does to it by its sink
            self._hearing.release(self)
            self._streams.comments.leave(self)
            self._leave()

    def _cannot(self, problem: Problem) -> None:
        """It goes on later if that is for a time only, as when the table is sick; else it is over."""
        self._behind = problem.status == 503
        if not self._behind:
            self._finish()

    def _finish(self) -> None:
        if not self._done and self._sink is not None:
            self.forget()
            self._sink.finish()

    def _leave(self) -> None:
        """Whatever it listens to."""
        raise NotImplementedError


class RecordEvents(_Events):
    """Of one message."""

    def __init__(self, streams: Streams, call: Call, request: Request, record: Record) -> None:
        super().__init__(streams, call, request)
        self._record = record
        self._listening = False

    def begin(self, sink: Sink) -> None:
        self._sink = sink
        sink.send(events.FIRST + events.of_record(self._record))
        if self._record.status in ENDED or self._over:
            self._finish()
        else:
            self._streams.comments.join(self)
            self._listen()

    def _listen(self) -> None:
        self._listening = True
        self._hearing.watching.listen(self._record.id, self)

    def _leave(self) -> None:
        if self._listening:
            self._hearing.watching.leave(self._record.id, self)

    def watched(self) -> None:
        self._look()

    def ended(self) -> None:
        self._listening = False
        self._look()

    def refused(self, _why: str) -> None:
        self._finish()

    def _look(self) -> None:
        if not self._done:
            self._hearing.reads.take(self._read)

    def _read(self) -> None:
        if self._done or self._sink is None:
            return
        try:
            record = self._hearing.read(self._streams.admit(self._request))
        except Problem as problem:
            self._cannot(problem)
            return
        if record.status in ENDED:
            self._sink.send(events.of_record(record))
            self._finish()
        elif not self._listening:  # it had ended, and somebody has put it back
            self._listen()


class CallerEvents(_Events):
    """Of all that a caller sends to a workload.

    ask ─▶ watched: from now on ends have positions ─▶ the head ─▶ page after page ─▶ told of ends: what is new
    """

    def __init__(self, streams: Streams, call: Call, request: Request, reply: Reply, position: Position | None) -> None:
        super().__init__(streams, call, request)
        self._reply = reply
        self._position = position
        self._topic = (call.path[0], call.caller)
        self._looking = False
        self._timer = self._hearing.loop.call_later(limits.WRITER_SILENT_S, self.refused, "it is not known in time")

    def ask(self) -> None:
        """Have it watched, and then answer."""
        self._hearing.watching.listen(self._topic, self)

    def _leave(self) -> None:
        self._timer.cancel()
        self._hearing.watching.leave(self._topic, self)

    def end(self) -> None:
        if self._sink is None and not self._done:
            self._over = True
            self._reply(self)
        else:
            super().end()

    def watched(self) -> None:
        self._look()

    def ended(self) -> None:
        self._look()

    def refused(self, why: str) -> None:
        if self._sink is not None:
            self._finish()
        elif not self._done:
            self.forget()
            detail = f"No events can be had now: {why}"
            self._reply(Problem(503, detail, resend="safe", retry_after_s=1).response())

    def begin(self, sink: Sink) -> None:
        self._sink = sink
        self._timer.cancel()
        if self._position is None:  # it ends before it has begun
            sink.send(events.FIRST + b"\n")
        else:
            sink.send(events.start(self._position))
        if self._over:
            self._finish()
        else:
            self._streams.comments.join(self)
            self._look()

    def _look(self) -> None:
        if not self._looking and not self._done:
            self._looking = True
            self._hearing.reads.take(self._read)

    def _read(self) -> None:
        self._looking = False
        if self._done:
            return
        try:
            if self._sink is None or self._position is None:
                self._start()
            elif self._sink.takes_more:
                self._streams.admit(self._request)
                self._send_page(self._sink, self._position)
            else:
                self._behind = True
        except Problem as problem:
            if self._sink is not None:
                self._cannot(problem)
            else:
                self.forget()
                self._reply(problem.response())
        except Unavailable as error:
            self._behind = True
            if self._sink is None:
                self.refused(f"the table does not answer: {error}")

    def _start(self) -> None:
        span = self._streams.ends.span(*self._topic)
        if span is None:
            raise Problem(503, "No events can be had now.", resend="safe", retry_after_s=1)
        since, until = span
        if self._position is None:
            self._position = until
        elif not since <= self._position <= until:
            raise Problem(
                400, "From this Last-Event-ID on it is not known any more what has ended: begin anew, without it."
            )
        self._reply(self)

    def _send_page(self, sink: Sink, position: Position) -> None:
        found, more = self._streams.ends.after(*self._topic, position, limits.EVENTS_AT_ONCE, limits.EVENTS_BYTES)
        if found:
            sink.send(b"".join([events.of_end(position, record) for position, record in found]))
            self._position = found[-1][0]
        if more and sink.takes_more:
            self._look()
        else:
            self._behind = more
