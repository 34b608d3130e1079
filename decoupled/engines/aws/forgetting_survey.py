"""What a stack has of somebody: records and items of its table, bodies from before an edit, copies on the dead-letter
queues, what is due later, and what was emitted and has no record yet. Reads only; what a look at the dead-letter queues
hides, it gives back. What waits on the other queues, nobody can know without taking it from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from decoupled.core import limits, upkeep_limits
from decoupled.core.forgetting import Asked, Report, Sought, callbacks_of, item_kind, may_come_of
from decoupled.core.workload import ANONYMOUS, Message, collection_of
from decoupled.engines.aws import erased, owners, records
from decoupled.engines.aws.attributes import Attributes
from decoupled.engines.aws.carried import MOVED
from decoupled.engines.aws.dead_letter_queue import DeadLetterQueue
from decoupled.engines.aws.due_later import DueLater
from decoupled.engines.aws.edits import Edits, id_of
from decoupled.engines.aws.paced import GET_AT_ONCE, PacedTable, parts

Show = Callable[[str, int, int], None]


class Survey:
    """Of one caller, or one id. `look` makes a look at the dead-letter queues. Every method may raise Unavailable, or
    ValueError where there is too much."""

    def __init__(
        self,
        table: PacedTable,
        edits: Edits,
        later: DueLater,
        look: Callable[[], DeadLetterQueue],
        asked: Asked,
        show: Show,
    ) -> None:
        self.asked = asked
        self.sought = Sought()
        self.cut_short = False
        self.open: dict[str, Message | None] = {}  # not finished; a message that has no record yet
        self.dead: dict[str, Message] = {}  # what SQS gave up, everybody's
        self.ids: set[str] = set()
        self._table = table
        self._edits = edits
        self._later = later
        self._look = look
        self._show = show
        self._emitted: dict[str, Message] = {}
        with self.copies() as queue:
            self.dead = {key: some[0].message for key, some in queue.copies.items() if not some[0].told}
            if asked.id is not None:
                self._add_descendants(asked.id)
            self._copies = sum(len(some) for some in queue.copies.values() if self.is_of(some[0].message))

    def report(self) -> Report:
        """All of it counted."""
        report, edited = Report(of=self.asked.says), set[str]()
        for stored in self.everything("counting"):
            if (message_id := id_of(stored)) is not None:
                edited.add(message_id)
            elif self.is_whose(stored):
                self._count(stored, report)
            elif self.owns(stored):
                kind = item_kind(stored["pk"]["S"], self.asked.keep)
                report.count(kind)
                if collection_of(stored["pk"]["S"]) not in self.asked.keep:
                    self.sought.keep([erased.text_of_item(stored)])
        self._look_for_emitted()
        self._count_what_has_no_record(report)
        report.count("copies of dead letters", self._copies)
        report.count("edits", len(self.whose_edits(edited)))
        report.count("unfinished", len(self.open))
        report.unfinished = len(self.open)
        report.ids = list(self.open)[: upkeep_limits.FORGET_NAMED]
        return report

    def _count(self, record: Attributes, report: Report) -> None:
        message_id = record["pk"]["S"]
        self.sought.keep(erased.texts(record))
        status = record["status"]["S"]
        if record["status"] != records.after("accept"):
            report.count(status)
        elif message_id in self.dead:
            report.count("dead")
        else:
            self._wait(message_id, None)
        if self.asked.id is None:
            self._emitted |= {emit.id: emit for emit in records.emits(record)}
            if len(self._emitted) >= GET_AT_ONCE:
                self._look_for_emitted()

    def _count_what_has_no_record(self, report: Report) -> None:
        for some in parts(self.due(), GET_AT_ONCE):
            known = self._table.read(message.id for _, message in some)
            for _, message in some:
                self.sought.keep([message.body])
                if known.get(message.id, {}).get("status", _WAITS) == _WAITS:
                    self._wait(message.id, message)
            report.count("schedules", len(some))
        without = {it.id: it for it in self.dead.values() if self.is_of(it)}
        known = self._table.read(without)
        for message_id in without.keys() - known.keys():
            self.sought.keep([without[message_id].body])
            report.count("dead")

    def _wait(self, message_id: str, message: Message | None) -> None:
        self.open.setdefault(message_id, message)
        if len(self.open) > upkeep_limits.FORGET_WAITING:
            raise ValueError(f"over {upkeep_limits.FORGET_WAITING:,} messages of {self.asked.says} are not finished")

    def _look_for_emitted(self) -> None:
        """What has no record waits, or is dead without one."""
        known = self._table.read(self._emitted)
        for message_id, message in self._emitted.items():
            if message_id not in known and message_id not in self.dead:
                self._wait(message_id, message)
        self._emitted = {}

    def _add_descendants(self, message_id: str) -> None:
        """The id, and those of all that came of it, as far as they have records, or as these tell of them."""
        self.ids, new = {message_id}, [message_id]
        while new:
            told: dict[str, Message | None] = {}
            for some in parts(new, GET_AT_ONCE):
                there = self._table.read(some, whole=True)
                for parent in some:
                    told |= _children(parent, there.get(parent))
            known = self._table.read(told)
            new = [child for child in told if child not in self.ids and (child in known or child in self.dead)]
            self.ids.update(new)
            for child, message in told.items():
                if message is not None and child not in known and child not in self.dead:
                    self.ids.add(child)
                    self._wait(child, message)
            if len(self.ids) > upkeep_limits.FORGET_DESCENDANTS:
                raise ValueError(f"over {upkeep_limits.FORGET_DESCENDANTS:,} messages came of {message_id}")

    # --- what there is

    def everything(self, doing: str) -> Iterator[Attributes]:
        """The table's records and items; with an id, its records only."""
        if self.asked.id is None:
            yield from self._table.scan(lambda done, about: self._show(doing, done, about))
            return
        for some in parts(self.ids, GET_AT_ONCE):
            yield from self._table.read(some, whole=True).values()

    def is_whose(self, stored: Attributes) -> bool:
        """Whether it is a record that is to be forgotten, and is not."""
        if not erased.is_record(stored) or erased.is_left(stored):
            return False
        if self.asked.id is None:
            return bool(stored.get("caller", {}).get("S", "") == self.asked.caller)
        return stored["pk"]["S"] in self.ids

    def owns(self, stored: Attributes) -> bool:
        """Whether it is an item that the caller owns."""
        caller = self.asked.caller
        is_item = "/" in stored[limits.KEY_ATTRIBUTE].get("S", "")
        return is_item and caller not in (None, ANONYMOUS) and owners.owner(stored) == caller

    def is_of(self, message: Message) -> bool:
        """Whether it is one of those."""
        return message.id in self.ids if self.asked.id is not None else message.caller == self.asked.caller

    def due(self) -> Iterator[tuple[str, Message]]:
        """Those of them that are due later, by the names of their schedules."""
        return ((name, message) for name, message in self._later.messages() if self.is_of(message))

    def whose_edits(self, edited: Iterable[str]) -> list[str]:
        """Of messages that were edited, those that are to be forgotten, or are. With an id, whatever was edited of
        its."""
        if self.asked.id is not None:
            return [message_id for message_id in self.ids if self._edits.of(message_id)]
        return [
            message_id
            for some in parts(edited, GET_AT_ONCE)
            for message_id, it in self._table.read(some, whole=True).items()
            if erased.is_left(it) or self.is_whose(it)
        ]

    @contextmanager
    def copies(self) -> Iterator[DeadLetterQueue]:
        """A look at the dead-letter queues, for what is done with it meanwhile."""
        self._show("looking at the dead-letter queues", 0, 0)
        queue = self._look()
        try:
            queue.look()
            self.cut_short |= queue.cut_short
            yield queue
        finally:
            queue.release()


_WAITS = records.after("accept")


def _children(message_id: str, record: Attributes | None) -> dict[str, Message | None]:
    """What may have come of a message, and what is known of it: its record tells, unless it was forgotten or came from
    elsewhere."""
    told: dict[str, Message | None] = {}
    if record is None or MOVED in record or erased.is_left(record):
        told = dict.fromkeys(may_come_of(message_id))
    else:
        told = dict.fromkeys(callbacks_of(message_id))
    return told | {emit.id: emit for emit in records.emits(record or {})}
