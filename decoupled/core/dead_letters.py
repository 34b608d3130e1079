"""Dead letters as a person on call sees them: what they are, which ones are meant, how they are written to a file and
read back. What each engine does with its own stands in its `dead_letters.py`. Pure but for a file that is passed in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Annotated, Literal

import msgspec

from decoupled.core import identifiers, limits, traces
from decoupled.core.alike import alike
from decoupled.core.upkeep_limits import MAX_EDITED_BYTES, MAX_EDITOR_CHARS, MAX_EDITS

PURGED = "purged from the dead letters"
"""The reason of a message that was purged: rejected, for good, so that no stray delivery has an effect after all."""


class Edit(msgspec.Struct, frozen=True):
    """A change of a dead letter's body: when it was made (milliseconds since the epoch), who says to have made it, and
    the body that was there before."""

    at: int
    by: str
    body: str


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead message with its story. Times are milliseconds since the epoch.

    `buried_by` tells whether the processor gave it up, with an error to tell, or the queue did after too many receives:
    then whatever took it died each time, and there is no error. `sqs_deletes_at`: when SQS deletes its copy; None on
    one machine. `recorded`: the table keeps it, with its body, until it is redriven or purged."""

    id: str
    workload: str
    caller: str
    accepted_at: int
    dead_at: int
    group: str = ""
    attempts: int
    buried_by: Literal["processor", "queue"]
    error_type: str
    error: str
    first_failed_at: int | None = None
    last_failed_at: int | None = None
    traceback: str | None = None  # of the last failure, where it is known
    digest: str = ""  # of the entry, where its sender gave a key for it
    sqs_deletes_at: int | None = None
    recorded: bool = True
    body: str | None = None  # None where it was not asked for, or is not known
    callback: str = ""  # where its client wants to be told of the end; likewise
    trace: str = ""  # the context of the trace that it is part of; likewise
    edits: Sequence[Edit] = ()  # of its body, oldest first; where that was asked for


def unfit(letter: DeadLetter) -> str | None:
    """Why a dead letter cannot get this body, the last of whose `edits` has the one that it had; None if it can."""
    if letter.body is None or not letter.edits:
        return "there is no other body for it"
    if len(letter.body.encode(errors="replace")) > limits.MAX_ENTRY_BYTES:
        return f"its body would be over {limits.MAX_ENTRY_BYTES:,} bytes"
    if len(letter.group) > limits.MAX_GROUP_CHARS or len(letter.edits[-1].by) > MAX_EDITOR_CHARS:
        return "its group, or whoever changes it, has too long a name"
    return None


def too_many(edits: Sequence[Edit]) -> str | None:
    """Why no more changes are kept beside these."""
    if len(edits) >= MAX_EDITS:
        return f"its body was changed {MAX_EDITS} times already, and no more bodies are kept"
    if sum(len(edit.body.encode(errors="replace")) for edit in edits) > MAX_EDITED_BYTES:
        return f"the bodies that it had before have over {MAX_EDITED_BYTES:,} bytes, and no more are kept"
    return None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters. `error` is an error's type, or part of its text in either case; `alike`, what is left of type
    and text without what differs from one to the next (see `core/alike.py`)."""

    workload: str | None = None
    error: str | None = None
    dead_before: int | None = None
    dead_after: int | None = None
    alike: str | None = None

    def __contains__(self, letter: DeadLetter) -> bool:
        return (
            (self.workload is None or letter.workload == self.workload)
            and (self.dead_before is None or letter.dead_at <= self.dead_before)
            and (self.dead_after is None or letter.dead_at >= self.dead_after)
            and (
                self.error is None
                or letter.error_type == self.error
                or self.error.casefold() in letter.error.casefold()
            )
            and (self.alike is None or alike(letter.error_type, letter.error) == self.alike)
        )


@dataclass(frozen=True, slots=True)
class Some:
    """A part of those that are wanted, oldest first. `after`: there may be more; ask for those after that, which only
    its engine reads."""

    letters: list[DeadLetter]
    after: str | None


@dataclass(slots=True)
class Group:
    """Dead letters whose errors are alike, of one workload. Times are milliseconds since the epoch; `error` and
    `sample_id` are one's of them."""

    workload: str
    alike: str
    error_type: str
    error: str
    count: int
    oldest_at: int
    newest_at: int
    sample_id: str


@dataclass(slots=True)
class Groups:
    """Those that are wanted, by workload and error. `whole` is False where the time was up before all were counted;
    then `total` may be known all the same, as what the engine counts without a look at each."""

    groups: dict[tuple[str, str], Group] = field(default_factory=dict)
    whole: bool = True
    known: int = 0

    @property
    def counted(self) -> int:
        """How many there are in all groups."""
        return sum(group.count for group in self.groups.values())

    @property
    def total(self) -> int:
        """How many there are, as far as is known."""
        return max(self.known, self.counted)

    def add(self, more: Group) -> None:
        """Count some more, which are alike."""
        group = self.groups.setdefault((more.workload, more.alike), more)
        if group is not more:
            group.count += more.count
            group.oldest_at = min(group.oldest_at, more.oldest_at)
            group.newest_at = max(group.newest_at, more.newest_at)


