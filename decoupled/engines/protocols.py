"""What the pipeline, the server and the tools ask of an engine, and no more. SQLite answers in `engines/sqlite/`, SQS
and DynamoDB in `engines/aws/`; the contract suite holds both, and a model in plain Python, to what stands here.

    receiver ─ Producer ─▶ queue ─ Feed (or Lambda) ─▶ processor ─┬─ Table: what was decided
                                     ▲                            └─ Consumer: again, later
                                     └─────────────────────────────────────────────┘

Every method is durable when it returns, and may raise `Unavailable` when the engine is sick, unless it says otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from decoupled.core.dead_letters import DeadLetter, Groups, Outcome, Some, Wanted
from decoupled.core.outcomes import Commit, Delivery, Failure, NotSent, NotStored, Page, Record, Reject, Stored
from decoupled.core.overview import Overview
from decoupled.core.workload import Message, Unavailable

Position = tuple[int, int]
Ended = tuple[list[tuple[Position, Record]], bool]

Share = Callable[[str], int]
"""How many more messages of a group may be handed out; 0 to pass it by."""

Refuse = Callable[[Message, NotSent], None]
"""Hears of a message that is not accepted, and why."""


def whole(_group: str) -> int:
    """The share of a group that may have everything."""
    return sys.maxsize


def unheard(_message: Message, _why: NotSent) -> None:
    """For who need not know what is refused."""


class Producer(Protocol):
    """Puts messages on the queue. It is all that the receiver touches."""

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        """Returns, for each message in turn, None (durable) or why it is not. A message whose id the queue has already
        may be put there again: it is the table that makes its effects happen once. Or the queue may know the digest of
        what was accepted under that id: then one of another digest is REUSED. A message with a `due_at` is not handed
        out before that time. Never raises for a failed send."""
        ...


class Consumer(Protocol):
    """What a processor may do with a delivery that it does not finish."""

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        """Make each delivered message visible again after that many seconds, at most MAX_VISIBILITY_TIMEOUT_S. A lapsed
        receipt changes nothing, silently."""
        ...

    def defer(self, due: Sequence[tuple[Delivery, int]], now_ms: int) -> list[Delivery]:
        """Hand each message out again at its time, in milliseconds since the epoch, at most MAX_LATER_S from now. A
        lapsed receipt changes nothing, silently. Returns those to give back; of the others the engine has made sure
        otherwise, and they are to be deleted."""
        ...


class Queue(Producer, Consumer, Protocol):
    """What settling needs of a queue: give back what failed, and send what is emitted."""


class Feed(Queue, Protocol):
    """A queue that hands messages out, where the server drives the processor. On AWS the event source mapping does."""

    def ready(self) -> list[str]:
        """Returns the workloads that have a visible message, the longest-waiting first; and those with groups, of which
        only a claim tells."""
        ...

    def queued(self, limit: int) -> dict[str, int]:
        """Returns how many messages of each workload are not finished, visible or not, counted no further than
        `limit`."""
        ...

    def claim(self, workload: str, maximum: int, visibility_timeout_s: float, share: Share = whole) -> list[Delivery]:
        """Hand out up to `maximum` visible messages of a workload, each hidden from then on for `visibility_timeout_s`:
        group after group from where the last claim left off, of each the longest-waiting first and as many as `share`
        says; of an ordered workload one of each, the first that has not ended, if it is visible and no other one of its
        group is in flight. Fewer than `maximum`: there are no more, or `share` leaves the others; or they stand behind
        MAX_GROUPS_LOOKED groups that have none, and a later claim finds them. Two claims never hand out one message."""
        ...

    def set_aside_damaged(self) -> int:
        """Outside of a transaction, after a claim raised StoreDamaged: see which of the messages that it chose cannot
        be handed out, and pass these by from now on. Returns how many they are."""
        ...

    def send_claimed(
        self, messages: Sequence[Message], visibility_timeout_s: float, refuse: Refuse = unheard
    ) -> list[Delivery]:
        """Send messages and claim them, in one step. Returns no delivery for a message that was accepted before, is due
        later, or is of an ordered workload and follows another of its group. `refuse` hears of each that is not
        accepted, and why."""
        ...

    def release_in_flight(self) -> int:
        """Make visible what a server that died had claimed; the receive counts stand. Returns how many. What waits for
        longer than anything may, because a clock was set back since, waits that long; what was never handed out, not at
        all; what is due later, until that time, as the time of day now tells it."""
        ...


class Transactions(Protocol):
    """One transaction at a time, for everything that queue and table are asked to do in it: group commit."""

    @property
    def added(self) -> Sequence[str]:
        """Of each message that the last transaction has put on the queue: its workload."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether one has begun and is neither committed nor undone; an engine may undo it by itself."""
        ...

    def begin(self) -> None:
        """Begin. Raises StoreUnavailable."""
        ...

    def commit(self) -> None:
        """Make it durable. Raises StoreUnavailable; then nothing of it was applied, unless that says `unknown`."""
        ...

    def roll_back(self) -> None:
        """Undo all of it, if there is something to undo. Never raises."""
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """A part of it that is undone alone if it raises."""
        ...


class StoreUnavailable(Unavailable):
    """An engine refused a transaction (disk full, I/O error, locked). Nothing of it was applied, unless `unknown`: then
    the commit itself failed, and only the store can tell."""

    def __init__(self, detail: str, unknown: bool = False) -> None:
        super().__init__(detail, retry_after_s=1.0)
        self.unknown = unknown


