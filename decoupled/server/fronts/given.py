"""What a front is told when it starts, as plain data that `process.py` reads. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from decoupled.core.times import Clock
from decoupled.server.callers.proofs import Asked
from decoupled.server.options import Options
from decoupled.server.page_rules import rules_of


def given_to_fronts(options: Options, clock: Clock) -> dict[str, Any]:
    """The same for each; what is each one's own, `crew.py` adds."""
    return {
        "workloads": options.workloads,
        "root": options.root and str(options.root),
        "log_level": options.log_level,
        "data": str(options.data.absolute()),
        "asked": msgspec.to_builtins(Asked.by(options)),
        "origins": options.cors_origins,
        "of": options.front_processes,
        "ahead_ms": clock.ahead_ms,
        "page": msgspec.to_builtins(rules_of(options)),
    }
