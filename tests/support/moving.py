"""What goes over in tests of a move: one of each kind. For tests only."""

from __future__ import annotations

from typing import Any

import msgspec

from decoupled.core.moving import Carried, CarriedItem, Edit

AT = 1_795_000_020_001  # 2026-11-18T11:07:00.001Z
ANA = "jwt:https://id.example#ana"
RESULT = '{"total":79.80,"lines":[1,2.50,-0.0,12345678901234567890123456789],"note":"é","none":null}'
FINAL = Carried(id="", workload="shop", status="processed", accepted_at=AT, finished_at=AT + 5)
OPEN = Carried(id="", workload="shop", status="queued", accepted_at=AT, caller="key:shop", body='{"n": 1}')
ITEM = CarriedItem("shop/things/1", '{"left":3,"price":79.80,"tags":["a",{"b":null}]}', ANA)
NOBODYS = CarriedItem("shop/stock/1", '{"left":12345678901234567890123456789}')


def processed(message_id: str = "done", **others: Any) -> Carried:
    """With numbers that must not change, and the story of a failure before its success."""
    told = {"result": RESULT, "caller": ANA, "digest": "0f3a", "attempts": 1, "error": "before"}
    return msgspec.structs.replace(FINAL, id=message_id, **told | others)


def rejected(message_id: str = "no", **others: Any) -> Carried:
    """A rule said no."""
    told = {"status": "rejected", "reason": "not in stock", "caller": "anonymous"}
    return msgspec.structs.replace(FINAL, id=message_id, **told | others)


def queued(message_id: str = "waits", **others: Any) -> Carried:
    """Tried twice already."""
    told = {"group": "g", "attempts": 2, "receive_count": 2}
    return msgspec.structs.replace(OPEN, id=message_id, **told | others)


def dead(message_id: str = "dead", **others: Any) -> Carried:
    """With all that a dead letter has."""
    told = {
        "status": "dead",
        "group": "shop.example",
        "callback": "https://shop.example/hook",
        "finished_at": AT + 7,
        "attempts": 5,
        "error_type": "KeyError",
        "error": "'n'",
        "first_failed_at": AT + 1,
        "last_failed_at": AT + 7,
        "traceback": "Traceback: ...",
        "edits": [Edit(AT + 8, '{"n": 12}', "ana@desk")],
    }
    return msgspec.structs.replace(OPEN, id=message_id, **told | others)
