"""How a server did in the last hour, for charts: samples in a file of the data directory whose size never changes. One
process adds them, the one that owns the directory; any reads them, also meanwhile, and with no server. Who takes the
samples is `server/sampler.py`.

    header: version, step, number of slots, names of what is measured │ slot │ slot │ … │ slot │
    slot:   its number since the file was made, when, of how long, a double for each name, a checksum

Sample n is in slot n modulo their number, over that of an hour before. Nothing is synced: a slot that is torn, by a
power cut or because it is just being written, has a wrong checksum, and is passed by. A file that is none of this is
replaced: it is worth no server that does not start."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from decoupled.core import limits
from decoupled.core.overview import CHARTED, History, Sample
from decoupled.core.times import now_ms
from decoupled.engines.sqlite.data_directory import HISTORY_NAME, write_private

log = logging.getLogger("decoupled.history")

SLOTS = int(limits.HISTORY_S / limits.HISTORY_STEP_S)
HEADER_BYTES = 1_024
_NAME = b"decoupled history "
_BODY = struct.Struct(f"<Qqq{len(CHARTED)}d")
_CHECK = struct.Struct("<I4x")
SLOT_BYTES = _BODY.size + _CHECK.size
MAX_NUMBER = 2**62  # of a sample: whoever claims to have taken more is damaged


class HistoryFile:
    """That of a data directory, for its owner. Used by one thread at a time."""

    def __init__(self, directory: Path, slots: int = SLOTS) -> None:
        self.path = directory / HISTORY_NAME
        self._slots = slots
        self._file = -1
        self._next = 1  # number of the next sample

    def add(self, sample: Sample) -> None:
        """Keep it, in the place of the oldest. Raises OSError."""
        if self._file < 0 or not self._still_there():
            self._open()
        at = HEADER_BYTES + self._next % self._slots * SLOT_BYTES
        slot = _packed(self._next, sample)
        if os.pwrite(self._file, slot, at) != len(slot):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._next += 1

    def close(self) -> None:
        """Let go of it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _still_there(self) -> bool:
        """Whether readers find under its name the file that is open, and take it for ours."""
        header = _header(self._slots)
        try:
            there, ours = self.path.lstat(), os.fstat(self._file)
            same = (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)
            return same and ours.st_size == _size(self._slots) and os.pread(self._file, len(header), 0) == header
        except OSError:
            return False

    def _open(self) -> None:
        self.close()
        try:
            numbered = _read(self.path, self._slots)
        except FileNotFoundError:
            numbered = self._make()
        except (OSError, _StrangeError) as error:
            numbered = self._make()
            log.warning("the file of charts is begun anew", extra={"file": str(self.path), "error": str(error)})
        self._file = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        self._next = 1 + max((number for number, _ in numbered), default=0)

    def _make(self) -> list[tuple[int, Sample]]:
        write_private(self.path, _header(self._slots) + bytes(self._slots * SLOT_BYTES))
        return []


class SqlitePast:
    """Implements Past."""

    def __init__(self, directory: Path, clock_ms: Callable[[], int] = now_ms, slots: int = SLOTS) -> None:
        self.path = directory / HISTORY_NAME
        self._clock_ms = clock_ms
        self._slots = slots

    def history(self, seconds: int) -> History:
        """Never raises: charts that cannot be read are empty, and say why."""
        note = ""
        samples: list[Sample] = []
        try:
            samples = _in_order(_read(self.path, self._slots))
        except FileNotFoundError:
            note = "no server has kept anything for charts here yet"
        except (OSError, _StrangeError) as error:
            note = f"what was kept for charts cannot be read: {error}"
        until = self._clock_ms() + int(limits.HISTORY_STEP_S * 1000)  # a writer's clock may be a little ahead
        since = self._clock_ms() - min(seconds, limits.HISTORY_S) * 1000
        shown = list(_with_gaps([sample for sample in samples if since <= sample.at_ms <= until]))
        return History(
            step_s=limits.HISTORY_STEP_S,
            times=[sample.at_ms for sample in shown],
            series={name: [sample.values[place] for sample in shown] for place, name in enumerate(CHARTED)},
            note=note,
        )


