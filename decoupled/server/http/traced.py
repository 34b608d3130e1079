"""The span of a client's request, from when it is whole until its answer is made, and of what it sends. There is none
of what is not sampled; nor anything of this where no traces are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from decoupled.core import tracing
from decoupled.core.outcomes import NotSent, Together
from decoupled.core.problem import Response
from decoupled.core.tracing import Span
from decoupled.core.workload import Message
from decoupled.server.http.exchange import Reply, Stream
from decoupled.server.http.request import Request


class Traced:
    """Implements Trace."""

    __slots__ = ("_method", "_passed", "_sending", "_span")

    def __init__(self, method: str, span: Span | None, passed: str) -> None:
        self._method = method
        self._span = span
        self._passed = passed  # a context that is not sampled, for those who come after us
        self._sending: Span | None = None

    def sending(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages as they are to be sent."""
        if self._span is None:
            return tracing.stamped(messages, self._passed)
        self._sending, messages = tracing.sending(self._span, self._method, messages)
        return messages

    def sent(self, outcome: Together) -> None:
        """What came of that."""
        if self._sending is not None:
            failed = outcome if isinstance(outcome, list) else [outcome]
            tracing.sent(self._sending, next((it.detail for it in failed if isinstance(it, NotSent)), ""))


def begin(request: Request, scheme: str, reply: Reply) -> Reply:
    """A client's request is whole. Returns how to reply to it."""
    path, _ = request.path_and_query()
    span, passed = tracing.request(request.method, path, scheme, request.headers)
    if span is None:
        request.traced = Traced(request.method, None, passed) if passed else None
        return reply
    request.traced = Traced(request.method, span, "")

    def replied(answer: Response | Stream) -> None:
        tracing.responded(span, (answer if isinstance(answer, Response) else answer.head).status)
        reply(answer)

    return replied
