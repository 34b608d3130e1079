"""How numbers of a plan are said: spans of time, amounts, and money."""

from __future__ import annotations

import math

SPANS = ((86_400.0, "day"), (3_600.0, "hour"), (60.0, "minute"), (1.0, "second"))


def span(seconds: float | None) -> str:
    """Two units, as in `1 h 12 min`; `never` if it is not over."""
    if seconds is None or not math.isfinite(seconds):
        return "never"
    if 0 < seconds < 0.001:
        return f"{seconds * 1_000:.2g} ms"
    if 0 < seconds < 1:
        return f"{seconds * 1_000:.0f} ms"
    if seconds == 0:
        return "0 s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours / 24:.1f} d"


def amount(number: float) -> str:
    """With three digits at least, and no more than make sense."""
    if not math.isfinite(number):
        return "no end"
    if abs(number) >= 1e12:
        return f"{number / 1e12:,.2f} trillion"
    if abs(number) >= 1e9:
        return f"{number / 1e9:,.2f} billion"
    if abs(number) >= 10 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.3g}"


def money(dollars: float) -> str:
    """Dollars, with cents where these matter."""
    return f"${dollars:,.2f}" if dollars < 1_000 else f"${dollars:,.0f}"
