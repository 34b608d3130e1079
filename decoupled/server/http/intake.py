"""From the bytes that a client sends to the requests that wait their turn. How much is looked at and how much waits is
decided here; what the bytes mean, in the parser. No socket, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from decoupled.core import limits
from decoupled.core.problem import Problem
from decoupled.server.http.parser import Reader
from decoupled.server.http.request import Request


class Intake:
    """Of one connection. While a request waits nothing more is looked at: what was read stays as it came, which takes
    a fraction of the memory. `kept` are the bytes of it all."""

    def __init__(self, proceed: Callable[[], None]) -> None:
        """`proceed` is called when the client waits for a word before it sends a body, and nothing else comes first."""
        self.reader = Reader(self)
        self.waiting: deque[Request | Problem] = deque()  # a problem is the last
        self.rest = b""  # of what was read, not looked at yet
        self._proceed = proceed
        self._ignored_bytes = 0
        self._part: tuple[Request | None, int] = (None, 0)  # how far the request that is being read had come

    @property
    def kept(self) -> int:
        """Bytes."""
        kept = self.reader.kept + len(self.rest)
        if self.waiting:
            kept += sum(request.kept for request in self.waiting if isinstance(request, Request))
        return kept

    @property
    def has_more(self) -> bool:
        """Than the request that was taken last."""
        return bool(self.waiting or self.rest)

    @property
    def is_busy(self) -> bool:
        """With any request, whole or not, or a refusal."""
        return self.has_more or self.reader.reading is not None or self.reader.refusing

    def receive(self, data: bytes) -> bool:
        """Look at what came, as far as the first request in it. False: the client sends what nobody will look at. Most
        clients look for a refusal only when they have sent everything; if that is not too much, they may."""
        if self.reader.refusing:
            self._ignored_bytes += len(data)
            return self._ignored_bytes <= limits.MAX_DISCARDED_BYTES
        if len(data) <= limits.PIECE_BYTES and not (self.waiting or self.rest):
            self.reader.feed(data)
        else:
            self.rest += data
            self._look_at_rest()
        return True

    def next(self) -> Request | Problem | None:
        """Whose turn it is."""
        if self.rest and not self.waiting:
            self._look_at_rest()
        return self.waiting.popleft() if self.waiting else None

    def refuse(self, problem: Problem) -> None:
        """Read no further."""
        self.rest = b""
        self.reader.refuse(problem)

    def end(self) -> None:
        """The last answer is given: what still comes is no request."""
        self.forget()
        self.reader.refusing = True

    def forget(self) -> None:
        """Let go of everything that waits or is not whole."""
        self.waiting.clear()
        self.rest = b""
        self.reader.drop()

    def close(self) -> None:
        """The client has left."""
        self.forget()
        self.reader.close()
        del self._proceed

    def went_on(self) -> bool:
        """Whether the request that is being read has come to another part since this was asked last: it has begun, or
        its head is whole, or so many more bytes of its body are there."""
        request = self.reader.reading
        before = self._part
        body_parts = 1 + len(request.body) // limits.BODY_PART_BYTES if request is not None and request.has_head else 0
        self._part = (request, body_parts)
        return request is not None and self._part != before

    def _look_at_rest(self) -> None:
        """A piece at a time: what is too much shows at the end of a piece, when all that it brings is there."""
        rest, position = memoryview(self.rest), 0
        while position < len(rest) and not (self.waiting or self.reader.refusing):
            self.reader.feed(rest[position : position + limits.PIECE_BYTES])
            position += limits.PIECE_BYTES
        self.rest = b"" if self.reader.refusing else bytes(rest[position:])

    # --- what the reader finds ------------------------------------------------

    def whole(self, request: Request) -> None:
        self.waiting.append(request)

    def refused(self, problem: Problem) -> None:
        self.waiting.append(problem)

    def expects_continue(self) -> None:
        """Where an answer comes first, the client gets no word: then it sends the body anyway, a little later."""
        if not self.waiting:
            self._proceed()
