"""A client of orders and readings, by what openapi-python-client makes of the document: a program of its own, which has
the made package beside it. Prints what it saw."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(url: str, key: str | None = None) -> None:
    from made import AuthenticatedClient, Client  # type: ignore[import-not-found]
    from made.api.orders import get_orders, send_orders  # type: ignore[import-not-found]
    from made.api.readings import get_readings_hourly  # type: ignore[import-not-found]
    from made.models import Batch, Order, Problem, Processed, Queued  # type: ignore[import-not-found]

    client = Client(base_url=url) if key is None else AuthenticatedClient(base_url=url, token=key)
    sent: dict[str, Any] = {
        "customer": {"email": "ana@example.com", "name": "Ana Ruiz"},
        "currency": "EUR",
        "lines": [{"sku": "KB-104", "quantity": 2, "unit_price": "39.90"}],
        "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01 F5P2", "country": "IE"},
    }

    def send(entry: Any) -> Any:
        return send_orders.sync(client=client, body=entry, idempotency_key='"cart-8418"')

    order, bad = Order.from_dict(sent), Order.from_dict({**sent, "lines": []})
    first, again = send(order), send(order)
    record = get_orders.sync(first.id, client=client)
    deadline = time.monotonic() + 10
    while isinstance(record, (Queued, Problem)):
        assert time.monotonic() < deadline, record
        time.sleep(0.02)
        record = get_orders.sync(first.id, client=client)
    assert isinstance(record, Processed), record
    batch, refused, none = send([order, bad]), send(bad), send([bad])
    assert isinstance(batch, Batch), batch
    assert isinstance(refused, Problem), refused
    assert isinstance(none, Batch), none
    hourly = get_readings_hourly.sync_detailed("none.2026-11-23T10", client=client)
    told = {
        "same": first.id == again.id,
        "total": record.result["total"],
        "rejected": [[entry.index, entry.status] for entry in batch.rejected],
        "refused": [refused.status, [fault.pointer for fault in refused.errors]],
        "missing": hourly.status_code.value,
    }
    sys.stdout.write(json.dumps(told))


main(*sys.argv[1:])
