"""Dead letters as a person on call sees them: what they are, which ones are meant, how they are written to a file and
read back. What each engine does with its own stands in `embedded/dead_letters.py` and `aws/dead_letters.py`; nothing
here talks to either, or to a terminal."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Annotated, Literal, Protocol

import msgspec

from decoupled import limits

PURGED = "purged from the dead letters"
"""The reason of a message that was purged: rejected, for good, so that no stray delivery has an effect after all."""


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
    attempts: int
    buried_by: Literal["processor", "queue"]
    error_type: str
    error: str
    first_failed_at: int | None = None
    last_failed_at: int | None = None
    sqs_deletes_at: int | None = None
    recorded: bool = True
    body: str | None = None  # None where it was not asked for, or is not known


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters. `error` is an error's type, or part of its text in either case."""

    workload: str | None = None
    error: str | None = None
    dead_before: int | None = None
    dead_after: int | None = None

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
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done with one dead letter: `done` says what; nothing was done if it is None, and `why_not` says why."""

    done: str | None
    why_not: str = ""


class DeadLetters(Protocol):
    """An engine's dead letters. Every method may raise `Unavailable`; doing anything again is safe."""

    def find(self, wanted: Wanted, bodies: bool = False) -> Iterator[DeadLetter]:
        """The wanted ones, oldest first; none that dies after the call."""
        ...

    def get(self, message_id: str) -> DeadLetter | None:
        """One, with its body."""
        ...

    def redrive(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        """Put them back on the queue, with no attempts counted. Durable when it returns."""
        ...

    def restore(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        """Make dead letters of what was exported. One that is there, or was processed meanwhile, is left alone."""
        ...

    def purge(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        """Give them up: their bodies are gone, and their records say so."""
        ...

    def notes(self) -> list[str]:
        """What a person should know about what was found: that a look was cut short, say."""
        ...

    def close(self) -> None:
        """Let go of what a look has hidden from others."""
        ...


def apply(
    letters: Iterable[DeadLetter],
    act: Callable[[Sequence[DeadLetter]], list[Outcome]],
    on_outcome: Callable[[DeadLetter, Outcome], None],
    rate: float | None = None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Counter[str]:
    """Do it to all of them, a batch at a time and at most `rate` a second. Answers how many came to what."""
    size = limits.TOOL_BATCH if rate is None else max(1, min(limits.TOOL_BATCH, int(rate)))
    counts: Counter[str] = Counter()
    remaining, acted, start = iter(letters), 0, clock()
    while batch := list(itertools.islice(remaining, size)):
        for letter, outcome in zip(batch, act(batch), strict=True):
            counts[outcome.done or f"not: {outcome.why_not}"] += 1
            on_outcome(letter, outcome)
        acted += len(batch)
        if rate is not None and (ahead_s := start + acted / rate - clock()) > 0:
            pause(ahead_s)
    return counts


# --- files: one dead letter a line, as JSON -------------------------------------

_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Text = Annotated[str, msgspec.Meta(max_length=limits.MAX_ENTRY_BYTES)]


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dead letter with times that people read."""

    id: Annotated[str, msgspec.Meta(pattern=rf"^[A-Za-z0-9._~-]{{1,{limits.MAX_ID_CHARS}}}\Z")]
    workload: Annotated[str, msgspec.Meta(max_length=200)]
    caller: Annotated[str, msgspec.Meta(max_length=2_000)]
    accepted_at: _Time
    dead_at: _Time
    attempts: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    buried_by: Literal["processor", "queue"]
    error_type: Annotated[str, msgspec.Meta(max_length=200)]
    error: Annotated[str, msgspec.Meta(max_length=limits.MAX_ERROR_CHARS)]
    first_failed_at: _Time | None = None
    last_failed_at: _Time | None = None
    sqs_deletes_at: _Time | None = None
    recorded: bool = True
    body: _Text | None = None


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