def copy(source: Path, target: Path) -> int:
    """All that can be read in one data directory, into another, which has nothing yet: how many samples. Raises OSError
    when they cannot be written."""
    samples: list[Sample] = []
    with contextlib.suppress(OSError, _StrangeError):
        samples = _in_order(_read(source / HISTORY_NAME, SLOTS))
    with contextlib.closing(HistoryFile(target)) as file:
        for sample in samples:
            file.add(sample)
    return len(samples)


def _in_order(numbered: list[tuple[int, Sample]]) -> list[Sample]:
    """Each later than the one before. Where the clock was set back, those from before that, which are told to have been
    later, are left out: what came after is to be believed."""
    kept: list[Sample] = []
    for _, sample in sorted(numbered, key=lambda one: one[0], reverse=True):
        if not kept or sample.at_ms < kept[-1].at_ms:
            kept.append(sample)
    return kept[::-1]


def _with_gaps(samples: list[Sample]) -> Iterator[Sample]:
    """With one that knows nothing in the middle of each time that no sample is of, so that no line is drawn through."""
    before: Sample | None = None
    for sample in samples:
        if before is not None:
            unknown_ms = sample.at_ms - sample.span_ms - before.at_ms
            if unknown_ms > limits.HISTORY_GAP_S * 1000:
                yield Sample(before.at_ms + unknown_ms // 2, unknown_ms, (None,) * len(CHARTED))
        yield sample
        before = sample


# --- bytes --------------------------------------------------------------------


class _StrangeError(Exception):
    """The file is none of ours, of this version, and how one can tell."""


def _header(slots: int) -> bytes:
    """Text, for people who look into it; and all of it is to be as it is here."""
    step_ms = int(limits.HISTORY_STEP_S * 1000)
    text = _NAME + f"1\nstep_ms {step_ms}\nslots {slots}\n{' '.join(CHARTED)}\n".encode()
    return text.ljust(HEADER_BYTES, b"\0")


def _size(slots: int) -> int:
    return HEADER_BYTES + slots * SLOT_BYTES


def _packed(number: int, sample: Sample) -> bytes:
    values = (math.nan if value is None else value for value in sample.values)
    body = _BODY.pack(number, sample.at_ms, sample.span_ms, *values)
    return body + _CHECK.pack(zlib.crc32(body))


def _read(path: Path, slots: int) -> list[tuple[int, Sample]]:
    """The samples that are whole, with their numbers. Raises OSError or _StrangeError."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        there = os.fstat(file)
        if not stat.S_ISREG(there.st_mode):
            raise _StrangeError("it is no regular file")
        if there.st_size > _size(slots):
            raise _StrangeError(f"it has {there.st_size:,} bytes")
        content = os.pread(file, _size(slots), 0)
    finally:
        os.close(file)
    if not content.startswith(_header(slots)):
        raise _StrangeError("another version made it" if content.startswith(_NAME) else "it is damaged")
    if len(content) != _size(slots):
        raise _StrangeError(f"it has {len(content):,} bytes")
    found = (_sample(content, place, slots) for place in range(slots))
    return [one for one in found if one is not None]


def _sample(content: bytes, place: int, slots: int) -> tuple[int, Sample] | None:
    """That of one slot; None if it was never written, or not whole."""
    at = HEADER_BYTES + place * SLOT_BYTES
    (check,) = _CHECK.unpack_from(content, at + _BODY.size)
    if zlib.crc32(content[at : at + _BODY.size]) != check:
        return None
    number, at_ms, span_ms, *values = _BODY.unpack_from(content, at)
    if not 0 < number < MAX_NUMBER or number % slots != place:
        return None
    return number, Sample(at_ms, span_ms, tuple(value if math.isfinite(value) else None for value in values))
