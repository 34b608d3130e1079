"""The course of a move from one engine to another: what comes after what, how far it has got, how fast it goes and how
long it bears trouble. It knows the two sides by what `core/moving.py` asks of them, and nothing else.

    open ──copy─▶ copy, again and again ──cut over─▶ stopped ── the rest, put and compared ──▶ moved ── sent ──▶ done
     ▲                                                  │                                        (for good)
     └───────────── back out: what may change is taken back ◀──┘

Each page is read from a mark, put, read back from the other side and compared; then the mark is written. Who is killed
in between does that page again, which changes nothing. What state it is in, the source itself knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from decoupled.core.fingerprints import difference, item_difference
from decoupled.core.moving import Carried, CarriedItem, Counts, ItemPart, Marks, Part, Source, Target
from decoupled.core.status import FINAL
from decoupled.core.upkeep_limits import MOVE_BEHIND, MOVE_DIFFERENCES, MOVE_PAGE, MOVE_PATIENCE_S, MOVE_STILL_S
from decoupled.core.workload import Unavailable
from decoupled.pipeline.patience import Patience, Tell


class Progress(msgspec.Struct):
    """How far a move has got, as its `Marks` keep it. `marks`: of the source, by step. `done`: how many, likewise.
    `put`: what may still change in the source may be on the other side. `identities`: which of these names they are."""

    source: str
    target: str
    identities: tuple[str, str] = ("", "")
    marks: dict[str, str] = {}
    done: dict[str, int] = {}
    put: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One after the other, pages are read and done; `of` says how many there are."""

    name: str
    read: Callable[[str, int], Part | ItemPart]
    do: Callable[[Sequence[Any]], Sequence[str]]
    of: Callable[[Counts], int]


class Differs(ValueError):  # noqa: N818  a verdict on the two sides
    """What is on the other side is not what should be. Nothing was changed there."""

    def __init__(self, differences: Sequence[str]) -> None:
        told = [*differences[:MOVE_DIFFERENCES], *(["and others"] if len(differences) > MOVE_DIFFERENCES else [])]
        super().__init__("\n".join(told))


