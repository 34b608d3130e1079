"""What `ledger` emits."""

from msgspec import Struct

from decoupled.core.workload import Add, Effects, Message, Workload


class Echo(Struct, frozen=True, forbid_unknown_fields=True):
    account: int
    amount: int


def process(echo: Echo, _message: Message) -> Effects:
    return Effects(
        {"account": echo.account, "amount": echo.amount},
        [Add(f"echoes/accounts/{echo.account}", {"entries": 1, "total": echo.amount})],
    )


WORKLOAD = Workload("echoes", Echo, process, readable=("accounts",))
