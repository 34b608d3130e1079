"""Two systems in memory, between which a move is tried: they accept, process and lose nothing by themselves, and each
call of a move may be its last, or be answered with trouble, before it has done what it does or after. For tests
only."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from decoupled.core.fingerprints import difference, item_difference
from decoupled.core.moving import Carried, CarriedItem, Counts, ItemPart, Part, State
from decoupled.core.workload import Unavailable

T = TypeVar("T")
PAGE = 3


class Killed(BaseException):
    """Whoever called is no more."""


class Fate:
    """Decides of each call: of the one with number `last`, that it is the last; of some others, that there is
    trouble."""

    def __init__(self, chance: random.Random, last: int, trouble: float) -> None:
        self.chance, self.last, self.trouble, self.calls = chance, last, trouble, 0

    def call(self, do: Callable[[], T]) -> T:
        self.calls += 1
        late = self.chance.random() < 0.5
        killed, away = self.calls == self.last, self.chance.random() < self.trouble
        if not late and (killed or away):
            raise Killed if killed else Unavailable("away")
        done = do()
        if late and (killed or away):
            raise Killed if killed else Unavailable("its answer is lost")
        return done


class System:
    """Messages by id, items, and what is handed out. `effects`: how often each message's were applied."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.records: dict[str, Carried] = {}
        self.ends: list[str] = []
        self.queue: list[str] = []
        self.in_flight: list[str] = []
        self.things: dict[str, CarriedItem] = {}
        self.effects: list[str] = []

    def accept(self, message_id: str) -> None:
        self.records[message_id] = Carried(id=message_id, workload="w", status="queued", accepted_at=1, body="{}")
        self.queue.append(message_id)

    def claim(self) -> None:
        if self.queue:
            self.in_flight.append(self.queue.pop(self.chance.randrange(len(self.queue))))

    def settle(self) -> None:
        """One of those in flight comes to an end, fails, or dies."""
        if not self.in_flight:
            return
        message_id = self.in_flight.pop(self.chance.randrange(len(self.in_flight)))
        record = self.records[message_id]
        if record.status in ("processed", "rejected"):
            return
        what = self.chance.choice(["processed", "processed", "rejected", "dead", "failed"])
        if what == "failed":
            self.records[message_id] = msgspec.structs.replace(record, attempts=record.attempts + 1)
            self.queue.append(message_id)
            return
        told: dict[str, Any] = {"status": what, "finished_at": len(self.ends)}
        if what == "processed":
            told |= {"result": "{}", "body": None}
            self.effects.append(message_id)
            self._add(f"w/balances/{self.chance.randrange(5)}")
        elif what == "rejected":
            told |= {"reason": "no", "body": None}
        self.records[message_id] = msgspec.structs.replace(record, **told)
        if what != "dead":
            self.ends.append(message_id)

    def _add(self, key: str) -> None:
        balance = msgspec.json.decode(self.things[key].item)["n"] if key in self.things else 0
        self.things[key] = CarriedItem(key, f'{{"n":{balance + 1}}}')

    def redrive(self) -> None:
        dead = [it for it in self.records.values() if it.status == "dead"]
        if dead:
            record = self.chance.choice(dead)
            told: dict[str, Any] = {"status": "queued", "finished_at": None, "attempts": 0}
            self.records[record.id] = msgspec.structs.replace(record, **told)
            self.queue.append(record.id)

    def balance(self) -> int:
        return sum(msgspec.json.decode(it.item)["n"] for it in self.things.values())


