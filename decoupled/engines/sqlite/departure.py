"""That the messages of a data directory go elsewhere, or come from elsewhere and are not all there yet: marks in its
file, which go wherever the file goes, into backups and copies. See `core/departure.py`."""

from __future__ import annotations

import msgspec

from decoupled.core.departure import Departure
from decoupled.core.workload import Unavailable
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite.database import Database, DataDirectoryError

DEPARTURE, ARRIVAL = "departure", "arrival"  # in `marks`; of an arrival: where from
MOVE, MOVE_IN = "move", "move_in"  # likewise: how far the tool has got that moves them away, or in
CHANGE, LOOK, REMEMBER = "move_away", "move_told", "move_remember"  # calls


class Departed:
    """As the owner of a file keeps it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> Departure | None:
        """As it is. Raises StoreUnavailable."""
        return departure_in(self._database)

    def write(self, departure: Departure | None) -> None:
        """As it is from now on. Inside a transaction, or as one."""
        with self._database.transaction():
            if departure is None:
                self._database.execute("DELETE FROM marks WHERE name = ?", (DEPARTURE,))
            else:
                text = msgspec.json.encode(departure).decode()
                self._database.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (DEPARTURE, text))

    def remember(self, text: str) -> None:
        """How far the tool has got. Inside a transaction, or as one."""
        with self._database.transaction():
            self._database.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (MOVE, text))


def remembered(database: Database) -> str | None:
    """How far the tool has got. Raises StoreUnavailable."""
    return _mark(database, MOVE)


def departure_in(database: Database) -> Departure | None:
    """What a file says. Raises StoreUnavailable; what it cannot read, nobody may take for nothing."""
    text = _mark(database, DEPARTURE)
    try:
        return None if text is None else msgspec.json.decode(text, type=Departure)
    except msgspec.DecodeError as error:
        raise StoreUnavailable(f"what it says of where its messages move cannot be read: {error}") from error


def arrival_in(database: Database) -> str | None:
    """Why nobody may serve this file yet: messages that move into it are not all there. Raises StoreUnavailable."""
    if (said := _mark(database, ARRIVAL)) is None:
        return None
    return f"messages move into it from {said}, and are not all there yet: `decoupled move` goes on with that"


def _mark(database: Database, name: str) -> str | None:
    with database.refusals:
        row = database.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def said_of(database: Database) -> str | None:
    """What a person should know of a file, if there is something."""
    departure = departure_in(database)
    return arrival_in(database) if departure is None else departure.says()


def refuse_changes(database: Database) -> None:
    """For who would put messages on the queue, or take some away, beside requests. Raises Unavailable."""
    if (departure := departure_in(database)) is not None:
        raise Unavailable(f"nothing is changed here: {departure.elsewhere()}")
    if (why := arrival_in(database)) is not None:
        raise Unavailable(f"nothing is changed here: {why}")


def refuse_half_arrived(database: Database) -> None:
    """For a server. Raises DataDirectoryError, or StoreUnavailable."""
    if (why := arrival_in(database)) is not None:
        raise DataDirectoryError(why)
