"""Messages and dead letters that a server might tell the page of, made up, with texts that clients wrote to do harm.
For tests of what the page makes of them; what a real server answers is seen with real ones."""

from __future__ import annotations

from typing import Any

from decoupled.core.dead_letters import Group
from decoupled.core.outcomes import Record
from decoupled.core.search import Found, Row, Step, Story
from decoupled.core.status import STATUSES
from decoupled.dashboard.shapes import Changed, DeadGroups, Letter, Letters
from tests.support.lives import NOW_MS

HARM = (
    "<img src=x onerror=\"document.title='harmed'\"><script>document.title = 'harmed'</script>"
    " \u202eright to left\u202c \u0645\u0631\u062d\u0628\u0627 \U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467"
    " zero\u200bwidth "
)
"""Markup, directions, emoji and what has no width. A page that runs it has another title."""

ERRORS = (
    ("orders", "KeyError", "'sku-{n}' has no price"),
    ("orders", "TimeoutError", "bank-{n}.example"),
    ("notifications", HARM[:60], HARM + "x" * 1_800),
)


def message_id(n: int) -> str:
    return f"{n:033x}"


def letters(count: int) -> list[Letter]:
    """So many dead letters of ERRORS in turn."""
    made = []
    for n in range(count):
        workload, error_type, error = ERRORS[n % len(ERRORS)]
        caller = HARM if n % 10 == 3 else "shop"
        text = error.replace("{n}", str(n))
        made.append(Letter(message_id(n), workload, caller, NOW_MS - 9_000, NOW_MS + n, 5, error_type, text))
    return made


class Dead:
    """Dead letters as the page's server tells of them, so many a batch. `fails`: how many batches are still to be
    answered with 503."""

    def __init__(self, count: int, batch: int = 500) -> None:
        self.letters = letters(count)
        self.batch = batch
        self.fails = 0
        self.changes: list[Any] = []

    def answers(self) -> dict[str, Any]:
        return {
            "GET dead": lambda asked: (200, self._groups(asked)),
            "GET dead/letters": lambda asked: (200, self._listed(asked)),
            "POST dead/redrive": lambda asked: self._change(asked, "redriven"),
            "POST dead/purge": lambda asked: self._change(asked, "purged"),
        }

    def _matching(self, asked: Any) -> list[Letter]:
        ids, workload, alike, error = (asked.get(name) for name in ("ids", "workload", "alike", "error"))
        return [
            letter
            for letter in self.letters
            if (ids is None or letter.id in ids)
            and (not workload or letter.workload == workload)
            and (not alike or letter.error_type == alike)
            and (not error or error in letter.error_type + letter.error)
        ]

    def _kinds(self, found: list[Letter]) -> list[Group]:
        kinds: dict[tuple[str, str], list[Letter]] = {}
        for letter in found:
            kinds.setdefault((letter.workload, letter.error_type), []).append(letter)
        groups = [
            Group(*kind, those[0].error_type, those[0].error, len(those), NOW_MS, NOW_MS + 1, those[0].id)
            for kind, those in kinds.items()
        ]
        return sorted(groups, key=lambda group: -group.count)

    def _groups(self, asked: Any) -> DeadGroups:
        found = self._matching(asked)
        return DeadGroups(len(found), self._kinds(found))

    def _listed(self, asked: Any) -> Letters:
        found, start = self._matching(asked), int(asked.get("cursor", 0))
        end = start + int(asked["limit"])
        return Letters(found[start:end], str(end) if end < len(found) else None)

    def _change(self, asked: Any, done: str) -> tuple[int, Any]:
        found = self._matching(asked["which"])
        if asked.get("dry_run"):
            return 200, Changed(
                {done: len(found)}, until=None if asked["which"].get("ids") else NOW_MS, kinds=self._kinds(found)
            )
        if self.fails:
            self.fails -= 1
            return 503, {"detail": "The writer is busy."}
        self.changes.append(asked)
        first = int(asked.get("cursor", 0))
        batch = found[first : first + self.batch]  # what could not be done stays, and is passed over
        self.letters = [letter for letter in self.letters if letter not in batch[1:]]
        kept = [(batch[0].id, HARM)]
        more = str(first + 1) if first + self.batch < len(found) else None
        return 200, Changed({done: len(batch) - 1, "not: it is processed": 1}, more, failures=kept)


def found(asked: Any) -> tuple[int, Found]:
    """Three pages of messages in each status, or of those that are asked for."""
    rows = [_row(n) for n in range(120)]
    rows = [row for row in rows if asked.get("status", row.status) == row.status]
    start = int(asked.get("cursor", 0))
    end = start + int(asked["limit"])
    return 200, Found(rows[start:end], str(end) if end < len(rows) else None, "Bodies were not looked at.")


def _row(n: int) -> Row:
    status = STATUSES[n % len(STATUSES)]
    row = Row(message_id(n), "orders", status, NOW_MS - n * 1000, HARM, HARM, finished_at=NOW_MS)
    failed = Row(row.id, "orders", status, row.accepted_at, HARM, HARM, NOW_MS, 5, HARM[:60], HARM * 9, HARM * 9)
    return failed if status in ("dead", "rejected") else row


def story(_: Any) -> tuple[int, Story]:
    """Of one that is dead, with harm in every text of it."""
    row = _row(3)
    record = Record(row.id, HARM, "dead", row.accepted_at, HARM, error_type=HARM[:60], error=HARM + "x" * 1_800)
    trace = f"Traceback (most recent call last):\n  {HARM}{'y' * 900}"
    steps = [
        Step("accepted", row.accepted_at, HARM),
        Step("failed", row.accepted_at + 1_000, HARM + "z" * 1_800, trace),
        Step("dead", NOW_MS, HARM),
        Step("emitted", None, HARM, id=message_id(9)),
    ]
    return 200, Story(row, record, steps, 7, f'{{"price": 1.10, "note": "{"w" * 900}"}}', None, HARM)
