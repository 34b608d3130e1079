"""The garbage collector of a process that serves: what is alive after its start stays alive."""

from __future__ import annotations

import gc


def quiet_collector() -> None:
    """It need not walk that again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
