"""Whose fault a failure is, and so what follows from it: the one place where an exception, a time-out or a dead process
becomes a Failure. Pure.

| kind | whose fault | an attempt | then |
|---|---|---|---|
| unavailable | the backend's, or the network's: see `network.py` | no | later, as often as it takes |
| not_started | nobody's: the batch's time was used up before it, or its group waits | no | soon |
| not_yet | nobody's: it is not due yet, as the workload says | no | at its time |
| failed | the message's: its workload raised, killed its process, or took all the time | yes | later, or dead |
| undecodable | the message's, or its receiver is newer | no | later, for VERSION_SKEW_S; then dead |
| held | a bug's, or an unknown outage's: many fail like this, and none does not | no | later, as often as it takes |
| not_ours | its sender's: it is no message of the receiver's | yes | dead |
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from datetime import datetime

import msgspec

from decoupled.core import limits
from decoupled.core.outcomes import Delivery, Failure, FailureKind, Record
from decoupled.core.workload import NotYet, Unavailable
from decoupled.pipeline import network

FAIR_SHARE = 0.5  # of a batch's time: a message that was left less is not to blame for running out of it
NOT_STARTED = Failure("not_started", "NotStarted", "the function's time was used up by the messages before it")
BEHIND = Failure("not_started", "Behind", "a message of its group that came before it has to be delivered again")
KEPT_WAITING = Failure("not_started", "KeptWaiting", "others kept its process from going on until its time was up")
NOT_OURS = Failure("not_ours", "NotOurs", "the message has no workload attribute: it was not sent by the receiver")


def raised(error: BaseException) -> Failure:
    """Of what a workload raised, Rejected apart. Network trouble is the backend's, whatever client library met it.
    Never raises, whatever the exception is made of: its process would be taken for dead."""
    try:
        return _raised(error)
    except Exception as another:  # noqa: BLE001  a subclass may lack what its base has, say
        return Failure("failed", type(error).__name__, f"its exception cannot be read: {text(another)}")


def _raised(error: BaseException) -> Failure:
    if isinstance(error, BaseExceptionGroup):
        each = [_raised(one) for one in error.exceptions]
        if len(each) == 1 or all(failure.kind == "unavailable" for failure in each):
            return max(each, key=lambda failure: failure.retry_after_s or 0)
    if isinstance(error, Unavailable):
        return unavailable(error)
    if isinstance(error, NotYet):
        return not_yet(error)
    if (trouble := network.trouble(error)) is not None:
        return _failure("unavailable", error, trouble.retry_after_s)
    return _failure("failed", error, traceback_=_traceback(error))


def undecodable(error: Exception) -> Failure:
    """The body is not an entry of the workload's schema."""
    return _failure("undecodable", error)


def unknown_workload(name: str) -> Failure:
    """Nothing of that name is served here; a later deployment may."""
    return Failure("undecodable", "UnknownWorkload", f"workload {name!r} is not among those served here")


def unavailable(error: Unavailable) -> Failure:
    """A backend is sick, and may have said when to come again."""
    wish = getattr(error, "retry_after_s", None)  # of a workload's own, which may say anything, or be a subclass's
    return _failure("unavailable", error, wish if isinstance(wish, (int, float)) else None)


def not_yet(error: NotYet) -> Failure:
    """The workload says when it is time."""
    if isinstance(error.until, datetime):
        return Failure("not_yet", "NotYet", text(error), due_at=round(error.until.timestamp() * 1000))
    return Failure("not_yet", "NotYet", text(error), error.until)


def out_of_time(limit_s: float, whole_s: float | None, waiting: bool = False) -> Failure:
    """It was interrupted after `limit_s`, of the `whole_s` that its batch had; `waiting` for the network or not."""
    text = f"it took longer than the {limit_s:.1f} s that were left"
    if waiting:
        return Failure("unavailable", "TimeLimitExceeded", f"{text}, waiting for the network")
    blameless = whole_s is not None and limit_s < FAIR_SHARE * whole_s
    return Failure("not_started" if blameless else "failed", "TimeLimitExceeded", text)


# --- a run of the same failure


def alike(failure: Failure) -> str:
    """What two failures of one bug have in common: the error's type, and the line that raised it."""
    lines = [line.strip() for line in (failure.traceback or "").splitlines() if line.startswith("  File ")]
    return " ".join([failure.error_type, *lines[-1:]])


def held(failure: Failure) -> Failure:
    """Of a message that fails as all others do."""
    return msgspec.structs.replace(failure, kind="held")


# --- crashes: nothing was raised, the process is gone


def after_crash(deliveries: Sequence[Delivery], cause: str) -> Failure | None:
    """Of messages that were with a process when it died. One that was there alone is to blame; of several, nobody knows
    who was (None), and each must go again alone."""
    if len(deliveries) > 1:
        return None
    return Failure("failed", "Crashed", f"the process that worked on it died: {cause}")


def never_returned(record: Record, receive_count: int, max_attempts: int) -> Failure | None:
    """Of a message that was delivered before, by the attempts that its record says began; None as long as it may be
    innocent, and is to go again alone.

    What kills its process leaves a mark at every delivery. A table that is sick on and off leaves one now and then: the
    start is counted, and neither the commit nor the taking back gets through."""
    if record.attempts <= max_attempts or 2 * record.attempts <= receive_count:
        return None
    if record.error_type is not None:
        return Failure("failed", record.error_type, record.error or "", traceback=record.traceback)
    return Failure(
        "failed", "Crashed", f"{record.attempts - 1} attempts began and none returned: a crash or a time-out"
    )


def received_too_often(delivery: Delivery, now_ms: int) -> Record:
    """The dead record of a message that was handed out again and again and never settled."""
    message, tries = delivery.message, delivery.receive_count - 1
    return Record(
        id=message.id,
        workload=message.workload,
        status="dead",
        accepted_at=message.accepted_at,
        caller=message.caller,
        finished_at=now_ms,
        attempts=tries,
        error_type="MaxReceiveCountExceeded",
        error=f"received {tries} times and never settled: what took it died each time",
        last_failed_at=now_ms,
        body=message.body,
    )


# --- texts that every store takes: bounded, without unpaired surrogates


def _failure(
    kind: FailureKind, error: BaseException, retry_after_s: float | None = None, traceback_: str | None = None
) -> Failure:
    return Failure(kind, type(error).__name__, text(error), retry_after_s, traceback_)


def text(error: BaseException) -> str:
    """What an exception says."""
    try:
        said = str(error)
    except Exception as another:  # noqa: BLE001  it is the workload's, and may be anything
        said = f"it cannot be told: {type(another).__name__}"
    return said[: limits.MAX_ERROR_CHARS].encode(errors="replace").decode()


def _traceback(error: BaseException) -> str | None:
    """Where it was raised, without the frames of this package above it: the workload's and what it called. Its end
    tells most, so that is what is kept."""
    frames = traceback.extract_tb(error.__traceback__, limit=-limits.MAX_TRACEBACK_FRAMES)
    theirs = [frame for frame in frames if not frame.filename.startswith(_PIPELINE)]
    if not theirs:
        return None
    lines = "".join([*traceback.format_list(theirs), *traceback.format_exception_only(error)])
    return lines[-limits.MAX_TRACEBACK_CHARS :].encode(errors="replace").decode()


_PIPELINE = __file__.removesuffix("blame.py")
