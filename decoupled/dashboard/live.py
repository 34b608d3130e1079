"""One look at the whole, as the page shows it. Pure, but for asking the sources."""

from __future__ import annotations

from decoupled import __version__
from decoupled.core.overview import Overview
from decoupled.dashboard.shapes import Access, Box, Latency, Live, WorkloadNow
from decoupled.dashboard.sources import Sources
from decoupled.pipeline.call import Call

_NOTHING = Latency(None, None)


def look(_call: Call, sources: Sources) -> Live:
    """Of now."""
    overview = sources.stats.look()
    return Live(
        taken_at=overview.taken_at,
        system="this server",
        engine="sqlite",
        version=__version__,
        status="ok" if overview.server else "not running",
        detail=None,
        access=Access(see=True, change=False, name="", how=["code"]),
        overview=overview,
        rejected_per_s=None,
        dead_per_s=None,
        retried_per_s=None,
        accept=_NOTHING,
        waiting=_NOTHING,
        processing=_NOTHING,
        commit_messages=None,
        commit=_NOTHING,
        fronts=None,
        workers=None,
        wal_bytes=None,
        workloads=_workloads(overview),
        boxes={name: Box("unknown") for name in ("clients", "front", "queue", "processor", "table", "dead")},
        notes=overview.notes,
    )


def _workloads(overview: Overview) -> list[WorkloadNow]:
    counts = overview.queued_by_workload or {}
    return [
        WorkloadNow(name, breaker["state"], unfinished=counts.get(name, 0), form=True)
        for name, breaker in (overview.breakers or {}).items()
    ]
