"""What `decoupled serve` says when clients may come."""

from __future__ import annotations

from collections.abc import Mapping

from decoupled.core.workload import Workloads
from decoupled.server.options import Options


def welcome(options: Options, workloads: Workloads, released: int, unserved: Mapping[str, int]) -> str:
    """Where it serves what, what it found, and how to send an order."""
    url = options.url
    lines = [
        f"decoupled serves {', '.join(workloads)} on {url}; data in {options.data.resolve()}",
        *([f"{released} messages were in flight when the last server died; they are visible again"] * bool(released)),
    ]
    lines += [
        f"{count:,} messages of {name!r} are queued, which is not served: they wait" for name, count in unserved.items()
    ]
    if "orders" in workloads:
        lines += [
            "",
            "Send an order, then ask what became of it:",
            "",
            f"  curl -i {url}/orders -H 'content-type: application/json' -d '"
            '{"customer": {"email": "ana@example.com", "name": "Ana Ruiz"}, "currency": "EUR",'
            ' "lines": [{"sku": "KB-104", "quantity": 2, "unit_price": "39.90"}],'
            ' "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01 F5P2",'
            """ "country": "IE"}}'""",
            f"  curl {url}/orders/<id>",
            "",
        ]
    return "\n".join(lines)
