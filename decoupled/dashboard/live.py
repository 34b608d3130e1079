"""What the page shows of one look at the whole: rates, latencies and workloads in the page's own shape. Pure; the
colours stand in `boxes.py`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

import msgspec

from decoupled import __version__
from decoupled.core.metrics import Numbers, quantile
from decoupled.core.overview import Look, Overview
from decoupled.dashboard.boxes import boxes
from decoupled.dashboard.shapes import Access, Latency, Live, SickGroup, WorkloadNow

Status = Literal["ok", "degraded", "unavailable", "not running"]
Window = tuple[Numbers, float]
"""What was counted in the last so many seconds."""

NOBODY = Access(see=True, change=False, name="", how=[])


def live(look: Look, rates: Window | None, lately: Window | None, grows: bool, forms: Collection[str]) -> Live:
    """`rates`: over some seconds; `lately`: over a minute. `grows`: more waits than a moment ago. `forms`: workloads
    that can be tried at this server. Whose `access` it is, whoever answers says."""
    status, detail = status_of(look)
    health, numbers = look.health or {}, look.numbers
    commits = (Numbers() if lately is None else lately[0]).together("commit_messages")
    return Live(
        taken_at=look.overview.taken_at,
        system=look.system,
        engine=look.engine,
        version=__version__,
        status=status,
        detail=detail,
        access=NOBODY,
        overview=_with_rates(look, rates),
        rejected_per_s=_total(look, rates, "rejected"),
        dead_per_s=_total(look, rates, "dead"),
        retried_per_s=_total(look, rates, "retried"),
        accept=_latency(lately, "accept_seconds") or _charted(look, "accept"),
        waiting=_latency(lately, "waiting_seconds") or _charted(look, "waiting"),
        processing=_latency(lately, "processing_seconds") or _charted(look, "processing"),
        commit_messages=None if not (made := sum(commits.counts)) else round(commits.sum / made, 2),
        commit=_latency(lately, "commit_seconds") or Latency(None, None),
        fronts=health.get("fronts"),
        workers=health.get("workers"),
        wal_bytes=None if numbers is None else _gauge(numbers, "wal_bytes"),
        workloads=list(_workloads(look, rates, forms)),
        boxes=boxes(look, status, grows),
        notes=look.overview.notes,
    )


def status_of(look: Look) -> tuple[Status, str | None]:
    """Whether messages are accepted, and why not, or what else is wrong."""
    overview, health = look.overview, look.health
    if look.engine == "aws":
        return ("degraded", "; ".join(overview.alarms)) if overview.alarms else ("ok", None)
    if overview.server is None:
        return "not running", None
    if health is None:
        return "unavailable", "the server does not answer"
    status: Status = msgspec.convert(health.get("status"), Status)
    return status, health.get("detail")


# --- numbers ------------------------------------------------------------------


def _with_rates(look: Look, rates: Window | None) -> Overview:
    accepted, processed = _total(look, rates, "accepted"), _total(look, rates, "processed")
    if accepted is None or processed is None:
        return look.overview
    return msgspec.structs.replace(look.overview, accepted_per_s=accepted, processed_per_s=processed)


def _rate(window: Window | None, metric: str, label: str | None = None) -> float | None:
    """A second; None where it is not known."""
    if window is None or (values := window[0].counters.get(metric)) is None:
        return None
    count = window[0].total(metric) if label is None else values.get(label, 0)
    return round(count / window[1], 1)


def _latency(window: Window | None, metric: str) -> Latency | None:
    """None where nothing was measured."""
    if window is None:
        return None
    counts = window[0].together(metric).counts
    return Latency(quantile(metric, counts, 0.5), quantile(metric, counts, 0.99)) if any(counts) else None


def _charted(look: Look, what: str) -> Latency:
    return Latency(look.charted.get(f"{what}_p50_s"), look.charted.get(f"{what}_p99_s"))


def _total(look: Look, window: Window | None, metric: str) -> float | None:
    rate = _rate(window, metric)
    return look.charted.get(f"{metric}_per_s") if rate is None else rate


def _gauge(numbers: Numbers, metric: str) -> int | None:
    value = numbers.gauges.get(metric, {}).get("")
    return None if value is None else int(value)


# --- workloads ----------------------------------------------------------------


def _workloads(look: Look, rates: Window | None, forms: Collection[str]) -> Iterator[WorkloadNow]:
    """Those that are served, and those of which something waits."""
    health, unfinished = look.health or {}, look.overview.queued_by_workload or {}
    breakers: Mapping[str, Any] = look.overview.breakers or {}
    counted = () if look.recent is None else look.recent[0].counters.get("accepted", {})
    for name in dict.fromkeys([*health.get("workloads", ()), *breakers, *unfinished, *sorted(counted)]):
        breaker = breakers.get(name, {"state": "closed"})
        sick = [_sick(group) for group in breaker.get("groups", ()) if group["state"] != "closed"]
        yield WorkloadNow(
            name,
            breaker["state"],
            why=breaker.get("why", ""),
            since_s=breaker.get("open_for_s", 0.0),
            probe_in_s=breaker.get("probe_in_s", 0.0),
            unfinished=unfinished.get(name, 0),
            accepted_per_s=_rate(rates, "accepted", name),
            processed_per_s=_rate(rates, "processed", name),
            sick_groups=breaker.get("sick_groups", 0),
            groups=sick,
            form=name in forms,
        )


def _sick(group: Mapping[str, Any]) -> SickGroup:
    return SickGroup(group["group"], group["state"], group["why"], group["open_for_s"], group["probe_in_s"])
