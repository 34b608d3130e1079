"""The front: a call becomes messages on the queue, and only then a 202. Validates, identifies, sends; it touches
nothing but the queue, so that no trouble behind the queue reaches the client.

    call → admit (pure) → queue.send → respond (pure)
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from decoupled.core import callbacks, limits
from decoupled.core.identifiers import derived_id, digest_of, event_id, keyed_id, new_id
from decoupled.core.outcomes import NotSent
from decoupled.core.problem import Problem, Response, answer
from decoupled.core.times import now_ms
from decoupled.core.validation import Fault, fault, faults
from decoupled.core.workload import ANONYMOUS, Message, Workload, Workloads, decoder
from decoupled.engines.protocols import Producer
from decoupled.pipeline.call import Call


def receive(call: Call, producer: Producer, workloads: Workloads, shown: Shown | None = None) -> Response:
    """Answer `POST /{workload}`: 202 once every accepted entry is durable, else why not. Raises Problem as `admit`."""
    admission = admit(call, workloads, now_ms())
    return respond(admission, producer.send(admission.messages), shown)


Shown = Callable[[Message], str]
"""A message's id as its client gets it, where that is not its id as it is."""


class Admission(msgspec.Struct):
    """What of a request may go on the queue. `indexes` are the messages' places in the array that was sent; None when
    it was a single object. `refused` maps the other places to why."""

    messages: list[Message]
    indexes: list[int] | None
    refused: dict[int, Problem]
    resend: str  # what a resend would do if it is not known whether the queue took a message
    rest: Iterable[None] = ()  # the entries still to be admitted: a pause before each; at its end, all are


def admit(
    call: Call, workloads: Workloads, now_ms: int, random_hex: Callable[[], str] = lambda: secrets.token_hex(9)
) -> Admission:
    """Route, decode, validate and identify. Pure: the clock and the random part of new ids are passed in.

    Raises Problem when the request as a whole is refused: 400, 404, 413, 415 or 422."""
    admission = begin(call, workloads, now_ms, random_hex)
    for _ in admission.rest:
        pass
    return admission


def begin(call: Call, workloads: Workloads, now_ms: int, random_hex: Callable[[], str]) -> Admission:
    """As `admit`, but the entries of a batch are still to be admitted: thousands take a while, in which whoever serves
    others too may pause."""
    workload = _route(call, workloads)
    headers, body, caller = call.headers, call.body, call.caller
    _require_json(headers.get("content-type", ""))
    _require_plain(headers.get("content-encoding", ""))
    if len(body) > limits.MAX_REQUEST_BYTES:
        raise Problem(413, f"The body has {len(body)} bytes; {limits.MAX_REQUEST_BYTES} is the limit.")
    key = idempotency_key(headers.get("idempotency-key"))
    delay_s = _delay_s(headers.get("delay"))
    due_at = now_ms + delay_s * 1000 if delay_s else None
    callback = headers.get("callback-url")
    if callback is not None:
        callbacks.check(callback, call.event, workload, workloads)
    most = limits.MAX_ENTRY_BYTES if delay_s <= limits.MAX_DELAY_S else limits.MAX_LATER_ENTRY_BYTES
    identify = _identifier(workload, call, key, now_ms, random_hex)
    keyed = key is not None and workload.natural_key is None and not call.event  # then an id says nothing of the entry
    resend = "safe" if key is not None or call.event or workload.natural_key else "with_idempotency_key"

    if not _is_array(body):
        text, entry = entry_of(body, workload, most)
        group = workload.group_of(entry, caller)
        digest = digest_of(body) if keyed else ""
        message = Message(
            identify(entry, 0), workload.name, text, caller, now_ms, group, due_at, digest, callback or ""
        )
        return Admission([message], None, {}, resend)

    if call.event:
        raise Problem(422, "A webhook is one event: a JSON object, and no array of them.")
    entries, indexes = _entries(body), list[int]()
    admission = Admission([], indexes, {}, resend)

    def admit_entries() -> Iterator[None]:
        may_be_named = limits.MAX_FAULTS_NAMED_IN_ALL
        for index, raw in enumerate(map(bytes, entries)):
            yield
            try:
                text, entry = entry_of(raw, workload, most, min(may_be_named, limits.MAX_FAULTS_NAMED))
            except Problem as problem:
                admission.refused[index] = problem
                may_be_named = max(0, may_be_named - len(problem.errors))
            else:
                message_id, group = identify(entry, index), workload.group_of(entry, caller)
                digest = digest_of(raw) if keyed else ""
                message = Message(
                    message_id, workload.name, text, caller, now_ms, group, due_at, digest, callback or ""
                )
                admission.messages.append(message)
                indexes.append(index)

    admission.rest = admit_entries()
    return admission


