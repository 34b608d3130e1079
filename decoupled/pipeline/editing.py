"""What the body of a dead letter would be if it were changed: held against its workload's schema as a request is, and
with the group that the workload gives it. Pure."""

from __future__ import annotations

import msgspec

from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter, Edit
from decoupled.core.problem import Problem
from decoupled.core.upkeep_limits import MAX_EDITOR_CHARS
from decoupled.core.workload import Workload
from decoupled.pipeline.receiver import entry_of


class NotFit(ValueError):  # noqa: N818  a verdict on the body
    """The body cannot be that one; says why, fault by fault."""


def edited(letter: DeadLetter, text: bytes, by: str, workload: Workload | None) -> tuple[DeadLetter, str]:
    """The letter with another body, as an engine's `edit` takes it; and what a person should know of that, or "".
    Without its workload only the form is looked at, and the group stays. Raises NotFit."""
    if letter.body is None:
        raise NotFit("its body is not kept, so that there is nothing to change")
    body, group, note = _json_of(text), letter.group, ""
    if workload is not None:
        group, note = _held_against(letter, text, workload)
    made = Edit(0, by[:MAX_EDITOR_CHARS], letter.body)  # whoever writes it says when
    return msgspec.structs.replace(letter, body=body, group=group, edits=(*letter.edits, made)), note


def _json_of(text: bytes) -> str:
    """The text, if a queue would take it. Of each engine: on AWS it is sent to SQS again."""
    if len(text) > limits.MAX_ENTRY_BYTES:
        raise NotFit(f"it has {len(text):,} bytes; {limits.MAX_ENTRY_BYTES:,} is the limit, as of every entry")
    try:
        msgspec.json.decode(text)
        decoded = text.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotFit(f"it is not JSON: {error}") from error
    if "\ufffe" in decoded or "\uffff" in decoded:
        raise NotFit("it has U+FFFE or U+FFFF, which are not characters")
    return decoded


def _held_against(letter: DeadLetter, text: bytes, workload: Workload) -> tuple[str, str]:
    try:
        _, entry = entry_of(text, workload, limits.MAX_ENTRY_BYTES)
    except Problem as problem:
        faults = [f"  {fault['pointer']}: {fault['detail']}" for fault in problem.errors]
        raise NotFit("\n".join([f"{workload.name} would not take it: {problem.detail}", *faults])) from problem
    group = workload.group_of(entry, letter.caller)
    notes = []
    if group != letter.group:
        notes.append(f"its group is {group!r} now, and was {letter.group!r}")
    if workload.natural_key is not None and _key_of(letter, workload) not in (None, workload.natural_key(entry)):
        notes.append("its natural key is another now: the same entry, when a client sends it, is another message")
    return group, "; ".join(notes)


def _key_of(letter: DeadLetter, workload: Workload) -> str | None:
    """The natural key that it was accepted with; None where that cannot be told any more."""
    try:
        _, before = entry_of((letter.body or "").encode(), workload, limits.MAX_ENTRY_BYTES, 0)
    except Problem:
        return None
    return None if workload.natural_key is None else workload.natural_key(before)
