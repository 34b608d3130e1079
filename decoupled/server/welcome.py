"""What `decoupled serve` says when clients may come."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import msgspec

from decoupled.core.workload import Workloads
from decoupled.server.options import Options

_BEARER = {"keys": "dk_...", "jwt": "eyJ..."}


def welcome(
    options: Options, workloads: Workloads, released: int, unserved: Mapping[str, int], notes: Sequence[str] = ()
) -> str:
    """Where it serves what, what it found, what there is to note, and how to send an entry."""
    url = options.url
    key = next((f" -H 'authorization: Bearer {_BEARER[kind]}'" for kind in options.auth if kind in _BEARER), "")
    lines = [
        f"decoupled serves {', '.join(workloads)} on {url}; data in {options.data.resolve()}",
        *([f"{released} messages were in flight when the last server died; they are visible again"] * bool(released)),
    ]
    lines += [
        f"{count:,} messages of {name!r} are queued, which is not served: they wait" for name, count in unserved.items()
    ]
    lines += notes
    if options.page == "on":
        lines.append(f"In a browser, {url} shows how all of it is doing; `decoupled sign-in` gives an operator's link.")
    if shown := [workload for workload in workloads.values() if workload.example is not None and not workload.internal]:
        route, entry = f"{url}/{shown[0].name}", msgspec.json.encode(shown[0].example).decode()
        lines += [
            "",
            f"{url}/docs shows what can be sent. For one, and what becomes of it:",
            "",
            f"  curl -i {route}{key} -H 'content-type: application/json' -d {shlex.quote(entry)}",
            f"  curl {route}/<id>{key}",
            "",
        ]
    return "\n".join(lines)