def respond(admission: Admission, outcomes: Sequence[NotSent | None], shown: Shown | None = None) -> Response:
    """Answer truthfully, entry by entry: what is durable, and why the rest is not."""
    if admission.indexes is None:
        (message,), (outcome,) = admission.messages, outcomes
        if outcome is not None:
            return _unsent(outcome, admission.resend).response()
        message_id = message.id if shown is None else shown(message)
        url = f"/{message.workload}/{message_id}"
        body = f'{{"id":"{message_id}","status_url":"{url}"}}'
        return Response(202, {"content-type": "application/json", "location": url}, body.encode())

    accepted = []
    refused = dict(admission.refused)
    for index, message, outcome in zip(admission.indexes, admission.messages, outcomes, strict=True):
        if outcome is None:
            message_id = message.id if shown is None else shown(message)
            url = f"/{message.workload}/{message_id}"
            accepted.append({"index": index, "id": message_id, "status_url": url})
        else:
            refused[index] = _unsent(outcome, admission.resend)
    rejected = [{"index": index, **problem.body()} for index, problem in sorted(refused.items())]
    status = 202 if accepted else max(problem.status for problem in refused.values())
    retry_after = [problem.retry_after_s for problem in refused.values() if problem.retry_after_s]
    headers = {name: value for problem in refused.values() for name, value in problem.headers.items()}
    if retry_after:
        headers["retry-after"] = str(max(retry_after))
    return answer(status, {"accepted": accepted, "rejected": rejected}, headers)


def _unsent(outcome: NotSent, resend: str) -> Problem:
    if not outcome.transient:
        return Problem(422, outcome.detail)
    quota = outcome.quota
    return Problem(
        503 if quota is None else 429,
        f"Not accepted: {outcome.detail}",
        resend=resend if outcome.unknown else "safe",
        retry_after_s=outcome.retry_after_s,
        headers=None if quota is None else {"ratelimit-policy": quota.ratelimit_policy, "ratelimit": quota.ratelimit},
    )


def _route(call: Call, workloads: Workloads) -> Workload:
    name = call.path[0] if call.path else ""
    workload = workloads.get(name)
    if workload is None or workload.internal:
        routes = ", ".join(other.name for other in workloads.values() if not other.internal)
        raise Problem(404, f"There is no workload {name[:64]!r} here; these are served: {routes}.")
    return workload


_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
# One media type, as RFC 9110 8.3.1 writes it: two of them, joined by a comma, are none. Each character can be taken in
# one way only, so that the time grows with the length and no faster. No group is possessive: before 3.11.5, Python
# takes such a one for matched where it is not.
_JSON = re.compile(
    rf"application/(?:json|[!#$%&'*.^_`|~0-9A-Za-z+-]+\+json)[ \t]*+"
    rf"(?:;[ \t]*+(?:{_WORD}=(?:{_WORD}|{_QUOTED})[ \t]*+)?)*",
    re.IGNORECASE | re.ASCII,
)


def _require_json(content_type: str) -> None:
    if content_type != "application/json" and not _JSON.fullmatch(content_type.strip(" \t")):
        said = content_type[:80] or "missing"
        accept = {"accept": "application/json"}
        raise Problem(415, f"Send one content-type: application/json; this was {said}.", headers=accept)


def _require_plain(content_encoding: str) -> None:
    if content_encoding and content_encoding.lower() != "identity":
        detail = f"Send the body as it is, without content-encoding; this was {content_encoding[:80]}."
        raise Problem(415, detail, headers={"accept-encoding": "identity"})


def _is_array(body: bytes | bytearray) -> bool:
    return body[:1] != b"{" and body.lstrip()[:1] == b"["  # to strip a body is to copy it


def _entries(body: bytes | bytearray) -> list[msgspec.Raw]:
    detail = f"A batch has 1 to {limits.MAX_BATCH_ENTRIES} entries."
    try:
        entries = [entry for entry in msgspec.structs.astuple(_batch_decoder().decode(body)) if entry]
    except msgspec.ValidationError as error:
        raise Problem(422, detail) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, f"The body is not JSON: {error}.") from error
    if not entries:
        raise Problem(422, detail)
    return entries


