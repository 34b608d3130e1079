"""Random requests to every workload, drawn from few accounts, addresses, devices and hosts, so that they collide."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from decoupled.pipeline.call import Event

NAMES = ("orders", "transactions", "registrations", "readings", "notifications")
SIMULATED = (*NAMES, "seats")  # tests/support/trial/workloads/seats.py


@dataclass(frozen=True)
class Request:
    workload: str
    entries: Any  # one entry, or a list
    key: str | None = None
    delay_s: int | None = None

    def event(self) -> Event:
        headers = {"content-type": "application/json"}
        if self.delay_s is not None:
            headers["delay"] = str(self.delay_s)
        if self.key is not None:
            headers["idempotency-key"] = f'"{self.key}"'
        return {
            "pathParameters": {"workload": self.workload},
            "headers": headers,
            "body": json.dumps(self.entries),
            "isBase64Encoded": False,
            "requestContext": {},
        }


def some_request(rng: random.Random) -> Request:
    """A request, often of several entries, half of them with an Idempotency-Key, some with a Delay."""
    workload = rng.choice(SIMULATED)
    make = _MAKERS[workload]
    entries = make(rng) if rng.random() < 0.4 else [make(rng) for _ in range(rng.randint(1, 5))]
    key = f"key-{rng.getrandbits(40)}" if rng.random() < 0.5 else None
    return Request(workload, entries, key, rng.choice((0, 5, 400)) if rng.random() < 0.2 else None)


def _order(rng: random.Random) -> dict[str, Any]:
    return {
        "customer": {"email": "ana@example.com", "name": "Ana Ruiz"},
        "currency": "EUR",
        "lines": [{"sku": "KB-104", "quantity": rng.randint(1, 9), "unit_price": "39.90"}],
        "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01", "country": "IE"},
    }


ACCOUNTS = {"bank": "100", "ana": "0", "ben": "0", "cem": "12.5"}  # with their overdrafts
CURRENCIES = ("EUR", "KWD")


def _transaction(rng: random.Random) -> dict[str, Any]:
    currency = rng.choice(CURRENCIES)
    if rng.random() < 0.5:
        account = rng.choice(list(ACCOUNTS))
        return {"kind": "open", "account": account, "currency": currency, "overdraft": ACCOUNTS[account]}
    payer, payee = rng.sample(list(ACCOUNTS), 2)
    amount = f"{rng.randint(0, 60)}.{rng.randint(1, 99):02}"
    return {"kind": "transfer", "from_account": payer, "to_account": payee, "currency": currency, "amount": amount}


# Three people, in spellings that differ by case, and by Unicode's two ways to write é.
ADDRESSES = (
    "ana@example.com",
    "Ana@Example.COM",
    "jos\u00e9@example.org",
    "JOSE\u0301@example.org",
    "cem.k@example.net",
)


def _registration(rng: random.Random) -> dict[str, Any]:
    return {"email": rng.choice(ADDRESSES), "name": "Ana Ruiz"}


def _reading(rng: random.Random) -> dict[str, Any]:
    at = f"2026-11-23T{rng.randint(10, 11)}:{rng.randint(0, 9):02}:00{rng.choice(('Z', '+00:00', '+01:00'))}"
    return {
        "device": f"pump-{rng.randint(1, 2)}",
        "at": at,
        "value": f"{rng.randint(-99, 99)}.{rng.randint(0, 999):03}",
    }


RECIPIENTS = (
    {"kind": "webhook", "url": "https://shop.example/hook"},
    {"kind": "webhook", "url": "https://gone.example/hook"},
    {"kind": "webhook", "url": "https://poison.example/hook"},
    {"kind": "email", "address": "ana@example.com"},
)


def _notification(rng: random.Random) -> dict[str, Any]:
    to = rng.choices(RECIPIENTS, (4, 1, 1, 2), k=rng.randint(1, 3))
    return {"to": to, "type": "order.shipped", "subject": "On its way", "text": "It comes tomorrow."}


def _seat(rng: random.Random) -> dict[str, Any]:
    return {"kind": rng.choice(("hold", "pay")), "seat": rng.randint(1, 2), "by": rng.choice(("ana", "ben"))}


_MAKERS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "orders": _order,
    "transactions": _transaction,
    "registrations": _registration,
    "readings": _reading,
    "notifications": _notification,
    "seats": _seat,
}
