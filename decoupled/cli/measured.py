"""How long a workload takes, as a running server has measured it: read from its /metrics."""

from __future__ import annotations

import http.client
import math
import os
import urllib.error
import urllib.request

from decoupled.core import limits

MAX_METRICS_BYTES = 16 * limits.MIB  # of its answer
METRIC = "decoupled_processing_seconds"


def service_ms(url: str, workload: str) -> tuple[float, float | None]:
    """Milliseconds that it takes for a message: the mean, and the p99, which is not said if all are in the last bucket.
    Raises ValueError if the server has measured none, and OSError."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no address of a server, such as http://127.0.0.1:8080")
    key = os.environ.get("DECOUPLED_KEY")
    request = urllib.request.Request(  # noqa: S310  its scheme was looked at
        f"{url.rstrip('/')}/metrics", headers={"authorization": f"Bearer {key}"} if key else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=limits.ASK_S) as answer:  # noqa: S310
            text = answer.read(MAX_METRICS_BYTES).decode(errors="replace")
    except urllib.error.HTTPError as error:
        raise ValueError(f"{url}/metrics answers {error.code}; DECOUPLED_KEY may name an operator's key") from error
    except http.client.HTTPException as error:
        raise ValueError(f"{url} does not answer as a server does: {error or type(error).__name__}") from error
    return parse(text, workload)


def parse(text: str, workload: str) -> tuple[float, float | None]:
    """The same, of a text as Prometheus has it."""
    buckets: list[tuple[float, float]] = []
    total, count = 0.0, 0.0
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if not name.startswith(METRIC) or f'workload="{workload}"' not in name:
            continue
        if name.startswith(f"{METRIC}_bucket"):
            buckets.append((float(name.partition('le="')[2].partition('"')[0]), float(value)))
        elif name.startswith(f"{METRIC}_sum"):
            total = float(value)
        elif name.startswith(f"{METRIC}_count"):
            count = float(value)
    if not count:
        raise ValueError(f"the server has not processed any message of {workload!r} yet")
    return total / count * 1_000, _p99_ms(buckets, count)


def _p99_ms(buckets: list[tuple[float, float]], count: float) -> float | None:
    """Between the bounds of its bucket, in proportion."""
    below, so_far = 0.0, 0.0
    for bound, reached in sorted(buckets):
        if reached >= 0.99 * count and math.isfinite(bound):
            part = (0.99 * count - so_far) / (reached - so_far)
            return (below + (bound - below) * part) * 1_000
        below, so_far = bound, reached
    return None
