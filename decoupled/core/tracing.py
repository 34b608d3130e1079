"""The spans that are made on the way of a message, and how one leads to the next:

    POST /orders ─▶ send orders ─▶ process orders ─▶ process notifications ─▶ POST (the webhook)
                       └ commit        └ commit            └ commit

Who makes them is `active`, which a process has where its environment asks for traces; without it, and for what is not
sampled, none is made. Knows the names, not OpenTelemetry."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Literal, Protocol
from urllib.parse import SplitResult

import msgspec

from decoupled.core import semconv, traces
from decoupled.core.outcomes import Commit, Decision, Delivery, Failure, Reject
from decoupled.core.workload import Message

Kind = Literal["server", "producer", "consumer", "internal", "client"]
Attributes = Mapping[str, str | int]


class Span(Protocol):
    """What happens, from when it began. `trace` is the context in it, as a message carries it. Nothing of this
    raises."""

    trace: str
    tracer: Tracer

    def enter(self) -> None:
        """From here on, in this context (contextvars), libraries that make spans of their own make them below it."""
        ...

    def name(self, name: str, attributes: Attributes) -> None:
        """What is known of it by now."""
        ...

    def end(self, attributes: Attributes | None = None, error: Error | None = None) -> None:
        """It is over."""
        ...


class Error(msgspec.Struct, frozen=True):
    """Why what happened came to nothing: by its type, and what is known beside that."""

    type: str
    text: str = ""
    traceback: str | None = None
    raised: bool = False  # it is an exception


class Tracer(Protocol):
    """Makes spans, and never raises. `system` is what the queue is called."""

    system: str

    def request(self, name: str, parent: str, attributes: Attributes) -> Span | None:
        """A client's request begins; `parent` is the context that it came with. None if it is not sampled."""
        ...

    def span(self, kind: Kind, name: str, parent: str, attributes: Attributes, began_ns: int | None = None) -> Span:
        """Something begins, or began then, of what is sampled."""
        ...


active: Tracer | None = None
"""This process's. What changes it is its start."""

_here: ContextVar[str] = ContextVar("trace_here", default="")
"""The context that a call to others goes on with."""


# --- a request, and what it sends


def request(method: str, path: str, scheme: str, headers: Mapping[str, str]) -> tuple[Span | None, str]:
    """The span of a client's request, if it is sampled; and the context that its messages carry where it is not: the
    client's own, who knows that it is not."""
    if active is None:
        return None, ""
    parent = traces.carried(headers)
    attributes = {semconv.HTTP_REQUEST_METHOD: method, semconv.URL_PATH: path, semconv.URL_SCHEME: scheme}
    span = active.request(semconv.request(method, ""), parent, attributes)
    return span, "" if span is not None or traces.sampled(parent) else parent


def responded(span: Span, status: int) -> None:
    """The answer is on its way."""
    error = Error(str(status)) if status >= 500 else None
    span.end({semconv.HTTP_RESPONSE_STATUS_CODE: status}, error)


def sending(parent: Span, method: str, messages: Sequence[Message]) -> tuple[Span, Sequence[Message]]:
    """Messages of one workload are about to be sent: the span of that, and they as they are to be sent."""
    workload = messages[0].workload
    route = f"/{workload}"
    parent.name(semconv.request(method, route), {semconv.HTTP_ROUTE: route})
    attributes = _messaging(parent.tracer, "send", workload)
    if len(messages) == 1:
        attributes[semconv.MESSAGING_MESSAGE_ID] = messages[0].id
    else:
        attributes[semconv.MESSAGING_BATCH_MESSAGE_COUNT] = len(messages)
    span = parent.tracer.span("producer", semconv.send(workload), parent.trace, attributes)
    return span, stamped(messages, span.trace)


def stamped(messages: Iterable[Message], trace: str) -> list[Message]:
    """The messages with a context."""
    return [msgspec.structs.replace(message, trace=trace) for message in messages]


def sent(span: Span, why_not: str = "") -> None:
    """They are durable, or not all of them."""
    span.end(error=Error("not_sent", why_not) if why_not else None)


# --- a message is decided


def begun(message: Message) -> tuple[Message, Callable[[Decision], Decision]]:
    """A message that carries a context is being decided: as its workload gets it, with the context of the span, and
    what makes of its decision one that goes on with that. From here on, in this context (contextvars), calls to others
    do."""
    span = _processing(message)
    if span is None:
        _here.set(message.trace)
        return message, _as_it_is
    _here.set(span.trace)
    span.enter()
    return msgspec.structs.replace(message, trace=span.trace), lambda decision: _decided(span, decision)


