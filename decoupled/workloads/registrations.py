"""Sign-ups: one account for an e-mail address, however many requests race for it, and a welcome by e-mail."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

from decoupled import Effects, Emit, Item, Message, Put, Workload, derived_id
from decoupled.outbound.addresses import Address, check_address, same_address
from decoupled.outbound.mail import ONE_LINE


class Registration(Struct, frozen=True, forbid_unknown_fields=True):
    email: Address
    name: Annotated[str, Meta(pattern=ONE_LINE, max_length=100)]

    def __post_init__(self) -> None:
        check_address("/email", self.email)


def greeting(name: str) -> str:
    """Whoever registers may give somebody else's address, so this e-mail carries nothing of theirs that a mail client
    would make a link of, be it `evil.com` or a telephone number: only a name of letters is repeated."""
    letters = all(unicodedata.category(each)[0] in "LM" or each in " .'\u2019-" for each in name)
    return f"Hello {name}" if letters and not re.search(r"\.[^ ]", name) else "Hello"


def process(registration: Registration, message: Message) -> Effects:
    # The address is what is unique, so it is the key: the store lets one of the racing requests have it. The key is a
    # digest since 254 characters can be longer than a key; and `addresses` is not readable, nor is the id made from
    # the address (a natural key), since whoever can read whether an address exists can collect customers' addresses.
    address = Put(
        f"registrations/addresses/{derived_id('address', same_address(registration.email))}",
        {"email": registration.email, "account": message.id},
        if_absent="this address is registered already",
    )
    account = Put(
        f"registrations/accounts/{message.id}",
        {"email": registration.email, "name": registration.name, "registered_at": message.accepted_at},
    )
    welcome = Emit(
        "notifications",
        {
            "to": [{"kind": "email", "address": registration.email}],
            "type": "account.registered",
            "subject": "Welcome",
            "text": f"{greeting(registration.name)},\n\nyour account is ready.\n",
        },
    )
    result = {"account": message.id, "welcome_url": f"/notifications/{message.emitted_id(0)}"}
    return Effects(result, [address, account], [welcome])


def invariant(items: Iterator[tuple[str, Item]]) -> Iterator[str]:
    """Each account has one address, which has one account. By their keys, accounts come first."""
    emails: dict[str, str] = {}
    for key, item in items:
        collection, _, name = key.removeprefix("registrations/").partition("/")
        if collection == "accounts":
            emails[name] = same_address(item["email"])
        elif (email := emails.pop(item["account"], None)) is None:
            yield f"address {name} is of account {item['account']}, which is not there or has another one"
        elif email != same_address(item["email"]):
            yield f"address {name} is of account {item['account']}, which has another e-mail address"
    yield from (f"account {account} has no address: another one may have it, too" for account in emails)


EXAMPLE = {"email": "ana@example.com", "name": "Ana Ruiz"}
WORKLOAD = Workload(
    "registrations",
    Registration,
    process,
    emits_to=("notifications",),
    example=EXAMPLE,
    invariant=invariant,
)