@functools.cache
def _batch_decoder() -> msgspec.json.Decoder[Any]:
    """Of an array with so many places. It stops at the first entry too many, where a list would be made of millions."""
    places = [(f"entry_{index}", msgspec.Raw, msgspec.Raw()) for index in range(limits.MAX_BATCH_ENTRIES)]
    return msgspec.json.Decoder(msgspec.defstruct("Batch", places, array_like=True, forbid_unknown_fields=True))


# SQS takes the characters of XML 1.0. JSON escapes the control characters; these two can still stand in it raw.
_NOT_IN_SQS = re.compile("[\ufffe\uffff]")


# Numbers that msgspec takes a hundred times as long for as for others: from 1e289 and down from 1e-308.
_FAR = re.compile(rb"[0-9]e[+-]?0*+[23][0-9]{2}(?![0-9])", re.IGNORECASE)
_SHORTEST = len("1e300,")


def entry_of(
    raw: bytes | bytearray, workload: Workload, most: int, faults_named: int = limits.MAX_FAULTS_NAMED
) -> tuple[str, Any]:
    """The text and the value of an entry of so many bytes at most. Raises Problem 400, 413, or 422 with so many faults,
    and with one if that is 0."""
    if len(raw) > most:
        later = "" if most == limits.MAX_ENTRY_BYTES else f" with a Delay over {limits.MAX_DELAY_S}"
        raise Problem(413, f"The entry has {len(raw)} bytes; {most} is the limit{later}.")
    if len(raw) > _SHORTEST * limits.MAX_FAR_EXPONENTS and len(_FAR.findall(raw)) > limits.MAX_FAR_EXPONENTS:
        raise Problem(422, f"The entry has over {limits.MAX_FAR_EXPONENTS} numbers like 1e300: send such as text.")
    try:
        text = raw.decode()
        try:
            entry = decoder(workload.schema).decode(raw)
        except msgspec.ValidationError as error:
            named = _named(raw, workload, faults_named) or [fault(error)]
            raise Problem(422, f"{len(named)} fault(s) in the entry.", errors=named) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"The entry is not JSON: {error}.") from error
    if not text.isascii() and _NOT_IN_SQS.search(text):
        raise Problem(422, "The entry has U+FFFE or U+FFFF, which are not characters.")
    return text, entry


def _named(raw: bytes | bytearray, workload: Workload, at_most: int) -> list[Fault]:
    """The faults of an entry that its schema refuses. Raises DecodeError when it is not JSON further on."""
    try:
        return faults(msgspec.json.decode(raw), workload.schema, at_most)
    except msgspec.ValidationError:
        return []  # JSON, with a number that no Python type holds


def idempotency_key(header: str | None) -> str | None:
    """The key: a Structured Field string ("cart-8417", in quotes) or the bare characters, as many services send it."""
    if header is None:
        return None
    header = header.strip()
    quoted = re.fullmatch(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', header)
    key = re.sub(r'\\(["\\])', r"\1", quoted[1]) if quoted else header
    if not (quoted or re.fullmatch(r"[!#-+\--~]+", key)) or not 0 < len(key) <= limits.MAX_IDEMPOTENCY_KEY_CHARS:
        raise Problem(
            400, f"Idempotency-Key is a string of 1 to {limits.MAX_IDEMPOTENCY_KEY_CHARS} visible ASCII characters."
        )
    return key


def _delay_s(header: str | None) -> int:
    """Seconds after which the request's messages are due."""
    if header is None:
        return 0
    if not _SECONDS.fullmatch(header) or int(header) > limits.MAX_LATER_S:
        raise Problem(400, f"Delay is a whole number of seconds, 0 to {limits.MAX_LATER_S}; this was {header[:40]!r}.")
    return int(header)


_SECONDS = re.compile("[0-9]{1,10}")


def _identifier(
    workload: Workload, call: Call, key: str | None, now_ms: int, random_hex: Callable[[], str]
) -> Callable[[Any, int], str]:
    """How entries get their ids: from the caller and the workload's natural key, or what the caller calls the event, or
    its key, or new. Nobody takes another one's key away; those who do not say who they are share theirs."""
    caller = call.caller
    if workload.natural_key is not None:
        natural_key = workload.natural_key
        if caller == ANONYMOUS:
            return lambda entry, _: derived_id(workload.name, "natural", natural_key(entry))
        return lambda entry, _: derived_id(workload.name, "natural", caller, natural_key(entry))
    if call.event:
        told = event_id(workload.name, caller, call.event)
        return lambda _, __: told
    if key is not None:
        return lambda _, index: keyed_id(workload.name, caller, key, index)
    return lambda _, index: new_id(now_ms, index, random_hex())