class ModelSource(System):
    """A Source; it goes on by itself between the calls."""

    name, identity = "here", "the first"

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self.its_state: State = "open"
        self.fate = Fate(chance, 0, 0)
        self.text: str | None = None
        self.count = 0

    def live(self) -> None:
        """For a moment."""
        for _ in range(self.chance.randrange(6)):
            if self.its_state == "open":
                self.chance.choice([self._accept_one, self.claim, self.claim, self.settle, self.settle, self.redrive])()
            else:
                self.settle()

    def _accept_one(self) -> None:
        self.count += 1
        self.accept(f"m{self.count}")

    def _call(self, do: Callable[[], T]) -> T:
        self.live()
        return self.fate.call(do)

    def read(self) -> str | None:
        return self._call(lambda: self.text)

    def write(self, text: str) -> None:
        self._call(lambda: setattr(self, "text", text))

    def counts(self) -> Counts:
        statuses = [it.status for it in self.records.values()]
        told: dict[str, Any] = {name: statuses.count(name) for name in ("processed", "rejected", "dead", "queued")}
        return self._call(lambda: Counts(**told, items=len(self.things)))

    def state(self) -> State:
        return self._call(lambda: self.its_state)

    def ended(self, after: str, most: int) -> Part:
        def look() -> Part:
            first = int(after or 0)
            some = [self.records[it] for it in self.ends[first : first + PAGE]]
            return Part(some, str(first + len(some)), first + PAGE < len(self.ends))

        return self._call(look)

    def dead(self, after: str, most: int) -> Part:
        return self._call(lambda: self._open("dead", after))

    def waiting(self, after: str, most: int) -> Part:
        return self._call(lambda: self._open("queued", after))

    def _open(self, status: str, after: str) -> Part:
        assert self.its_state != "open"
        assert not self.in_flight
        found = sorted((it for it in self.records.values() if it.status == status), key=lambda it: int(it.id[1:]))
        behind = [it for it in found if int(it.id[1:]) > int(after or 0)]
        some = behind[:PAGE]
        return Part(some, some[-1].id[1:] if some else after, len(behind) > PAGE)

    def items(self, after: str, most: int) -> ItemPart:
        def look() -> ItemPart:
            behind = sorted(key for key in self.things if key > after)
            some = behind[:PAGE]
            return ItemPart([self.things[key] for key in some], some[-1] if some else after, len(behind) > PAGE)

        return self._call(look)

    def stop(self, to: str, url: str, drain: bool) -> None:
        self._call(lambda: setattr(self, "its_state", "stopped" if self.its_state == "open" else self.its_state))

    def busy(self) -> int:
        return self._call(lambda: len(self.in_flight))

    def go_on(self) -> None:
        def open_again() -> None:
            if self.its_state == "moved":
                raise ValueError("for good")
            self.its_state = "open"

        self._call(open_again)

    def give_over(self) -> None:
        self._call(lambda: setattr(self, "its_state", "moved"))

    def close(self) -> None:
        pass


class ModelTarget(System):
    """A Target. It serves what it is sent."""

    name, identity = "there", "the first"

    def __init__(self, chance: random.Random, source: ModelSource) -> None:
        super().__init__(chance)
        self.source = source
        self.told: list[str] = []

    def _call(self, do: Callable[[], T]) -> T:
        if self.chance.random() < 0.5:
            self.claim()
            self.settle()
        self.source.live()
        return self.source.fate.call(do)

    def check(self, counts: Counts) -> Sequence[str]:
        return []

    def put(self, records: Sequence[Carried]) -> Sequence[str]:
        def put_all() -> list[str]:
            for it in records:
                self.records.setdefault(it.id, it)
            found = [difference(it, self.records[it.id]) for it in records]
            return [why for why in found if why]

        return self._call(put_all)

    def put_items(self, items: Sequence[CarriedItem]) -> Sequence[str]:
        def put_all() -> list[str]:
            for it in items:
                self.things.setdefault(it.key, it)
            found = [item_difference(it, self.things[it.key]) for it in items]
            return [why for why in found if why]

        return self._call(put_all)

    def send(self, records: Sequence[Carried]) -> None:
        assert self.source.its_state == "moved"

        def send_all() -> None:
            for it in records:
                if it.status == self.records[it.id].status == "queued":
                    self.queue.append(it.id)
                elif it.status == "dead":
                    self.told.append(it.id)

        self._call(send_all)

    def take_back(self, records: Sequence[Carried]) -> None:
        def remove() -> None:
            for it in records:
                if self.records.get(it.id) == it:
                    del self.records[it.id]

        self._call(remove)

    def take_back_items(self, items: Sequence[CarriedItem]) -> None:
        def remove() -> None:
            for it in items:
                if self.things.get(it.key) == it:
                    del self.things[it.key]

        self._call(remove)

    def get(self, ids: Sequence[str]) -> Mapping[str, Carried]:
        return self._call(lambda: {it: self.records[it] for it in ids if it in self.records})

    def get_items(self, keys: Sequence[str]) -> Mapping[str, CarriedItem]:
        return self._call(lambda: {it: self.things[it] for it in keys if it in self.things})

    def finish(self) -> None:
        self._call(lambda: None)

    def close(self) -> None:
        pass
