"""The wiring of the page for people on call, in a front, or in a writer without fronts: what it shows of the data
directory, and who may see it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from decoupled.core.workload import Workloads
from decoupled.dashboard.access import Rules
from decoupled.dashboard.dashboard import Dashboard
from decoupled.dashboard.gate import Gate
from decoupled.dashboard.looks import Looks
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.keys_file import KeysFile
from decoupled.engines.sqlite.page_secret import PageSecret
from decoupled.engines.sqlite.sources import SqliteSources
from decoupled.server.callers.callers import Callers
from decoupled.server.http.aside import Aside
from decoupled.server.http.dashboard import Page


def page_of(
    data: Path, rules: Rules, workloads: Workloads, callers: Callers | None, loop: asyncio.AbstractEventLoop
) -> Page:
    """Opens nothing before somebody looks."""
    forms = frozenset(name for name, workload in workloads.items() if not workload.internal)

    def dashboard() -> Dashboard:
        directory = DataDirectory(data)
        gate = Gate(rules, PageSecret(directory), KeysFile(data).look)
        return Dashboard(SqliteSources(directory, list(workloads), served=True), gate, Looks(forms))

    return Page(Aside(dashboard, loop), rules.page, callers)