class Move:
    """From a source to a target, `writes_s` records a second at most. What is wrong for good raises ValueError, and
    Unavailable what lasts for too long; each is to be run again. The clock is a steady one, in seconds."""

    def __init__(
        self,
        source: Source,
        target: Target,
        marks: Marks,
        writes_s: float,
        tell: Tell = lambda _what, _done, _of: None,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.source = source
        self.target = target
        self._marks = marks
        self._tell = tell
        self._monotonic = monotonic
        self._pause = pause
        self._patience = Patience(writes_s, tell, monotonic, pause)
        self.progress = self._begun()
        self.counts = self._patience(source.counts)

    def _begun(self) -> Progress:
        """What was begun by these two, or anew. Raises ValueError."""
        identities = (self.source.identity, self.target.identity)
        anew = Progress(self.source.name, self.target.name, identities)
        text = self._patience(self._marks.read)
        if text is None:
            return anew
        begun = msgspec.json.decode(text, type=Progress)
        if (begun.source, begun.target) != (self.source.name, self.target.name):
            raise ValueError(f"a move from {begun.source} to {begun.target} has been begun: go on with that")
        if begun.identities == identities:
            return begun
        if begun.identities[0] != identities[0]:
            raise ValueError(f"{self.source.name} is another one than the one that was copied: move it to a new place")
        if self._patience(self.source.state) == "moved":
            raise ValueError(f"{self.target.name} is another one than the one to which {self.source.name} has moved")
        return anew  # what was copied to the other one is not in this one

    def _write(self) -> None:
        text = msgspec.json.encode(self.progress).decode()
        self._patience(lambda: self._marks.write(text))

    # --- what a person asks for

    def notes(self) -> Iterator[str]:
        """What a move would come to. Raises ValueError if it cannot be."""
        counts = self.counts
        yield (
            f"{counts.processed:,} processed, {counts.rejected:,} rejected, {counts.dead:,} dead and"
            f" {counts.queued:,} queued messages, {counts.items:,} items"
        )
        yield from self.target.check(counts)
        seconds = counts.all / self._patience.most_writes_s
        yield f"at {self._patience.most_writes_s:,.0f} a second that takes {_duration(seconds)} at least"

    def copy(self) -> int:
        """What has ended, until little is left; or no less than before, of a source that knows no order in which it
        ended. Returns how many the last round has brought."""
        self._refuse_unless("open")
        before = brought = self._go(self._records())
        while brought > MOVE_BEHIND:
            brought = self._go(self._records())
            if brought >= before:
                break
            before = brought
        return brought

    def cut_over(self, to: str, url: str, drain: bool) -> None:
        """The whole rest, from wherever it is. Clients are told where the source has gone `to`, and its `url`."""
        if self._patience(self.source.state) == "open":
            self.copy()
            self._patience(lambda: self.source.stop(to, url, drain))
        if self._patience(self.source.state) == "stopped":
            self._wait_until_still()
            self.counts = self._patience(self.source.counts)
            self.progress.put = True
            self._forget(*self._changing(self._take_back, self._take_back_items, ", taken back"))
            self._write()
            for step in (self._records(), *self._changing(self._put, self._put_items)):
                self._go(step)
            self._patience(self.source.give_over)
        for step in self._sending():
            self._go(step)
        self._patience(self.target.finish)
        self.verify()

    def back_out(self) -> None:
        """The source accepts again; what of the target would be another thing later is taken back. Where nothing of
        that was put yet, nothing is waited for: what is in the way of a move must not be in the way of its end."""
        self._refuse_unless("stopped")
        if self.progress.put:
            self._wait_until_still()
            back = self._changing(self._take_back, self._take_back_items, ", taken back")
            self._forget(*self._changing(self._put, self._put_items))  # whatever comes next puts all of it again
            self._write()
            for step in back:
                self._go(step)
            self._forget(*back)
            self.progress.put = False
            self._write()
        self._patience(self.source.go_on)

    def verify(self) -> None:
        """Every record of a source that has given over is read once more, from the first one on, and looked up."""
        self._refuse_unless("moved")
        counts = self.counts = self._patience(self.source.counts)
        steps = self._verifying()
        for step in steps:
            self._go(step)
        seen = sum(self.progress.done.get(step.name, 0) for step in steps)
        self._forget(*steps)
        self._write()
        if counts.exact and seen < (there := counts.all - counts.items):
            raise Differs([f"{there:,} messages are in {self.source.name}, and {seen:,} of them were looked up"])

    def _refuse_unless(self, state: str) -> None:
        if (found := self._patience(self.source.state)) != state:
            raise ValueError(f"{self.source.name} is {found}: {_WHAT_NEXT[found]}")

    # --- the steps

    def _records(self) -> Step:
        return Step("records", self.source.ended, self._put, lambda counts: counts.final)

    def _changing(
        self,
        do: Callable[[Sequence[Carried]], Sequence[str]],
        do_items: Callable[[Sequence[CarriedItem]], Sequence[str]],
        done: str = "",
    ) -> list[Step]:
        """Of what changes while the source goes on."""
        return [
            Step(f"items{done}", self.source.items, do_items, lambda counts: counts.items),
            Step(f"dead letters{done}", self.source.dead, do, lambda counts: counts.dead),
            Step(f"what waits{done}", self.source.waiting, do, lambda counts: counts.queued),
        ]

    def _sending(self) -> list[Step]:
        return [
            Step("what waits, sent", self.source.waiting, self._send, lambda counts: counts.queued),
            Step("dead letters, told", self.source.dead, self._send, lambda counts: counts.dead),
        ]

    def _verifying(self) -> list[Step]:
        return [
            Step("records, verified", self.source.ended, self._compare, lambda counts: counts.final),
            Step("dead letters, verified", self.source.dead, self._compare, lambda counts: counts.dead),
            Step("what waits, verified", self.source.waiting, self._compare, lambda counts: counts.queued),
        ]

    def _put(self, records: Sequence[Carried]) -> Sequence[str]:
        differs = self.target.put(records)
        there = self.target.get([record.id for record in records])
        return _once(differs, [difference(record, there.get(record.id)) for record in records])

    def _put_items(self, items: Sequence[CarriedItem]) -> Sequence[str]:
        differs = self.target.put_items(items)
        there = self.target.get_items([item.key for item in items])
        return _once(differs, [item_difference(item, there.get(item.key)) for item in items])

    def _send(self, records: Sequence[Carried]) -> Sequence[str]:
        self.target.send(records)
        return []

    def _take_back(self, records: Sequence[Carried]) -> Sequence[str]:
        self.target.take_back(records)
        return []

    def _take_back_items(self, items: Sequence[CarriedItem]) -> Sequence[str]:
        self.target.take_back_items(items)
        return []

    def _compare(self, records: Sequence[Carried]) -> Sequence[str]:
        """What is there, and has become another record here since it was copied (forgotten, or sent again after its
        time), is put again. What is not there is lost."""
        there = self.target.get([record.id for record in records])
        differing = [it for it in records if difference(it, there.get(it.id), serves=True) is not None]
        if changed := [it for it in differing if it.status in FINAL and it.id in there]:
            self.target.put(changed)
            there = self.target.get([record.id for record in records])
        return _once([], [difference(record, there.get(record.id), serves=True) for record in differing])

    # --- how one goes

    def _go(self, step: Step) -> int:
        """From its mark to where there is no more now. Returns how many."""
        marks, done, brought = self.progress.marks, self.progress.done, 0
        while True:
            after = marks.get(step.name, "")
            part = self._patience(partial(step.read, after, MOVE_PAGE))
            some = part.items if isinstance(part, ItemPart) else part.records
            if some:
                self._patience.wait_for(len(some))
                if differs := self._patience(partial(step.do, some)):
                    raise Differs(differs)
                brought += len(some)
                done[step.name] = done.get(step.name, 0) + len(some)
            if some or part.mark != after:
                marks[step.name] = part.mark
                self._write()
            self._tell(step.name, done.get(step.name, 0), step.of(self.counts))
            if not part.more:
                return brought

    def _forget(self, *steps: Step) -> None:
        for step in steps:
            self.progress.marks.pop(step.name, None)
            self.progress.done.pop(step.name, None)

    def _wait_until_still(self) -> None:
        """Raises Unavailable if it does not become so, and comes no nearer."""
        fewest, since = self._patience(self.source.busy), self._monotonic()
        most = fewest
        while (left := self._patience(self.source.busy)) > 0:
            self._tell("in flight", most - min(left, most), most)
            if left < fewest:
                fewest, since = left, self._monotonic()
            if self._monotonic() - since > MOVE_PATIENCE_S:
                raise Unavailable(f"{left:,} messages of {self.source.name} are in flight, and do not come to an end")
            self._pause(MOVE_STILL_S)


_WHAT_NEXT = {
    "open": "it has not been stopped, and accepts",
    "stopped": "the cut-over has begun; it can be gone on with, or taken back",
    "moved": "it has given over, for good",
}


def _once(told: Sequence[str], found: Sequence[str | None]) -> list[str]:
    return list(dict.fromkeys([*told, *(why for why in found if why is not None)]))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
