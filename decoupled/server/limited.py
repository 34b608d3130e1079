"""Who was refused lately for sending too much: for the log, once a minute each, and for who looks at health. Pure but
for the clock, which is passed in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from decoupled.core import limits

log = logging.getLogger("decoupled.callers")


@dataclass(slots=True)
class _Refused:
    why: str
    messages: int  # since it was first refused, without a minute's pause
    last_at: float
    logged_at: float


class Limited:
    """Remembers them, those that were refused last at the end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._refused: dict[str, _Refused] = {}

    def note(self, caller: str, why: str, messages: int) -> None:
        """So many messages of it were refused."""
        now = self._clock()
        refused = self._refused.pop(caller, None)
        if refused is None or now - refused.last_at >= limits.CALLER_LIMITED_S:
            refused = _Refused(why, 0, now, now - limits.CALLER_LIMITED_S)
        self._refused[caller] = refused
        refused.why, refused.last_at = why, now
        refused.messages += messages
        if now - refused.logged_at >= limits.CALLER_LIMITED_S:
            refused.logged_at = now
            log.warning("a caller is refused", extra={"caller": caller, "why": why, "messages": refused.messages})
        if len(self._refused) > limits.MAX_CALLERS_LIMITED:
            del self._refused[next(iter(self._refused))]

    def told(self) -> dict[str, Any]:
        """How many there are, and of those with most messages refused, who they are and why."""
        now = self._clock()
        while self._refused:
            caller, eldest = next(iter(self._refused.items()))
            if now - eldest.last_at < limits.CALLER_LIMITED_S:
                break
            del self._refused[caller]
        worst = sorted(self._refused.items(), key=lambda of: of[1].messages, reverse=True)
        shown = worst[: limits.CALLERS_LIMITED_SHOWN]
        return {
            "callers": len(worst),
            "worst": [
                {
                    "caller": caller[: limits.MAX_GROUP_CHARS],
                    "why": refused.why,
                    "messages": refused.messages,
                    "last_s": round(now - refused.last_at, 1),
                }
                for caller, refused in shown
            ],
        }
