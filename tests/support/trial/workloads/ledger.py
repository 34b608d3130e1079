"""An entry counts up its account and emits an echo, which counts too: whatever is done twice or not at all shows in the
sums."""

from msgspec import Struct

from decoupled.core.workload import Add, Effects, Emit, Message, Workload


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    account: int
    amount: int


def process(entry: Entry, _message: Message) -> Effects:
    key = f"ledger/accounts/{entry.account}"
    return Effects(
        {"account": entry.account, "amount": entry.amount},
        [Add(key, {"entries": 1, "total": entry.amount})],
        [Emit("echoes", {"account": entry.account, "amount": entry.amount})],
    )


WORKLOAD = Workload("ledger", Entry, process, readable=("accounts",), emits_to=("echoes",))