class StoreBusy(StoreUnavailable):
    """Another process writes just now. Nothing was begun, and the same may work in a moment."""


class StoreDamaged(StoreUnavailable):
    """A part of the store cannot be read, and will not be until somebody mends it. A transaction that met it can only
    be rolled back; one that does not works as ever. `advice`: what is damaged and what to do, for the person who can;
    the detail is for everybody."""

    def __init__(self, detail: str, advice: str) -> None:
        super().__init__(detail)
        self.advice = advice


class Table(Protocol):
    """Records of messages, and the items that workloads write."""

    def commit(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> list[Stored | NotStored]:
        """Apply each message's effects with its record in one atomic step, unless it has a final record. Returns what
        came of each, in turn; a sick table is told so, and not raised."""
        ...

    def stored(self, message_id: str) -> Stored | None:
        """Returns what a final record says was stored (a duplicate, from here on), with what it still has to emit;
        None if there is no final record."""
        ...

    # A delivery is counted as one attempt at most, by its receive count: each of the next three may be asked for again
    # when its answer was lost. What comes too late, after a later delivery was counted, counts nothing.

    def begin_attempt(self, delivery: Delivery) -> Record:
        """Count an attempt before it begins, so that the mark outlives a crash. Returns the record after that: open,
        with its attempts, or the final one, unchanged. Where it raises Unavailable it may have counted all the same:
        `undo_attempt` takes that back."""
        ...

    def undo_attempt(self, delivery: Delivery) -> None:
        """Take an attempt back that began and was not the message's fault. Changes nothing if it does not count, or if
        the record is final."""
        ...

    def record_failure(self, delivery: Delivery, failure: Failure, now_ms: int, begun: bool = False) -> Record:
        """Note a failure that is the message's fault, and count the attempt unless it was counted when it had `begun`.
        Returns the record after that, as `begin_attempt` does."""
        ...

    def bury(self, delivery: Delivery, dead: Record) -> bool:
        """Store a dead record, body included, and put the message wherever else the engine keeps dead letters. Returns
        False, and changes nothing, if the message has a final record. Deleting the delivery is the caller's step."""
        ...

    def get(self, message_id: str) -> Record | None:
        """Returns the record of a message; `queued` without attempts where the engine knows that the queue holds it."""
        ...

    def item(self, key: str, owner: str | None = None) -> Mapping[str, Any] | None:
        """Returns an item that workloads wrote, numbers as int or Decimal; where an owner is named, only one of theirs.
        It is its owner's whose message made it, or stored it whole since; see `Message.owner`."""
        ...

    def page(self, prefix: str, after: str, limit: int) -> Page:
        """Returns items of a collection that is listed, in the order of their keys, which begin with `prefix`
        (`workload/collection/` and more) and come after `after`, if that is given: up to `limit` of them, fewer where
        they are large. One written a moment ago may be missing."""
        ...


class Ends(Protocol):
    """In which order messages have ended, of callers who follow that: each end has a position, and none that is stored
    later has a lower one, whatever is done to clocks. A position is a pair of numbers."""

    followed: set[tuple[str, str]]  # workloads and callers: whoever writes adds to it when `follow` is durable

    def follow(self, workload: str, caller: str, busy: Container[object] = ()) -> tuple[str, str] | None:
        """From now on, give positions to what this caller's messages of the workload come to. Where there are too many
        callers, returns the one of those who are not `busy` that is given up for it."""
        ...

    def mark(self, message_ids: Sequence[str]) -> None:
        """Inside a transaction: give those a position that have ended in it, of callers who are followed. What has had
        one for this end keeps it."""
        ...

    def span(self, workload: str, caller: str) -> tuple[Position, Position] | None:
        """Returns the positions since which that caller is followed, and after which there is nothing yet; None if it
        is not."""
        ...

    def after(self, workload: str, caller: str, position: Position, most: int, most_bytes: int) -> Ended:
        """Returns the first ends behind that position, with theirs: up to `most` of them, and fewer where they are
        large; and whether there are more."""
        ...


class DeadLetters(Protocol):
    """The dead letters, for the people who redrive or purge them. Doing anything again is safe."""

    def find(self, wanted: Wanted, bodies: bool = False) -> Iterator[DeadLetter]:
        """Yields the wanted ones, oldest first; none that dies after the call."""
        ...

    def some(self, wanted: Wanted, after: str | None, most: int) -> Some:
        """Returns up to `most` of the wanted ones, without bodies, from the first on, or `after` an earlier part: fewer
        after LOOK_S seconds. Raises ValueError for an `after` that is not its own."""
        ...

    def groups(self, wanted: Wanted) -> Groups:
        """Counts the wanted ones by error, for LOOK_S seconds at most."""
        ...

    def get(self, message_id: str) -> DeadLetter | None:
        """Returns one, with its body and its traceback."""
        ...

    def redrive(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        """Put them back on the queue, with no attempts counted. Returns what was done with each."""
        ...

    def restore(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        """Make dead letters of what was exported. One that is there, or was processed meanwhile, is left alone."""
        ...

    def edit(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        """Give them these bodies and groups. The last of `edits` is the one before, which is kept: if it still is."""
        ...

    def purge(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        """Give them up: their bodies are gone, and their records say so."""
        ...

    def notes(self) -> list[str]:
        """Returns what a person should know about what was found: that a look was cut short, say."""
        ...

    def close(self) -> None:
        """Let go of what a look has hidden from others."""
        ...


class Stats(Protocol):
    """How a system is doing, in numbers."""

    def look(self) -> Overview:
        """Count now."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
