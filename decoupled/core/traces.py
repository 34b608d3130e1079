"""A trace's context as a message carries it, between whoever sends and whoever decides: W3C's traceparent, and a space
and tracestate behind it where there is one; and the same in X-Ray's words, which SQS carries. Strict on the way in:
what is not exactly as its specification has it is no context, and a new trace begins. Pure.

    traceparent       00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01       www.w3.org/TR/trace-context-1
    X-Amzn-Trace-Id   Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1
                                       docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html, "Tracing header"
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from decoupled.core import limits

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_FLAGS = slice(53, 55)
_PLAIN = 55  # characters of a context without tracestate
NO_TRACE_ID, NO_SPAN_ID = "0" * 32, "0" * 16

# A member of tracestate: its key, with a tenant or without, and its value, which ends in no space.
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(rf"({_KEY})=[ !-+\--<>-~]{{0,255}}[!-+\--<>-~]", re.ASCII)


def carried(headers: Mapping[str, str]) -> str:
    """The context that a request comes with, as a message carries it; "" where there is none, or none that is valid.
    Names are in lower case. Where both are there, W3C's counts."""
    if (parent := headers.get("traceparent")) is not None:
        return _of_w3c(parent, headers.get("tracestate", ""))
    if (amazon := headers.get("x-amzn-trace-id")) is not None:
        return of_xray(amazon)
    return ""


def kept(text: str) -> str:
    """What another process says that a message carries, if it is that; else ""."""
    parent, _, state = text.partition(" ")
    return _of_w3c(parent, state)


def _of_w3c(parent: str, state: str) -> str:
    parent = parent.strip(" \t")
    found = _PARENT.fullmatch(parent) if len(parent) <= limits.MAX_TRACEPARENT_CHARS else None
    if found is None:
        return ""
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or trace_id == NO_TRACE_ID or span_id == NO_SPAN_ID:
        return ""
    return context(trace_id, span_id, int(flags, 16) & 1 == 1, state)


def context(trace_id: str, span_id: str, sampled: bool, state: str = "") -> str:
    """As a message carries it, of ids in hexadecimal digits; without a tracestate that is none, or too long."""
    text = f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"
    state = _state(state)
    return f"{text} {state}" if state else text


def _state(header: str) -> str:
    """Without its empty members; "" if one is none, or a key comes twice: then nobody can tell what it says."""
    if not header or len(header) > limits.MAX_TRACESTATE_CHARS:
        return ""
    members = [member for part in header.split(",") if (member := part.strip(" \t"))]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {each[1] for each in found if each is not None}
    return ",".join(members) if len(keys) == len(members) <= limits.MAX_TRACESTATE_MEMBERS else ""


# --- parts of what a message carries


def sampled(trace: str) -> bool:
    """Whether spans are made of it."""
    return trace[_FLAGS] == "01"


def trace_id(trace: str) -> str:
    """Its 32 hexadecimal digits."""
    return trace[3:35]


def span_id(trace: str) -> str:
    """The parent's 16 hexadecimal digits."""
    return trace[36:52]


def state(trace: str) -> str:
    """Its tracestate, or ""."""
    return trace[_PLAIN + 1 :]


def headers(trace: str) -> dict[str, str]:
    """Of a request that goes on with it."""
    if not trace:
        return {}
    lines = {"traceparent": trace[:_PLAIN]}
    return lines | {"tracestate": state(trace)} if len(trace) > _PLAIN else lines


# --- X-Ray


def xray(trace: str) -> str:
    """The same as AWSTraceHeader has it. Since 2023, X-Ray takes W3C's ids as they are: the first eight digits need
    not be a time."""
    root = f"1-{trace[3:11]}-{trace[11:35]}"
    return f"Root={root};Parent={span_id(trace)};Sampled={1 if sampled(trace) else 0}"


_ROOT = re.compile("1-([0-9a-f]{8})-([0-9a-f]{24})", re.ASCII)
_SPAN = re.compile("[0-9a-f]{16}", re.ASCII)


def of_xray(header: str) -> str:
    """The other way round. What has no parent, as API Gateway makes it, or no decision yet, is no context."""
    if len(header) > limits.MAX_TRACEPARENT_CHARS:
        return ""
    fields = dict(part.strip(" \t").partition("=")[::2] for part in header.split(";"))
    root, parent = _ROOT.fullmatch(fields.get("Root", "")), fields.get("Parent", "")
    if root is None or not _SPAN.fullmatch(parent) or fields.get("Sampled") not in ("0", "1"):
        return ""
    if parent == NO_SPAN_ID or root[1] + root[2] == NO_TRACE_ID:
        return ""
    return context(root[1] + root[2], parent, fields["Sampled"] == "1")
