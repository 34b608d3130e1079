"""Money between accounts: double entry, exact to the currency's minor unit, never below what an account may owe. Who
may post here may move money and see what accounts have: authorization is the gateway's."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct

from decoupled import Add, BadField, Effects, Item, Message, Put, Workload

MINOR_DIGITS = {"CHF": 2, "EUR": 2, "GBP": 2, "JPY": 0, "KWD": 3, "USD": 2}  # ISO 4217: decimals of the minor unit
Account = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
Currency = Literal["CHF", "EUR", "GBP", "JPY", "KWD", "USD"]
Amount = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,3})?\Z")]  # decimal text, never a float


class Open(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="open"):
    """An account, at zero, that may owe up to `overdraft`. Money enters by one that may owe much: the sum is 0."""

    account: Account
    currency: Currency
    overdraft: Amount = "0"

    def __post_init__(self) -> None:
        check_decimals("/overdraft", self.overdraft, self.currency)


class Transfer(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="transfer"):
    from_account: Account
    to_account: Account
    currency: Currency
    amount: Amount
    reference: Annotated[str, Meta(max_length=140)] = ""

    def __post_init__(self) -> None:
        check_decimals("/amount", self.amount, self.currency)
        if Decimal(self.amount) == 0:
            raise BadField("/amount", "the amount is zero")
        if self.from_account == self.to_account:
            raise BadField("/to_account", "the account that pays")


def check_decimals(pointer: str, amount: str, currency: str) -> None:
    if len(amount.partition(".")[2]) > MINOR_DIGITS[currency]:
        raise BadField(pointer, f"{amount} has more decimals than {currency} has")


def process(entry: Open | Transfer, message: Message) -> Effects:
    return open_account(entry) if isinstance(entry, Open) else transfer(entry, message)


def open_account(entry: Open) -> Effects:
    # `available` (balance + overdraft) stands beside the balance because a bound is one number, not a sum of two.
    account, overdraft = f"{entry.account}.{entry.currency}", Decimal(entry.overdraft)
    item = {"balance": 0, "available": overdraft, "overdraft": overdraft, "currency": entry.currency}
    put = Put(f"transactions/balances/{account}", item, if_absent=f"account {account} is open already")
    return Effects({"account": account, "balance_url": f"/transactions/balances/{account}"}, [put])


def transfer(entry: Transfer, message: Message) -> Effects:
    amount = Decimal(entry.amount)
    payer, payee = f"{entry.from_account}.{entry.currency}", f"{entry.to_account}.{entry.currency}"

    def change(account: str, by: Decimal) -> Add:
        return Add(
            f"transactions/balances/{account}",
            {"balance": by, "available": by},
            floor={"available": 0},
            if_present=f"there is no account {account}",
            otherwise=f"insufficient funds in {account}",
        )

    legs = [{"account": payer, "amount": -amount}, {"account": payee, "amount": amount}]
    book = Put(f"transactions/entries/{message.id}", {"legs": legs, "reference": entry.reference})
    result = {"from": payer, "to": payee, "amount": entry.amount, "entry_url": f"/{book.key}"}
    return Effects(result, [change(payer, -amount), change(payee, amount), book])


def invariant(items: Iterator[tuple[str, Item]]) -> Iterator[str]:
    """A balance is what the entries say. By their keys, balances come first."""
    more: dict[str, Decimal] = {}  # than the entries say
    for key, item in items:
        if account := key.partition("/balances/")[2]:
            more[account] = Decimal(item["balance"])
            if not item["balance"] + item["overdraft"] == item["available"] >= 0:
                yield f"{key}: balance {item['balance']}, overdraft {item['overdraft']}, available {item['available']}"
        for leg in item.get("legs", ()):
            more[leg["account"]] = more.get(leg["account"], Decimal()) - leg["amount"]
    yield from (f"account {account} has {by:f} more than its entries say" for account, by in more.items() if by)


EXAMPLE = {"kind": "open", "account": "bank", "currency": "EUR", "overdraft": "1000000"}
SHOWN = ("balances", "entries")
WORKLOAD = Workload(
    "transactions", Open | Transfer, process, readable=SHOWN, public=SHOWN, example=EXAMPLE, invariant=invariant
)
