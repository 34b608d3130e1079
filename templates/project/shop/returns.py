"""Returns of goods: each item of an order goes back once, and the log counts why."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from decoupled import Add, Effects, Message, Put, Workload

Reference = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")]


class Return(Struct, frozen=True, forbid_unknown_fields=True):
    """What is posted to /returns."""

    order: Reference
    item: Reference
    reason: Literal["broken", "late", "unwanted"]


def process(entry: Return, message: Message) -> Effects:
    """One item of an order goes back once; a second try is rejected."""
    once = Put(f"returns/items/{entry.order}.{entry.item}", {"return": message.id}, if_absent="returned already")
    count = Add("returns/reasons/all", {entry.reason: 1})
    return Effects({"label": f"RET-{message.id[-8:].upper()}", "item": entry.item}, [once, count])


WORKLOAD = Workload("returns", Return, process, readable=("reasons",), public=("reasons",))
