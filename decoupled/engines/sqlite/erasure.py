"""Erases what messages have in them, in small transactions: a row stays, with its number, id, workload, status and
times (see `core/forgetting.py`). Also what is kept beside the rows. `forgetting.py` says in which order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from decoupled.core.forgetting import FORGOTTEN, NOTHING, may_come_of
from decoupled.engines.sqlite import tallies
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.ends import told_anew

MARK = "forgetting"  # in `marks`, from the first that is erased until nothing of it is found any more
_TEXTS = ("body", "result", "reason", "error", "traceback", "callback")

# What is there already, forgotten: nobody's, and with nothing in it.
_LEFT = f"NOT (caller = '' AND (result IS '{NOTHING}' OR reason IS '{FORGOTTEN}'))"
_ERASE = f"""
UPDATE messages SET
    status = CASE status WHEN 'processed' THEN 'processed' ELSE 'rejected' END,
    result = CASE status WHEN 'processed' THEN '{NOTHING}' END,
    reason = CASE status WHEN 'processed' THEN NULL ELSE '{FORGOTTEN}' END,
    finished_at = coalesce(finished_at, ?),
    caller = '', body = NULL, error_type = NULL, error = NULL, traceback = NULL, first_failed_at = NULL,
    last_failed_at = NULL, attempts = 0, receive_count = 0, mark = 0, in_flight = 0, due_at = NULL, message_group = '',
    digest = '', callback = '', ended = NULL, trace = ''
WHERE seq IN (SELECT value FROM json_each(?))
"""  # noqa: S608  what is added is constant


class Whose(NamedTuple):
    """A condition on `messages`, with its value; `hint`: how SQLite finds them, a part of the numbers after the other,
    or by their ids all at once."""

    condition: str
    value: str
    hint: str


def of_caller(caller: str) -> Whose:
    """All that it has sent, and what came of that."""
    return Whose("caller = ?", caller, "NOT INDEXED")


def of_ids(ids: Iterable[str]) -> Whose:
    """These."""
    return Whose("id IN (SELECT value FROM json_each(?))", json.dumps(list(ids)), "")


class There(NamedTuple):
    """A message that is still to be forgotten. `texts`: what to search for may be in them; the beginning of what is
    long, since some thousand bodies of 256 KiB are more than the memory of a server."""

    seq: int
    id: str
    status: str
    texts: Sequence[str]


_LOOKED_CHARS = 4_096
_LOOKED = (
    *("coalesce(body, result, error, reason, '')", "message_group", "callback"),
    "(SELECT json_extract(edits.body, '$.body') FROM edits WHERE edits.id = messages.id ORDER BY at LIMIT 1)",
)


def there(database: Database, whose: Whose, first: int, last: int) -> list[There]:
    """Those of these numbers. Raises StoreUnavailable."""
    looked = ", ".join(f"substr(coalesce({text}, ''), 1, {_LOOKED_CHARS})" for text in _LOOKED)
    with database.refusals:
        rows = database.execute(
            f"""
            SELECT seq, id, status, {looked} FROM messages {whose.hint}
            WHERE seq BETWEEN ? AND ? AND {whose.condition} AND {_LEFT} ORDER BY seq
            """,  # noqa: S608  all of it is constant
            (first, last, whose.value),
        )
        return [There(seq, message_id, status, texts) for seq, message_id, status, *texts in rows]


class Erased(NamedTuple):
    """What a transaction has: by kind; by workload and what it was before; and whose it was: id, workload, caller."""

    kinds: Counter[str]
    was: Counter[tuple[str, str]]
    whose: list[tuple[str, str, str]]


def erase(database: Database, whose: Whose, seqs: Sequence[int], unfinished: bool, now_ms: int) -> Erased:
    """Those of these numbers that are still whose they were. What is `unfinished` is given up, or stays."""
    texts = ", ".join(f"coalesce({name}, '') <> ''" for name in _TEXTS)
    with database.transaction():
        _begin(database, whose.value)
        rows = database.execute(
            f"""
            SELECT seq, id, status, workload, caller, ended, {texts} FROM messages
            WHERE seq IN (SELECT value FROM json_each(?)) AND {whose.condition} AND {_LEFT}
                AND (status <> 'queued' OR ?)
            """,  # noqa: S608  all of it is constant
            (json.dumps(seqs), whose.value, unfinished),
        ).fetchall()
        database.execute(_ERASE, (now_ms, json.dumps([row[0] for row in rows])))
        ids = json.dumps([row[1] for row in rows])
        edits = database.execute("DELETE FROM edits WHERE id IN (SELECT value FROM json_each(?))", (ids,)).rowcount
        told_anew(database, Counter((row[3], row[4], row[5]) for row in rows if row[5]))
        tallies.add_rejected(database, sum(row[2] in ("queued", "dead") for row in rows))
    kinds = Counter({"edits": edits} if edits else {})
    for _, _, status, *_ in rows:
        kinds[{"queued": "given up"}.get(status, status)] += 1
    for place, name in enumerate(_TEXTS, 6):
        kinds[_plural(name)] += sum(row[place] for row in rows)
    return Erased(+kinds, Counter((row[3], row[2]) for row in rows), [(row[1], row[3], row[4]) for row in rows])


def _plural(name: str) -> str:
    return "bodies" if name == "body" else f"{name}s"


def descendants(database: Database, message_id: str, most: int) -> list[str]:
    """The id, and those of all that came of it: what it emitted and its callback, what these have, and so on. The ids
    are made of each other, so that they are found as far as rows are there. Raises ValueError where there are more than
    so many, and StoreUnavailable."""
    found, new = dict.fromkeys([message_id]), [message_id]
    while new:
        children = [child for parent in new for child in may_come_of(parent)]
        with database.refusals:
            rows = database.execute(
                "SELECT id FROM messages WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(children),)
            ).fetchall()
        new = [child for (child,) in rows if child not in found]
        found |= dict.fromkeys(new)
        if len(found) > most:
            raise ValueError(f"over {most:,} messages came of {message_id}; forget its caller's instead")
    return list(found)


# --- beside the rows ----------------------------------------------------------------


def items(database: Database, owner: str, after: int, most: int) -> tuple[list[tuple[int, str, str]], int | None]:
    """A part of the items, those of them that are the owner's: number, key and the beginning of the text; and from
    where to go on. Raises StoreUnavailable."""
    with database.refusals:
        (last,) = database.execute(
            "SELECT max(rowid) FROM (SELECT rowid FROM items WHERE rowid > ? ORDER BY rowid LIMIT ?)", (after, most)
        ).fetchone()
        if last is None:
            return [], None
        rows = database.execute(
            "SELECT rowid, key, substr(item, 1, ?) FROM items NOT INDEXED WHERE rowid > ? AND rowid <= ? AND owner = ?",
            (_LOOKED_CHARS, after, last, owner),
        )
        return rows.fetchall(), last


def erase_items(database: Database, owner: str, numbers: Sequence[int], keep: bool = False) -> int:
    """Those that are still the owner's, or that they are, where the items are to be kept; how many."""
    change = "UPDATE items SET owner = ''" if keep else "DELETE FROM items"
    with database.transaction():
        _begin(database, owner)
        return database.execute(
            f"{change} WHERE rowid IN (SELECT value FROM json_each(?)) AND owner = ?",  # noqa: S608  it is constant
            (json.dumps(numbers), owner),
        ).rowcount


