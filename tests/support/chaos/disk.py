"""The disk under a server, as a test wants it: it fails, waits, tears a write or ends the process at a chosen call, and
writes down what was done to it. The library that does it is `disk.c`, in the server's process; here is the other end of
the memory that both share. Linux only: elsewhere its tests are skipped, by name."""

from __future__ import annotations

import errno
import mmap
import os
import random
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[3] / "build" / "disk.so"  # `make build/disk.so`
EVER = 2**63

needs_the_shim = pytest.mark.skipif(sys.platform != "linux", reason="the disk that fails is a library for Linux")


class Call(IntFlag):
    """What a program asks of the disk."""

    READ = 1
    WRITE = 2
    SYNC = 4
    TRUNCATE = 8
    UNLINK = 16
    OPEN = 32
    ANY = 63


class File(IntFlag):
    """Of which file it is asked: the database, its log, the log's index, the directory itself, or another in it."""

    DATABASE = 1
    LOG = 2
    INDEX = 4
    DIRECTORY = 8
    OTHER = 16
    ANY = 31


class Act(IntEnum):
    """What comes of it. HALF writes the first half and says so, as a kernel may."""

    FAIL = 1
    HALF = 2
    WAIT = 3
    DIE_BEFORE = 4
    DIE_HALFWAY = 5
    DIE_AFTER = 6


@dataclass(frozen=True, slots=True)
class Rule:
    """From the `first` to the `last` call that matches, counted since it was armed, `share` of them."""

    calls: Call
    act: Act
    argument: int = errno.EIO  # of FAIL; milliseconds of WAIT
    files: File = File.ANY
    first: int = 1
    last: int = EVER
    share: float = 1.0

    def __str__(self) -> str:
        what = errno.errorcode[self.argument] if self.act is Act.FAIL else self.act.name.lower().replace("_", " ")
        what += f" {self.argument} ms" * (self.act is Act.WAIT)
        which = f"{self.first}.-{self.last}." if self.last < EVER else f"{self.first}.-"
        part = f" {self.share:.0%}" * (self.share < 1)
        return f"{_names(self.calls)} of {_names(self.files)}: {what}, {which}{part}"


def _names(flags: Call | File) -> str:
    every = flags is type(flags)["ANY"]
    return "any" if every else "+".join(str(flag.name).lower() for flag in flags)


_RULES = 15
_RULE = struct.Struct("=4I6Q")  # struct rule of disk.c, and before the first of them their number
_NUMBER = struct.Struct("=Q")
_DONE_AT = 56


class Disk:
    """What the file system of one data directory does. `record`: where to write down what is done to it."""

    def __init__(self, data: Path, control: Path, record: Path | None = None) -> None:
        assert LIBRARY.exists(), f"there is no {LIBRARY}: `make build/disk.so` makes it"
        assert data == data.resolve(), f"{data} has symbolic links"
        self.environment = {
            "LD_PRELOAD": LIBRARY.name,  # whose path may have spaces, and those separate names here
            "LD_LIBRARY_PATH": ":".join(filter(None, (str(LIBRARY.parent), os.environ.get("LD_LIBRARY_PATH")))),
            "DISK_DIRECTORY": str(data),
            "DISK_CONTROL": str(control),
        }
        if record is not None:
            self.environment["DISK_RECORD"] = str(record)
        control.write_bytes(bytes(_NUMBER.size + _RULES * _RULE.size))
        with control.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def arm(self, *rules: Rule, seed: int = 1) -> None:
        """From now on, instead of what was armed before. The first rule that matches a call decides it."""
        assert len(rules) <= _RULES
        self.disarm()
        choose = random.Random(seed)
        for number, rule in enumerate(rules):
            per_million, state = round(rule.share * 1_000_000), choose.randrange(1, EVER)
            values = (rule.calls, rule.files, rule.act, rule.argument, rule.first, rule.last, per_million, state, 0, 0)
            _RULE.pack_into(self._memory, _NUMBER.size + number * _RULE.size, *values)
        _NUMBER.pack_into(self._memory, 0, len(rules))

    def disarm(self) -> None:
        """A disk that works."""
        _NUMBER.pack_into(self._memory, 0, 0)

    def done(self) -> Sequence[int]:
        """How often each rule came true, in the order in which they were armed last."""
        starts = range(_NUMBER.size + _DONE_AT, len(self._memory), _RULE.size)
        return [_NUMBER.unpack_from(self._memory, start)[0] for start in starts]
