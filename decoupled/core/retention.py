"""How long records are kept, and the bodies of messages after their end: what people say, and what that means for a
record. Pure.

    90d                      processed and rejected records of every workload
    orders=365d              those of one workload
    orders.rejected=30d      of one workload, and of one status
    *.dead=365d              dead letters, which nothing else means

What nobody has said, or as 0, is as if there were no such option: records are kept for ever, and bodies not at all. The
more exact of two wins: first by the workload, then by the status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from decoupled.core.status import ENDED, FINAL, Status
from decoupled.core.upkeep_limits import MAX_TTL_S, MIN_BODY_TTL_S, MIN_RECORD_TTL_S

Option = Literal["record_ttl", "body_ttl"]

ANY = "*"  # workload, or status: every one that is final
_SAYS = re.compile(
    rf"(?:(?P<workload>[a-z][a-z0-9_]{{0,63}}|\*)(?:\.(?P<status>{'|'.join(ENDED)}))?=)?(?P<number>\d{{1,6}})(?P<unit>[dh]?)"
)
_SECONDS = {"d": 86_400, "h": 3_600}
_LEAST = {"record_ttl": MIN_RECORD_TTL_S, "body_ttl": MIN_BODY_TTL_S}


@dataclass(frozen=True, slots=True)
class Retention:
    """What was said: seconds by workload and status; or 0."""

    seconds: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def of(self, workload: str, status: Status) -> int | None:
        """How long after its end, in milliseconds; None: nothing was said, or 0."""
        for name in (workload, ANY):
            for which in (status, ANY) if status in FINAL else (status,):
                if (seconds := self.seconds.get((name, which))) is not None:
                    return seconds * 1000 or None
        return None

    def shortest(self) -> int | None:
        """Of all, in milliseconds: nothing is due that is younger. None: nothing ever is."""
        return min((seconds * 1000 for seconds in self.seconds.values() if seconds), default=None)

    def soonest(self, workload: str) -> int | None:
        """Of this workload, whatever its message comes to; in milliseconds."""
        return min((ms for status in ENDED if (ms := self.of(workload, status)) is not None), default=None)

    def named(self) -> set[str]:
        """The workloads that something was said of."""
        return {workload for workload, _ in self.seconds} - {ANY}

    def keeping(self, status: Status, workloads: Iterable[str]) -> frozenset[str]:
        """Those of the workloads of which something was said for this status."""
        return frozenset(name for name in workloads if self.of(name, status) is not None)


class Found(NamedTuple):
    """A row, and when its message ended, as somebody has read it. One that has changed since then is left alone."""

    seq: int
    finished_at: int


class Looked(NamedTuple):
    """What was found due at one place of the file, and where to look next; None: that was all."""

    records: list[Found]
    bodies: list[Found]
    following: int | None


def parse(says: Sequence[str], option: Option) -> Retention:
    """Raises ValueError that names what is wrong."""
    seconds: dict[tuple[str, str], int] = {}
    for said in says:
        found = _SAYS.fullmatch(said)
        if found is None:
            raise ValueError(
                f"{option} has {said!r}; it can be 90d, orders=365d, orders.rejected=30d or *.dead=365d, in days (d) or"
                " hours (h), or 0"
            )
        what = (found["workload"] or ANY, found["status"] or ANY)
        if what in seconds:
            raise ValueError(f"{option} has {said!r}, and another time for the same before it")
        seconds[what] = _seconds(found, said, option)
        if option == "body_ttl" and found["status"] == "dead":
            raise ValueError(f"{option} has {said!r}; a dead letter keeps its body for as long as it is one")
    return Retention(seconds)


def _seconds(found: re.Match[str], said: str, option: Option) -> int:
    number = int(found["number"])
    if number == 0:
        return 0
    if not found["unit"]:
        raise ValueError(f"{option} has {said!r}; say {number}d for days, or {number}h for hours")
    seconds = number * _SECONDS[found["unit"]]
    least = _LEAST[option]
    if not least <= seconds <= MAX_TTL_S:
        raise ValueError(
            f"{option} has {said!r}; it can be {least // 3_600} h to {MAX_TTL_S // 86_400:,} d, or 0"
            + ("" if seconds > least else _WHY[option])
        )
    return seconds


_WHY = {
    "record_ttl": ": while its record is there, a message that is sent again under its key is known, and has no effect",
    "body_ttl": "",
}
