"""A data directory that is moved away: its file is read beside its server, or without one, a part at a time, by a
connection that changes nothing. What has ended is read in the order of its number; what had not ended when that came by
is remembered, in the mark, and looked at again.

    numbers    1 ────────────▶ next          what was looked at, and then what is new
    open           [3 5] [9 9]               of those before, what had not ended: looked at again, round after round
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import islice

import msgspec

from decoupled.core.departure import Wanted
from decoupled.core.moving import CarriedItem, Counts, ItemPart, Part, State
from decoupled.core.status import FINAL
from decoupled.core.times import now_ms
from decoupled.core.upkeep_limits import MOVE_PAGE_BYTES
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite import moving_open, tallies
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.departure import departure_in
from decoupled.engines.sqlite.departure_tool import ToolDeparture
from decoupled.engines.sqlite.moving_open import Range
from decoupled.engines.sqlite.moving_rows import COLUMNS, carried, edits_of, within

LOOKED_AGAIN = 10_000  # numbers in a part at most, of what had not ended
WAITING_KNOWN = 100_000  # numbers of queued messages that are found at a time: no index has them in their order
_FINAL = ", ".join(f"'{status}'" for status in FINAL)
_ENDED = COLUMNS.replace(" body", f" CASE WHEN status IN ({_FINAL}) THEN body END")


class Mark(msgspec.Struct, frozen=True):
    """Of what has ended. `look`: up to which number a look at those that are `open` has come; None: there is none."""

    next: int = 0
    open: list[Range] = []
    look: int | None = None


class SqliteSource:
    """Implements Source."""

    def __init__(self, directory: DataDirectory, clock_ms: Callable[[], int] = now_ms) -> None:
        """Raises DataDirectoryError or Unavailable."""
        self.name = f"the data directory {directory.path}"
        self.identity = ""  # how far it has got goes with its file
        self._directory = directory
        self._departure = ToolDeparture(directory, clock_ms)
        self._clock_ms = clock_ms
        if directory.file.exists():
            self._departure.look()  # whoever owns it brings it up to date
        self._database = Database(directory.file, read_only=True)
        self._waiting = array("q")  # numbers of queued messages, of a source that has stopped,
        self._waiting_after = -1  # and behind which number they are the next ones

    def counts(self) -> Counts:
        with self._database.refusals, self._database.snapshot():
            queued, later = self._queued()
            dead = self._one("SELECT count(*) FROM messages INDEXED BY messages_dead WHERE status = 'dead'")
            items = self._one("SELECT count(*) FROM items")
            rejected, total = tallies.rejected(self._database), tallies.messages(self._database)
        processed = total - rejected - dead - queued
        return Counts(processed=processed, rejected=rejected, dead=dead, queued=queued, later=later, items=items)

    def _queued(self) -> tuple[int, int]:
        """How many are queued, and how many of them are due later."""
        queued = self._one("SELECT count(*) FROM messages INDEXED BY messages_queued WHERE status = 'queued'")
        later = self._one(
            "SELECT count(*) FROM messages INDEXED BY messages_due"
            " WHERE due_at IS NOT NULL AND status = 'queued' AND due_at > ?",
            self._clock_ms(),
        )
        return queued, later

    def _one(self, statement: str, *values: int) -> int:
        number: int = self._database.execute(statement, values).fetchone()[0]
        return number

    def state(self) -> State:
        departure = departure_in(self._database)
        if departure is None:
            return "open"
        return "moved" if departure.state == "moved" else "stopped"

    # --- what has ended ---------------------------------------------------------

    def ended(self, after: str, most: int) -> Part:
        mark = msgspec.json.decode(after, type=Mark) if after else Mark()
        with self._database.refusals:
            return self._onward(mark, most) if mark.look is None else self._again(mark, mark.look, most)

    def _onward(self, mark: Mark, most: int) -> Part:
        rows, more = within(
            self._database.execute(
                f"SELECT {_ENDED}, seq FROM messages NOT INDEXED WHERE seq > ? ORDER BY seq LIMIT ?",  # noqa: S608  the columns are constants
                (mark.next, most + 1),
            ),
            most,
        )
        records = [carried(row[:-1]) for row in rows]
        still = moving_open.added(
            mark.open, (row[-1] for row, it in zip(rows, records, strict=True) if it.status not in FINAL)
        )
        following = rows[-1][-1] if rows else mark.next
        left = Mark(following, still, 0 if still and not more else None)
        return Part([it for it in records if it.status in FINAL], _text(left), more)

    def _again(self, mark: Mark, look: int, most: int) -> Part:
        """In one snapshot, and a part of the numbers at a time, of which most may still be open."""
        records, still, size = [], [], 0
        first = last = look + 1
        database = self._database
        with database.snapshot():
            for low, high in _numbers(mark.open, look):
                last = high
                for *row, seq in database.execute(
                    f"SELECT {_ENDED}, seq FROM messages NOT INDEXED WHERE seq BETWEEN ? AND ? ORDER BY seq",  # noqa: S608  likewise
                    (low, high),
                ):
                    if (record := carried(row)).status not in FINAL:
                        still.append(seq)
                        continue
                    records.append(record)
                    size += len(record.result or "") + len(record.body or "")
                    if len(records) == most or size > MOVE_PAGE_BYTES:
                        last = seq
                        break
                if last != high or len(records) == most or size > MOVE_PAGE_BYTES:
                    break
        left = moving_open.narrowed(mark.open, first, last, still)
        more_of_these = any(high > last for _, high in mark.open)
        return Part(records, _text(Mark(mark.next, left, last if more_of_these else None)), True)

    # --- of a source that has stopped -------------------------------------------

    def dead(self, after: str, most: int) -> Part:
        finished_at, _, number = after.partition(".")
        database = self._database
        with database.refusals:
            rows, more = within(
                database.execute(
                    f"""
                    SELECT {COLUMNS}, seq FROM messages INDEXED BY messages_dead
                    WHERE status = 'dead' AND (finished_at, seq) > (?, ?) ORDER BY finished_at, seq LIMIT ?
                    """,  # noqa: S608  the columns are a constant
                    (int(finished_at or 0), int(number or -1), most + 1),
                ),
                most,
            )
            edits = edits_of(database, [row[0] for row in rows])
        records = [carried(row[:-1], edits.get(row[0], ())) for row in rows]
        return Part(records, f"{records[-1].finished_at}.{rows[-1][-1]}" if rows else after, more)

    def waiting(self, after: str, most: int) -> Part:
        """In the order in which they were accepted."""
        number = int(after or 0)
        database = self._database
        with database.refusals:
            if not self._waiting or self._waiting_after != number:
                self._waiting = self._following(number)
            wanted = msgspec.json.encode(list(islice(self._waiting, most + 1))).decode()
            rows, more = within(
                database.execute(
                    f"""
                    SELECT {COLUMNS}, receive_count, seq FROM messages
                    WHERE seq IN (SELECT value FROM json_each(?)) AND status = 'queued' ORDER BY seq
                    """,  # noqa: S608  likewise
                    (wanted,),
                ),
                most,
            )
            edits = edits_of(database, [row[0] for row in rows])
        records = [carried(row[:-2], edits.get(row[0], ()), row[-2]) for row in rows]
        last = rows[-1][-1] if rows else number
        taken = sum(1 for it in islice(self._waiting, most + 1) if it <= last)
        self._waiting, self._waiting_after = self._waiting[taken:], last
        return Part(records, str(last), more or bool(self._waiting))

    def _following(self, number: int) -> array[int]:
        rows = self._database.execute(
            """
            SELECT seq FROM messages INDEXED BY messages_queued WHERE status = 'queued' AND seq > ?
            ORDER BY seq LIMIT ?
            """,
            (number, WAITING_KNOWN),
        )
        return array("q", (seq for (seq,) in rows))

    def items(self, after: str, most: int) -> ItemPart:
        with self._database.refusals:
            rows, more = within(
                self._database.execute(
                    "SELECT key, item, owner FROM items WHERE key > ? ORDER BY key LIMIT ?", (after, most + 1)
                ),
                most,
            )
        return ItemPart([CarriedItem(*row) for row in rows], rows[-1][0] if rows else after, more)

    # --- to stop, and to go on ------------------------------------------------------

    def stop(self, to: str, url: str, drain: bool) -> None:
        self._departure.change(Wanted("draining" if drain else "stopped", to, url))

    def busy(self) -> int:
        told = self._departure.look()
        if told.departure is not None and told.departure.takes:
            left = self._due_now() if told.served else 0
            if left or told.in_flight:
                return max(left, 1)
            told = self._departure.change(Wanted("stopped", told.departure.to))  # what comes due later waits
        return int(told.in_flight)

    def _due_now(self) -> int:
        with self._database.refusals, self._database.snapshot():
            queued, later = self._queued()
        return queued - later

    def go_on(self) -> None:
        if (departure := self._departure.look().departure) is not None:
            self._departure.change(Wanted("accepting", departure.to))

    def give_over(self) -> None:
        departure = self._departure.look().departure
        if departure is None:
            raise ValueError(f"{self.name} accepts messages: it is not stopped")
        if departure.takes or self.busy():
            raise Unavailable(f"{self.name} is still at work on what it has")
        self._departure.change(Wanted("moved", departure.to))

    def close(self) -> None:
        self._database.close()


def _numbers(ranges: list[Range], look: int) -> list[Range]:
    """The next ones behind that, in ranges, LOOKED_AGAIN at most."""
    found: list[Range] = []
    left = LOOKED_AGAIN
    for low, high in ranges:
        if high <= look or left <= 0:
            continue
        low = max(low, look + 1)
        found.append((low, min(high, low + left - 1)))
        left -= found[-1][1] - low + 1
    return found


def _text(mark: Mark) -> str:
    return msgspec.json.encode(mark).decode()