def traced(message: Message, decide: Callable[[Message], Decision]) -> Decision:
    """The same, of one that is decided here and now: what is set for it is set for it only."""
    return contextvars.copy_context().run(_traced, message, decide)


def _traced(message: Message, decide: Callable[[Message], Decision]) -> Decision:
    message, decided = begun(message)
    return decided(decide(message))


def _processing(message: Message) -> Span | None:
    if (tracer := active) is None or not traces.sampled(message.trace):
        return None
    attributes = _messaging(tracer, "process", message.workload)
    attributes[semconv.MESSAGING_MESSAGE_ID] = message.id
    return tracer.span("consumer", semconv.process(message.workload), message.trace, attributes)


def _decided(span: Span, decision: Decision) -> Decision:
    match decision:
        case Commit():
            span.end({semconv.OUTCOME: "processed"})
        case Reject():
            span.end({semconv.OUTCOME: "rejected"})
        case Failure(kind=kind, error_type=error_type, error=text, traceback=traceback):
            span.end({semconv.OUTCOME: kind}, Error(error_type or kind, text, traceback, raised=True))
            return decision
    return msgspec.structs.replace(decision, trace=span.trace)


def _as_it_is(decision: Decision) -> Decision:
    return decision


def _messaging(tracer: Tracer, operation: str, workload: str) -> dict[str, str | int]:
    return {
        semconv.MESSAGING_SYSTEM: tracer.system,
        semconv.MESSAGING_DESTINATION_NAME: workload,
        semconv.MESSAGING_OPERATION_NAME: operation,
        semconv.MESSAGING_OPERATION_TYPE: operation,
    }


# --- a commit


def committed(contexts: Collection[str], what: str, began_ns: int) -> None:
    """A transaction that began then has just become durable, with something of each of these contexts."""
    if (tracer := active) is None:
        return
    for trace in {it for it in contexts if traces.sampled(it)}:
        tracer.span("internal", semconv.COMMIT, trace, {semconv.COMMITTED: what}, began_ns).end()


def of_decided(decided: Iterable[tuple[Delivery, Decision]]) -> list[str]:
    """The contexts that what follows decisions goes on with."""
    return [decision.trace for _, decision in decided if not isinstance(decision, Failure) and decision.trace]


# --- calls to others


class Calling:
    """A call to another system, of a message that carries a context: nothing where it carries none. `headers` are those
    of a request that goes on with it."""

    __slots__ = ("_attributes", "_span", "headers")

    def __init__(self, name: str, attributes: Attributes) -> None:
        trace = _here.get()
        self._span: Span | None = None
        self._attributes: dict[str, str | int] = {}
        if (tracer := active) is not None and traces.sampled(trace):
            self._span = tracer.span("client", name, trace, attributes)
            trace = self._span.trace
        self.headers = traces.headers(trace)

    def answered(self, status: int) -> None:
        """With an HTTP status."""
        self._attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = status

    def __enter__(self) -> Calling:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _traceback: object) -> None:
        if self._span is None:
            return
        status = self._attributes.get(semconv.HTTP_RESPONSE_STATUS_CODE)
        if isinstance(status, int) and status >= 400:
            self._span.end(self._attributes, Error(str(status)))
        elif kind is not None:
            self._span.end(self._attributes, Error(kind.__qualname__, str(error), raised=True))
        else:
            self._span.end(self._attributes)


def posting(url: SplitResult) -> Calling:
    """A POST. Of its URL, what comes behind the host may hold a secret."""
    attributes: dict[str, str | int] = {
        semconv.HTTP_REQUEST_METHOD: "POST",
        semconv.URL_FULL: f"{url.scheme}://{url.netloc.rpartition('@')[2]}/REDACTED",
        semconv.SERVER_ADDRESS: url.hostname or "",
        semconv.SERVER_PORT: url.port or (443 if url.scheme == "https" else 80),
    }
    return Calling(semconv.request("POST", ""), attributes)


def mailing(host: str, port: int | None) -> Calling:
    """An e-mail is handed over."""
    attributes: dict[str, str | int] = {semconv.NETWORK_PROTOCOL_NAME: "smtp", semconv.SERVER_ADDRESS: host}
    return Calling(semconv.SEND_MAIL, attributes | ({semconv.SERVER_PORT: port} if port else {}))
