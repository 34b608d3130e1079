"""Sign-ups: one account for an e-mail address, however many requests race for it, and a welcome by e-mail."""

import unicodedata
from typing import Annotated

from msgspec import Meta, Struct

from decoupled import Effects, Emit, Message, Put, Workload, derived_id

ATOM = r"""[^@.\s\x00-\x1f\x7f-\x9f"(),:;<>\[\\\]]+"""  # no quoted local parts, no control characters
EMAIL = rf"^{ATOM}(\.{ATOM})*@{ATOM}(\.{ATOM})+\Z"  # as notifications takes it


class Registration(Struct, frozen=True, forbid_unknown_fields=True):
    email: Annotated[str, Meta(pattern=EMAIL, max_length=254)]
    name: Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]+\Z", max_length=100)]


def same_address(email: str) -> str:
    """What two spellings of one address have in common: letters' case and Unicode's ways to write an accent do not
    matter (canonical caseless matching, Unicode 3.13). Dots and +tags do: only some providers ignore them."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", email).casefold())


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
            "text": f"Hello {registration.name},\n\nyour account is ready.\n",
        },
    )
    result = {"account": message.id, "welcome_url": f"/notifications/{message.emitted_id(0)}"}
    return Effects(result, [address, account], [welcome])


WORKLOAD = Workload("registrations", Registration, process, emits_to=("notifications",))
