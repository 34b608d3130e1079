"""Events of somebody else's webhooks are counted: what is done twice or not at all shows in the sums. Fields that are
not of interest may be there."""

from msgspec import Struct

from decoupled.core.workload import Add, Effects, Message, Workload


class Event(Struct, frozen=True):
    type: str
    amount: int


def process(event: Event, message: Message) -> Effects:
    count = Add(f"payments/totals/{message.caller}", {"events": 1, "amount": event.amount})
    return Effects({"type": event.type}, [count])


WORKLOAD = Workload("payments", Event, process, readable=("totals",))
