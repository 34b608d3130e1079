"""Effects against records, for `decoupled audit`: each final message that has kept its body is run again, through the
code that is here, in a worker's process. What it comes to is held against its record; what it emits, and what it and
all others have written, against what is there.

    kept body ─▶ worker ─▶ decision ─┬─ result, reason ─▶ as recorded? else: a difference
                                     ├─ emits ──────────▶ are their messages there?
                                     └─ writes, sorted by item ─▶ is the item as they leave it?
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from itertools import groupby
from typing import Any, Protocol

import msgspec

from decoupled.cli.lost import Lost
from decoupled.cli.spool import Spool
from decoupled.core import upkeep_limits
from decoupled.core.applying import whole
from decoupled.core.audit import Kept, Past, Progress, Report
from decoupled.core.comparing import compared
from decoupled.core.leaving import ORDER_MS, Wrote, contradictions, left_by
from decoupled.core.outcomes import Commit
from decoupled.core.times import now_ms
from decoupled.core.workload import collection_of
from decoupled.server.options import Options
from decoupled.server.workers.inspecting import Loaded
from decoupled.server.workers.single import Single


class Read(Protocol):
    """What an engine is asked for. Each raises Unavailable."""

    live: bool  # a server writes meanwhile

    def kept(self, past: Past) -> Iterator[Kept]:
        """Final messages that have kept their bodies; `past` hears of all others."""
        ...

    def missing(self, ids: list[str]) -> list[str]:
        """Those of them that nobody knows."""
        ...

    def removed(self) -> int:
        """How many messages were removed."""
        ...

    def every_item(self) -> Iterator[tuple[str, str]]:
        """Key and text, in the order of the keys."""
        ...


def look_at_effects(report: Report, read: Read, loaded: Loaded, options: Options, progress: Progress) -> None:
    """Of the messages of workloads that could be loaded. Raises Unavailable, and ValueError if there can be no
    worker."""
    with closing(Spool()) as spool:
        effects = _Effects(report, read, loaded, spool)
        effects.run_all(options, progress)
        if effects.ran:
            effects.emitted.tell(report, effects.past.removed)
            effects.look_at_items()


class _Effects:
    def __init__(self, report: Report, read: Read, loaded: Loaded, spool: Spool) -> None:
        self.report = report
        self.read = read
        self.loaded = loaded
        self.spool = spool
        self.past = Past()
        self.emitted = Lost("emitted message", "its sender would send it")
        self.ran = 0
        self._left_out: Counter[str] = Counter()  # by why
        self._kinds: dict[str, str] = {}
        self._asked: dict[str, tuple[str, int]] = {}  # what was emitted: of which kind, and when

    # --- the messages -----------------------------------------------------------

    def run_all(self, options: Options, progress: Progress) -> None:
        """One after the other."""
        worker = Single(replace(options, worker_messages=0, log_level="ERROR"))
        with asyncio.Runner() as runner:
            try:
                for kept in self.read.kept(self.past):
                    progress("effects", self.past.done, self.past.of)
                    if (why := self._not_run(kept)) is not None:
                        self._unknown(kept, why)
                        continue
                    self._compare(kept, runner.run(worker.decide(kept.message)))
            finally:
                runner.run(worker.close())
        self._look_for_emitted()
        progress("effects", self.past.of, self.past.of)
        self._say()

    def _not_run(self, kept: Kept) -> str | None:
        name = kept.message.workload
        if name in self.loaded.concurrent:
            return f"of {name}: to decide is to call others"
        return None if name in self.loaded.workloads else f"of {name}, which is not among these workloads"

    def _unknown(self, kept: Kept, why: str = "") -> None:
        """What it has written is not known."""
        if why:
            self._left_out[why] += 1
        if kept.record.status == "processed":
            self.past.known_from = max(self.past.known_from, kept.record.finished_at or 0)

    def _compare(self, kept: Kept, decision: Any) -> None:
        self.ran += 1
        found = compared(kept.record, decision, lambda _: None)
        if found.verdict == "later":
            self._unknown(kept, f"of {kept.message.workload}: {found.after}"[: upkeep_limits.INVARIANT_CHARS])
            return
        if found.verdict != "unchanged":
            self.report.differing += 1
            if len(self.report.differences) < upkeep_limits.DIFFERENCES:
                self.report.differences.append(msgspec.structs.replace(found, items=()))
            self._unknown(kept)
            return
        at = kept.record.finished_at or 0
        if isinstance(decision, Commit) and kept.record.status == "processed":
            kind = self._kind_of(kept.message.workload, decision)
            for write in () if self.read.live else decision.writes:
                self.spool.add(write.key, _json.encode([at, kept.number, write, kind]))
            for index, emit in enumerate(decision.emits):
                self._asked[emit.id] = (f"{kind} {index}", at)
        if kept.message.callback:
            self._asked[kept.message.callback_id()] = (f"{kept.message.workload} callback", at)
        if len(self._asked) >= upkeep_limits.EMITTED_AT_ONCE:
            self._look_for_emitted()

    def _kind_of(self, workload: str, commit: Commit) -> str:
        """Alike are messages of a workload that write alike to the same collections, and emit alike."""
        writes = [f"{type(write).__name__} {collection_of(write.key)}" for write in commit.writes]
        kind = f"{workload} {writes} {[emit.workload for emit in commit.emits]}"
        return self._kinds.setdefault(kind, str(len(self._kinds))) if len(self._kinds) < _KINDS else workload

    def _look_for_emitted(self) -> None:
        missing = set(self.read.missing(list(self._asked)))
        for message_id, (kind, at) in self._asked.items():
            if message_id in missing:
                self.emitted.missed([kind], at, message_id)
            else:
                self.emitted.seen([kind], at)
        self._asked = {}

    def _say(self) -> None:
        self.report.unchecked += [f"effects of {count:,} messages {why}" for why, count in self._left_out.items()]
        if not self.ran:
            if not self._left_out:
                self.report.unchecked.append("effects of messages: no final one has kept its body (body_ttl)")
            return
        self.report.checked.append(f"what {self.ran:,} messages would come to now, and {self.emitted.there:,} emitted")
        if self.report.differing:
            what = "messages would come to something else in the code that is here: it has changed, or their records"
            self.report.remarks.append(f"{self.report.differing:,} {what}; `decoupled replay --kept` shows them")

    # --- the items ----------------------------------------------------------------

    def look_at_items(self) -> None:
        """Each that was written since the last message whose writes are not known; all of them if there is none."""
        if self.read.live:
            self.report.unchecked.append("items against the writes: a server changes them. Audit a backup, or stop it")
            return
        if self.past.forgotten:
            what = f"{self.past.forgotten:,} messages were forgotten, and items with them"
            self.report.unchecked.append(f"items against the writes: {what}")
            return
        if self.past.removed:  # which had ended long before
            day_ms = upkeep_limits.MIN_RECORD_TTL_S * 1000
            self.past.known_from = max(self.past.known_from, now_ms() - day_ms)
        since = self.past.known_from + ORDER_MS if self.past.known_from else 0
        lost, unknown, looked = Lost("item", "it is not as its messages leave it"), 0, 0
        for key, wrote, text in self._joined():
            later = [one for one in wrote if one.at >= since]
            if since and not later:
                unknown += 1
                continue
            left = left_by(later, fresh=not since) if len(wrote) <= _MOST else None
            if left is None:
                unknown += 1
                continue
            looked += 1
            collection = collection_of(key)
            kinds = {collection} | {f"{collection} {one.kind}" for one in later}
            wrong = list(contradictions(left, None if text is None else _item.decode(text)))
            if not wrong:
                lost.seen(kinds, min((one.at for one in later), default=0))
            else:
                at = max((one.at for one in later), default=_LATER)
                lost.missed(kinds, at, key, wrong[0] if later else "no message has made it")
        lost.tell(self.report)
        self.report.checked.append(f"{looked:,} items against the writes of messages")
        if unknown:
            self.report.unchecked.append(f"{unknown:,} items against the writes: not all of these are known, in order")

    def _joined(self) -> Iterator[tuple[str, list[Wrote], str | None]]:
        """Of each key that is written or there: the writes, and the item."""
        items = iter(self.read.every_item())
        item = next(items, None)
        for key, entries in groupby(self.spool.sorted(), key=lambda entry: entry[0]):
            while item is not None and item[0] < key:
                yield item[0], [], item[1]
                item = next(items, None)
            wrote = [_wrote.decode(what) for _, what in _first(entries)]
            if item is not None and item[0] == key:
                yield key, wrote, item[1]
                item = next(items, None)
            else:
                yield key, wrote, None
        while item is not None:
            yield item[0], [], item[1]
            item = next(items, None)


_KINDS = 10_000  # of messages, that are told apart
_LATER = 2**63 - 1  # than any time: nothing says when it was made
_MOST = upkeep_limits.WRITES_OF_ITEM
_json = msgspec.json.Encoder(decimal_format="number")
_wrote = msgspec.json.Decoder(Wrote, float_hook=Decimal)
_item = msgspec.json.Decoder(dict[str, Any], float_hook=lambda text: whole(Decimal(text)))


def _first(entries: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """No more than can be followed, and one, so that it shows."""
    for number, entry in enumerate(entries):
        if number > _MOST:
            break
        yield entry
