"""Which releases of a stack there are, which of them serves, and by which steps traffic shifts from one to the next.
Pure: no calls, no clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from decoupled.core import stack_limits

PARAMETERS = ("Releases", "Release", "ReleaseBefore", "TrafficBefore")
"""Of the template: what `Serving.parameters` fills in."""

DIGEST_CHARS = 10  # of a release's code and template in its name: enough to tell one's own apart


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves in a stack: a release; the one before it, if its versions are still there; and how many per cent of
    the requests that one still takes."""

    release: str
    before: str | None = None
    percent_before: int = 0

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Serving | None:
        """As the parameters of a stack say; None of one that has no releases yet."""
        if "Release" not in parameters:
            return None
        release, before = parameters["Release"], parameters.get("ReleaseBefore", "")
        part = float(parameters.get("TrafficBefore") or 0)
        return cls(release, before if before != release else None, round(100 * part))

    @property
    def stable(self) -> str:
        """The release that a shift began from, and goes back to."""
        return self.before if self.before is not None and self.percent_before else self.release

    def parameters(self) -> dict[str, str]:
        """As parameters of the template."""
        return {
            "Releases": ",".join(filter(None, (self.release, self.before))),
            "Release": self.release,
            "ReleaseBefore": self.before or self.release,
            "TrafficBefore": f"{self.percent_before / 100:g}",
        }

    def __str__(self) -> str:
        if self.percent_before:
            return f"{self.release} takes {100 - self.percent_before} % of the requests, {self.before} the rest"
        return self.release


@dataclass(frozen=True, slots=True)
class Step:
    """A change of a stack, and how long its alarms are watched before the next."""

    percent_before: int
    watch_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.watch_s <= stack_limits.MAX_WATCH_S:
            raise ValueError(
                f"alarms are watched for {stack_limits.MAX_WATCH_S // 60} minutes at most, not {self.watch_s:g} s"
            )


@dataclass(frozen=True, slots=True)
class Shift:
    """How requests come to a new release: `percent` of them first (canary), or that many more each time (linear), with
    `every_s` in between. 100 is all at once."""

    linear: bool = False
    percent: int = 100
    every_s: float = 0.0

    @classmethod
    def parse(cls, kind: str, percent: str, every_s: float) -> Shift:
        """Of the words `canary` or `linear`, a percentage and a time. Raises ValueError."""
        if kind not in ("canary", "linear") or not re.fullmatch(r"[1-9]\d?", percent):
            raise ValueError("a shift is canary:PERCENT:TIME or linear:PERCENT:TIME, with 1 to 99 per cent")
        return cls(kind == "linear", int(percent), Step(0, every_s).watch_s)

    def steps(self, watch_s: float, percent_before: int = 100) -> list[Step]:
        """From where `percent_before` of the requests go to the release before; the last is watched for `watch_s`."""
        befores = range(100 - self.percent, 0, -self.percent) if self.linear else [100 - self.percent]
        between = [Step(percent, self.every_s) for percent in befores if 0 < percent < percent_before]
        return [*between, Step(0, watch_s)]


def name_of(digest: str, now_ms: int) -> str:
    """A new release's name: when it was made, and what it is made of. No two are the same, so that a name always stands
    for versions that are published under it; and it is a part of resources' names, so that it is letters and digits."""
    return f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%d%H%M%S}x{digest[:DIGEST_CHARS]}"


def is_of(release: str, digest: str) -> bool:
    """Whether a release is made of this code and template."""
    return release.endswith(f"x{digest[:DIGEST_CHARS]}")
