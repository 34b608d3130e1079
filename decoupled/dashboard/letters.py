"""What the page asks of dead letters: how many there are of each error, which they are, and to redrive or purge them, a
batch a request. Nothing is kept between two requests: the browser has the cursor, and doing a batch again is safe.

    dry run ─▶ counts, kinds, `until` ─▶ batch until `until` ─▶ cursor ─▶ batch ─▶ ... ─▶ no cursor
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from decoupled.core import dead_letters as core
from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter, Some, Wanted
from decoupled.core.problem import Problem
from decoupled.core.signed_ids import record_id
from decoupled.core.times import now_ms
from decoupled.dashboard import asked
from decoupled.dashboard.shapes import Change, Changed, DeadGroups, Letter, Letters, Which
from decoupled.dashboard.sources import Sources
from decoupled.engines.protocols import DeadLetters
from decoupled.pipeline.call import Call

Doing = Literal["redrive", "purge"]
_DONE: Mapping[Doing, str] = {"redrive": "redriven", "purge": "purged"}
_NOT_DEAD = "not: it is not dead here"
_CUT_SHORT = "There are too many to look at all of them in a moment: {:,} were, and the numbers by error are of these."
_FILTERS = ("workload", "error", "alike", "newer_than_s", "older_than_s")


def groups(call: Call, sources: Sources) -> DeadGroups:
    """GET /-/dead: how many there are of each error. Raises Problem 400."""
    wanted = _filtered(asked.parameters(call, *_FILTERS))
    with contextlib.closing(sources.dead_letters()) as store:
        counted = store.groups(wanted)
        note = _note(counted, store)
    return DeadGroups(counted.total, _shown(counted), note)


def listed(call: Call, sources: Sources) -> Letters:
    """GET /-/dead/letters: some of them, the oldest first. Raises Problem 400."""
    given = asked.parameters(call, *_FILTERS, "cursor", "limit")
    most = asked.number(given, "limit", 1, limits.MAX_LETTERS_SHOWN, 100)
    with contextlib.closing(sources.dead_letters()) as store:
        some = _some(store, _filtered(given), given.get("cursor"), most)
        notes = " ".join(store.notes())
    return Letters([_letter(letter) for letter in some.letters], some.after, notes)


def redrive(call: Call, sources: Sources) -> Changed:
    """POST /-/dead/redrive. Raises Problem."""
    return _change(call, sources, "redrive")


def purge(call: Call, sources: Sources) -> Changed:
    """POST /-/dead/purge. Raises Problem."""
    return _change(call, sources, "purge")


# --- which --------------------------------------------------------------------


def _filtered(given: Mapping[str, str]) -> Wanted:
    now = now_ms()
    older = asked.number(given, "older_than_s", 0, limits.MAX_AGE_S, None)
    newer = asked.number(given, "newer_than_s", 0, limits.MAX_AGE_S, None)
    return Wanted(
        workload=given.get("workload"),
        error=given.get("error"),
        alike=given.get("alike"),
        dead_before=None if older is None else now - older * 1000,
        dead_after=None if newer is None else now - newer * 1000,
    )


def _some(store: DeadLetters, wanted: Wanted, cursor: str | None, most: int) -> Some:
    try:
        return store.some(wanted, cursor, most)
    except ValueError as error:
        raise Problem(400, f"cursor is what the answer before had: {error}.") from error


def _note(counted: core.Groups, store: DeadLetters) -> str:
    return " ".join([*([] if counted.whole else [_CUT_SHORT.format(counted.counted)]), *store.notes()])


def _shown(counted: core.Groups) -> list[core.Group]:
    """The largest first, and no more than a page can show."""
    largest = sorted(counted.groups.values(), key=lambda group: (-group.count, group.workload, group.alike))
    return largest[: limits.MAX_GROUPS_SHOWN]


def _letter(letter: DeadLetter) -> Letter:
    return Letter(
        id=letter.id,
        workload=letter.workload,
        caller=letter.caller,
        accepted_at=letter.accepted_at,
        dead_at=letter.dead_at,
        attempts=letter.attempts,
        error_type=letter.error_type,
        error=letter.error[: limits.MAX_SHOWN_CHARS],
        group=letter.group,
        sqs_deletes_at=letter.sqs_deletes_at,
    )


# --- change -------------------------------------------------------------------


def _change(call: Call, sources: Sources, doing: Doing) -> Changed:
    change = asked.body(call, Change)
    which = change.which
    if which.ids is not None:
        _check_ids(which)
        with contextlib.closing(sources.dead_letters()) as store:
            return _by_ids(store, change, doing)
    until = now_ms() if which.dead_before is None else which.dead_before
    wanted = Wanted(which.workload, which.error, until, which.dead_after, which.alike)
    with contextlib.closing(sources.dead_letters()) as store:
        return _counted(store, wanted, doing) if change.dry_run else _batch(store, wanted, change.cursor, doing)


def _check_ids(which: Which) -> None:
    if which != Which(ids=which.ids):
        raise Problem(422, "which: dead letters are chosen by their ids, or by what they have in common, not both.")
    if not 1 <= len(which.ids or ()) <= limits.MAX_LETTERS_CHOSEN:
        raise Problem(422, f"which: 1 to {limits.MAX_LETTERS_CHOSEN:,} ids are taken at once.")


def _counted(store: DeadLetters, wanted: Wanted, doing: Doing) -> Changed:
    """What would be done."""
    counted = store.groups(wanted)
    counts = {_DONE[doing]: counted.total} if counted.total else {}
    return Changed(counts, until=wanted.dead_before, kinds=_shown(counted), note=_note(counted, store))


def _batch(store: DeadLetters, wanted: Wanted, cursor: str | None, doing: Doing) -> Changed:
    some = _some(store, wanted, cursor, limits.PAGE_BATCH)
    counts, failures = _do(store, some.letters, doing)
    return Changed(counts, some.after, wanted.dead_before, failures=failures, note=" ".join(store.notes()))


def _by_ids(store: DeadLetters, change: Change, doing: Doing) -> Changed:
    """A batch of them; the cursor is how many of the ids are done with."""
    ids = list(dict.fromkeys(map(record_id, change.which.ids or ())))
    first = _place(change.cursor, len(ids))
    until = len(ids) if change.dry_run else first + limits.PAGE_BATCH
    found = [(message_id, store.get(message_id)) for message_id in ids[first:until]]
    letters = [letter for _, letter in found if letter is not None]
    missing = [(message_id, _NOT_DEAD.removeprefix("not: ")) for message_id, letter in found if letter is None]
    if change.dry_run:
        counts, failures = Counter({_DONE[doing]: len(letters)} if letters else {}), list[tuple[str, str]]()
    else:
        counts, failures = _do(store, letters, doing)
    if missing:
        counts[_NOT_DEAD] += len(missing)
    return Changed(
        counts,
        str(until) if until < len(ids) else None,
        kinds=_shown(core.grouped(letters)) if change.dry_run else [],
        failures=(missing + failures)[: limits.MAX_FAILURES_NAMED],
        note=" ".join(store.notes()),
    )


def _place(cursor: str | None, most: int) -> int:
    if cursor is None:
        return 0
    if not re.fullmatch("[0-9]{1,4}", cursor) or int(cursor) > most:
        raise Problem(400, "cursor is what the answer before had, with the same ids.")
    return int(cursor)


def _do(store: DeadLetters, letters: Sequence[DeadLetter], doing: Doing) -> tuple[Counter[str], list[tuple[str, str]]]:
    """How many came to what, and those that came to nothing."""
    act = store.redrive if doing == "redrive" else store.purge
    counts, failures = Counter[str](), list[tuple[str, str]]()
    for first in range(0, len(letters), limits.TOOL_BATCH):
        batch = [bare(letter) for letter in letters[first : first + limits.TOOL_BATCH]]
        for letter, outcome in zip(batch, act(batch), strict=True):
            counts[outcome.done or f"not: {outcome.why_not}"] += 1
            if outcome.done is None and len(failures) < limits.MAX_FAILURES_NAMED:
                failures.append((letter.id, outcome.why_not))
    return counts, failures


def bare(letter: DeadLetter) -> DeadLetter:
    """Without what no change asks for: texts of kilobytes, which a server would have to read."""
    return msgspec.structs.replace(letter, traceback=None, body=None)
