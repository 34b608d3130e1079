"""A replica of a data directory's file, as Litestream keeps it elsewhere: what it consists of, how far it is behind,
and what a person means by a moment. Pure; what reads files and calls Litestream is `engines/sqlite/litestream.py`."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from decoupled.core.times import parse_rfc3339
from decoupled.core.upkeep_limits import REPLICA_PLACES

_AGO = re.compile(r"(\d{1,6})([smhd]) ago")
_FILE = "file://"
_ODD = re.compile(r"[^A-Za-z0-9/_.~$&+,:;=@!'()*\[\]-]")  # Go's net/url writes it otherwise
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def is_url(target: str) -> bool:
    """Whether a replica is elsewhere than in a directory of this machine."""
    return re.match(r"[a-z][a-z0-9+.-]*://", target) is not None


def url_of(target: str, here: Path) -> str:
    """As Litestream has it; `here`: where a directory's name begins that is not absolute. Raises ValueError where it
    would understand another directory, which it does not tell."""
    if is_url(target) and not target.startswith(_FILE):
        return target
    place = here / target.removeprefix(_FILE)
    if odd := _ODD.search(str(place)):
        raise ValueError(f"Litestream cannot be told of the directory {place}: rename it, without the {odd[0]!r}")
    return f"{_FILE}{place}"


def check(target: str, data: Path, here: Path) -> None:
    """Raises ValueError if it can be no replica of that data directory."""
    url = url_of(target, here)
    if url.startswith(_FILE):
        place, around = (Path(os.path.normpath(here / it)) for it in (url.removeprefix(_FILE), data))
        if place.is_relative_to(around):
            raise ValueError(
                f"replica is {target}, in the data directory {data}, with which it would be lost: name another place,"
                " best on another disk"
            )


def shown(target: str) -> str:
    """For people on the machine: a URL without its options, and without the password that it may have."""
    if not is_url(target):
        return target
    scheme, _, rest = target.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def nameless(why: str, target: str) -> str:
    """An error's text for whoever asks: it does not say where the replica is, nor who may write there."""
    names = {target, shown(target), target.removeprefix("file://"), target.removeprefix("file://").rstrip("/")}
    for name in sorted(names - {""}, key=len, reverse=True):
        why = why.replace(name, "its place")
    return without_password(why)


def without_password(text: str) -> str:
    """Whatever URLs stand in it."""
    return re.sub(r"://[^\s/@]+@", "://", text)


def moment(text: str, now_ms: int) -> int | None:
    """2026-11-30T10:15:00Z or `10m ago`, in ms since the epoch; None: `now`, all that there is, whatever the time is
    on a machine whose clock may be behind that of the one that died. Raises ValueError; also if it is to come."""
    if text == "now":
        return None
    if found := _AGO.fullmatch(text):
        return now_ms - int(found[1]) * _SECONDS[found[2]] * 1000
    try:
        at = parse_rfc3339(text)
    except ValueError:
        raise ValueError(f"{text!r} is no moment like 2026-11-30T10:15:00Z, '10m ago' or 'now'") from None
    if re.search(r"(Z|[+-]\d\d:?\d\d)$", text) is None:
        raise ValueError(f"{text!r} does not say in which zone: end it with Z, or with +01:00")
    if at > now_ms:
        raise ValueError(f"{text!r} is still to come")
    return at


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a replica: the changes numbered `first` to `last`, as of `at`, in ms since the epoch."""

    level: int
    first: int
    last: int
    size: int
    at: int


@dataclass(frozen=True, slots=True)
class Place:
    """In a write-ahead log: which one that is, and how far into its file."""

    log: bytes
    end: int


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a replica has got. `place`: in the log here, None where it is not known; `at`: as of when, in ms since
    the epoch; `foreign`: of which of its parts there are others here; `mixed`: some stand in its place already."""

    place: Place | None = None
    at: int | None = None
    foreign: Sequence[int] = ()
    mixed: bool = False


class Lag:
    """For how long something has been here that is not there. Looks come again and again, each in this order: how far
    the replica is, then how far the log is. Whatever time passes between two looks counts as lag."""

    def __init__(self, safe_at: float) -> None:
        """`safe_at`: up to when everything is there, on the clock that looks are timed by."""
        self.safe_at = safe_at
        self.bytes = 0
        self._seen: deque[tuple[float, Place]] = deque()  # ends of the log that are not there yet, oldest first

    def look(self, there: Place | None, here: Place, now: float) -> None:
        """Take it in."""
        if not self._seen or self._seen[-1][1] != here:
            if len(self._seen) == REPLICA_PLACES:
                self._seen.pop()  # what is lost with it makes the lag seem longer, not shorter
            self._seen.append((now, here))
        if there is not None:
            self._reach(there)
        if not self._seen:
            self.safe_at = now
        same = there is not None and there.log == here.log
        self.bytes = 0 if not self._seen else here.end - there.end if there is not None and same else here.end

    def _reach(self, there: Place) -> None:
        """A log that is begun anew begins where the one before it was there whole."""
        those = [number for number, (_, place) in enumerate(self._seen) if place.log == there.log]
        if not those:
            return
        covered = sum(self._seen[number][1].end <= there.end for number in those)
        for _ in range(those[0] + covered):
            self.safe_at, _ = self._seen.popleft()

    def seconds(self, now: float) -> float:
        """Everything that was accepted longer ago than this is there."""
        return max(0.0, now - self.safe_at) if self._seen else 0.0
