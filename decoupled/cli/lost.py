"""Whether what is not there was lost, or never made, since the code was another one then: it was lost if others of its
kinds, which are no newer, are there. The other way round nobody can know, and the report says so."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from decoupled.core import upkeep_limits
from decoupled.core.audit import Report


class Lost:
    """Things of one sort. Bounded, however many there are: of those that are not there, the first are remembered."""

    def __init__(self, sort: str, what: str) -> None:
        self._sort = sort
        self._what = what
        self.there = 0
        self._first: dict[str, int] = {}  # of each kind, when the first was made that is there
        self._missed: list[tuple[Collection[str], int, str, str]] = []
        self._more = 0

    def seen(self, kinds: Iterable[str], at: int) -> None:
        """One that is as it should be, made then, or from then on."""
        self.there += 1
        for kind in kinds:
            self._first[kind] = min(at, self._first.get(kind, at))

    def missed(self, kinds: Collection[str], at: int, name: str, why: str = "it is not there") -> None:
        """One that is not, and would have been made then, or up to then."""
        if len(self._missed) < upkeep_limits.SUSPECTS:
            self._missed.append((kinds, at, name, why))
        else:
            self._more += 1

    def tell(self, report: Report, removed: int = 0) -> None:
        """What that comes to. `removed`: so many may have been there, and be gone."""
        missed = len(self._missed) + self._more
        if missed <= removed:
            if missed:
                report.unchecked.append(f"{missed:,} {self._sort}s: not there, and {removed:,} messages were removed")
            return
        changed = []
        for kinds, at, name, why in self._missed:
            if all(at >= self._first.get(kind, at + 1) for kind in kinds):
                report.find("effect", f"{self._sort}: {why}", ids=[name])
            else:
                changed.append(name)
        if changed:
            some = ", ".join(changed[: upkeep_limits.FAULT_IDS])
            what = f"{len(changed):,} {self._sort}s: {self._what} now, and none of their kind was there before"
            report.remarks.append(f"{what}; has the code changed since? {some}")
        if self._more:
            report.unchecked.append(f"{self._more:,} more {self._sort}s that are not as they should be")
