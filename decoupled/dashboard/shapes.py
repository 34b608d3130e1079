"""What the page and its server say to each other, as JSON. Every route stands here. Times are milliseconds since the
epoch, durations seconds. Errors are problem details, as everywhere.

    GET  /                        the page, for browsers (Accept: text/html)
    GET  /-/assets/NAME           its scripts and styles
    GET  /-/live                  Live: asked once a second while the page is open
    GET  /-/history?seconds=3600  History of core/overview.py
    GET  /-/messages?...          Found, for the members of Sought as parameters
    GET  /-/messages/ID           Story
    GET  /-/dead?...              DeadGroups, for `workload`, `error`, `alike`, `newer_than_s`, `older_than_s`
    GET  /-/dead/letters?...      Letters, for the same, `cursor` and `limit`
    POST /-/dead/redrive, purge   Change -> Changed: a batch at a time; the page asks again until `cursor` is null
    GET  /-/access                Access: also before anybody has signed in, when what is above answers 401
    POST /-/sign-in               SignIn -> Access, and a cookie
    POST /-/sign-out              -> Access
    GET  /metrics                 Prometheus' text

What changes something has to come from the page itself: with the header `x-decoupled: page`, which no form and no page
of another origin can send, and from somebody who has signed in as an operator (403 otherwise)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from decoupled.core import limits
from decoupled.core.dead_letters import Group
from decoupled.core.overview import Overview

PREFIX = "-"  # of the page's own routes: no workload has such a name
Asked = Annotated[str, Meta(max_length=limits.MAX_PARAMETER_CHARS)]
TimeMs = Annotated[int, Meta(ge=0, le=limits.MAX_TIME_MS)]


class Access(msgspec.Struct, frozen=True):
    """What whoever asks may do. `how`: what signing in takes; a code is what `decoupled sign-in` prints."""

    see: bool
    change: bool
    name: str  # of who has signed in, or ""
    how: list[Literal["code", "key"]]


class Latency(msgspec.Struct, frozen=True):
    """Of the last minute; None where nothing was measured."""

    p50_s: float | None
    p99_s: float | None


class SickGroup(msgspec.Struct, frozen=True, omit_defaults=True):
    """A group that is not well."""

    group: str
    state: Literal["open", "held"]
    why: str
    since_s: float = 0.0
    probe_in_s: float = 0.0


class WorkloadNow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One workload. `state` closed is well; open: its backend is sick; held: its messages fail all alike. `form`: it
    can be tried, at this server, with a form made of its schema."""

    name: str
    state: Literal["closed", "open", "held"]
    why: str = ""
    since_s: float = 0.0
    probe_in_s: float = 0.0
    unfinished: int = 0
    accepted_per_s: float | None = None
    processed_per_s: float | None = None
    sick_groups: int = 0  # more than are shown, perhaps
    groups: list[SickGroup] = []
    form: bool = False


class Live(msgspec.Struct, frozen=True, omit_defaults=True):
    """One look at the whole. `colour` of each box and arrow of the picture: ok, warn or bad, and why; the boxes are
    `clients`, `front`, `queue`, `processor`, `table`, `dead`."""

    taken_at: int
    system: str  # what is looked at: "data directory /srv/shop", "stack shop"
    engine: Literal["sqlite", "aws"]
    version: str
    status: Literal["ok", "degraded", "unavailable", "not running"]
    detail: str | None  # why it is not ok
    access: Access
    overview: Overview
    rejected_per_s: float | None
    dead_per_s: float | None
    retried_per_s: float | None
    accept: Latency
    waiting: Latency
    processing: Latency
    commit_messages: float | None  # mean of a transaction, of the last minute
    commit: Latency
    fronts: int | None
    workers: int | None
    wal_bytes: int | None
    workloads: list[WorkloadNow]
    boxes: dict[str, Box]
    notes: list[str] = []


class Box(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one part of the picture is doing."""

    colour: Literal["ok", "warn", "bad", "unknown"]
    why: str = ""


class DeadGroups(msgspec.Struct, frozen=True, omit_defaults=True):
    """Largest first."""

    total: int
    groups: list[Group]
    note: str = ""


class Letter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One dead letter in a list."""

    id: str
    workload: str
    caller: str
    accepted_at: int
    dead_at: int
    attempts: int
    error_type: str
    error: str
    group: str = ""
    sqs_deletes_at: int | None = None


class Letters(msgspec.Struct, frozen=True, omit_defaults=True):
    """Oldest first."""

    letters: list[Letter]
    cursor: str | None = None
    note: str = ""


class Which(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Dead letters: by their ids, or all that match."""

    ids: list[str] | None = None
    workload: Asked | None = None
    error: Asked | None = None
    alike: Asked | None = None
    dead_before: TimeMs | None = None  # what dies again meanwhile is left alone
    dead_after: TimeMs | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """With `dry_run`, what would be done to all of them is counted, and nothing is done. Without, one batch is done; go
    on with the `cursor` of the answer. Doing anything again is safe."""

    which: Which
    dry_run: bool = False
    cursor: str | None = None


class Changed(msgspec.Struct, frozen=True, omit_defaults=True):
    """`counts`: of each outcome ("redriven", "purged", "not: it is processed"), how many. `until`: what a first batch,
    or a dry run, took for `dead_before` where none was given; give it with the next ones."""

    counts: dict[str, int]
    cursor: str | None = None
    until: int | None = None
    kinds: list[Group] = []  # dry run: what it would be done to
    failures: list[tuple[str, str]] = []  # id and why not; the first ones of this batch
    note: str = ""


class SignIn(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One of the two."""

    code: str | None = None
    key: str | None = None