def grouped(letters: Iterable[DeadLetter], late: Callable[[], bool] = lambda: False) -> Groups:
    """Dead letters by workload and error, one after the other; until it is `late`."""
    counted = Groups()
    for letter in letters:
        like, error = alike(letter.error_type, letter.error), letter.error[: limits.MAX_ALIKE_SEEN_CHARS]
        times = (letter.dead_at, letter.dead_at)
        counted.add(Group(letter.workload, like, letter.error_type, error, 1, *times, letter.id))
        if late():
            counted.whole = False
            break
    return counted


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done with one dead letter: `done` says what; nothing was done if it is None, and `why_not` says why."""

    done: str | None
    why_not: str = ""


# --- files: one dead letter a line, as JSON -------------------------------------

_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Text = Annotated[str, msgspec.Meta(max_length=limits.MAX_ENTRY_BYTES)]


class _EditLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at: _Time
    by: Annotated[str, msgspec.Meta(max_length=MAX_EDITOR_CHARS)]
    body: _Text


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dead letter with times that people read."""

    id: Annotated[str, msgspec.Meta(pattern=rf"^{identifiers.PATTERN}\Z")]
    workload: Annotated[str, msgspec.Meta(max_length=200)]
    caller: Annotated[str, msgspec.Meta(max_length=2_000)]
    group: Annotated[str, msgspec.Meta(max_length=limits.MAX_GROUP_CHARS)] = ""
    accepted_at: _Time
    dead_at: _Time
    attempts: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    buried_by: Literal["processor", "queue"]
    error_type: Annotated[str, msgspec.Meta(max_length=200)]
    error: Annotated[str, msgspec.Meta(max_length=limits.MAX_ERROR_CHARS)]
    first_failed_at: _Time | None = None
    last_failed_at: _Time | None = None
    traceback: Annotated[str, msgspec.Meta(max_length=limits.MAX_TRACEBACK_CHARS)] | None = None
    digest: Annotated[str, msgspec.Meta(max_length=200)] = ""
    sqs_deletes_at: _Time | None = None
    recorded: bool = True
    body: _Text | None = None
    callback: Annotated[str, msgspec.Meta(max_length=limits.MAX_CALLBACK_BYTES)] = ""
    trace: Annotated[str, msgspec.Meta(max_length=limits.MAX_TRACE_CHARS)] = ""
    edits: Annotated[tuple[_EditLine, ...], msgspec.Meta(max_length=MAX_EDITS)] | msgspec.UnsetType = msgspec.UNSET


_TIMES = [name for name in DeadLetter.__struct_fields__ if name.endswith("_at")]
_line = msgspec.json.Decoder(_Line)


class FileError(ValueError):
    """A file that cannot be imported: which line, and why. Nothing of it was."""


def encode(letter: DeadLetter) -> str:
    """A dead letter as a line of JSON, without its end."""
    values = msgspec.structs.asdict(letter)
    for name in _TIMES:
        if values[name] is not None:
            values[name] = datetime.fromtimestamp(values[name] / 1000, UTC)
    edits = [_EditLine(datetime.fromtimestamp(it.at / 1000, UTC), it.by, it.body) for it in letter.edits]
    values["edits"] = tuple(edits) or msgspec.UNSET  # so that an earlier version reads what it can
    return msgspec.json.encode(_Line(**values)).decode()


def decode(line: bytes) -> DeadLetter:
    """The dead letter that a line holds. Raises FileError."""
    try:
        values = msgspec.structs.asdict(_line.decode(line))
    except msgspec.DecodeError as error:
        raise FileError(str(error)) from error
    if values["body"] is None:
        raise FileError("it has no body, so that nothing could be redriven")
    if len(values["body"].encode(errors="replace")) > limits.MAX_ENTRY_BYTES:
        raise FileError(f"its body is over {limits.MAX_ENTRY_BYTES} bytes")
    for name in _TIMES:
        if values[name] is not None:
            values[name] = round(values[name].timestamp() * 1000)
    edits = values["edits"] or ()
    values["edits"] = tuple(Edit(round(it.at.timestamp() * 1000), it.by, it.body) for it in edits)
    values["trace"] = traces.kept(values["trace"])
    return DeadLetter(**values)


def read(file: IO[bytes]) -> Iterator[DeadLetter]:
    """The dead letters of a file, line by line; bounded, however large the file. Raises FileError."""
    for number in itertools.count(1):
        line = file.readline(limits.MAX_IMPORT_LINE_BYTES + 1)
        if not line:
            return
        if len(line) > limits.MAX_IMPORT_LINE_BYTES:
            raise FileError(f"line {number} is over {limits.MAX_IMPORT_LINE_BYTES} bytes")
        if line.strip():
            try:
                yield decode(line)
            except FileError as error:
                raise FileError(f"line {number}: {error}") from error
