"""What is wrong right now, as those say who know it: the writer, the workers, the file. Holds no state: whoever has a
trouble answers for it for as long as it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that a person on call should know. While one `refuses`, requests are not accepted because of it."""

    detail: str
    refuses: bool = False


Look = Callable[[], Trouble | None]
"""Asked at each request for /health: must be cheap, and neither wait nor raise."""


def summary(looks: Iterable[Look]) -> dict[str, Any]:
    """`status`: ok, degraded (requests are still accepted) or unavailable (they are not); `detail`: why, or None."""
    troubles = [trouble for look in looks if (trouble := look()) is not None]
    status = "ok" if not troubles else "unavailable" if any(trouble.refuses for trouble in troubles) else "degraded"
    return {"status": status, "detail": "; ".join(dict.fromkeys(trouble.detail for trouble in troubles)) or None}