def followed(database: Database, caller: str) -> int:
    """In how many workloads somebody follows the caller's ends. Raises StoreUnavailable."""
    with database.refusals:
        number: int = database.execute("SELECT count(*) FROM followed WHERE caller = ?", (caller,)).fetchone()[0]
    return number


def unfollow(database: Database, caller: str) -> int:
    """Who follows these ends begins anew; how many did."""
    with database.transaction():
        _begin(database, caller)
        return database.execute("DELETE FROM followed WHERE caller = ?", (caller,)).rowcount


def _begin(database: Database, of: str) -> None:
    """In the same transaction as what is erased: that it may still be read somewhere in the file; by a digest of whose
    it is, since nobody else's may be taken for it."""
    known = _known(database) or {}
    if _digest(of) not in known:
        text = json.dumps({**known, _digest(of): 1})
        database.execute("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)", (MARK, text))


def begun(database: Database, of: str) -> bool:
    """Whether something of it was erased of which it is not known that nothing is left. Raises StoreUnavailable."""
    with database.refusals:
        known = _known(database)
    return known is not None and (not known or _digest(of) in known)  # of an earlier version: whose is not known


def ended(database: Database, of: str | None = None) -> None:
    """Nothing of it is found any more; None: of nobody's."""
    with database.transaction():
        known = {} if of is None else _known(database) or {}
        known.pop(_digest(of or ""), None)
        database.execute("DELETE FROM marks WHERE name = ?", (MARK,))
        if known:
            database.execute("INSERT INTO marks (name, value) VALUES (?, ?)", (MARK, json.dumps(known)))


def _known(database: Database) -> dict[str, int] | None:
    row = database.execute("SELECT value FROM marks WHERE name = ?", (MARK,)).fetchone()
    return None if row is None else dict(json.loads(row[0]))


def _digest(of: str) -> str:
    return hashlib.blake2b(of.encode(), digest_size=16).hexdigest()
