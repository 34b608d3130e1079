"""E-commerce orders: what a shop's checkout posts, totalled exactly and stored once."""

from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct

from decoupled import BadField, Effects, Message, Workload

MINOR_DIGITS = {"CHF": 2, "EUR": 2, "GBP": 2, "JPY": 0, "USD": 2}  # ISO 4217: decimals of each currency's minor unit
MINOR_UNITS = {currency: Decimal(1).scaleb(-digits) for currency, digits in MINOR_DIGITS.items()}
MONEY_DIGITS = 2  # that any amount may have, whatever its currency

Text = Annotated[str, Meta(min_length=1, max_length=200)]
Money = Annotated[
    str, Meta(pattern=r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,2})?\Z", description="decimal text, never a float")
]


class Customer(Struct, frozen=True, forbid_unknown_fields=True):
    email: Annotated[str, Meta(pattern=r"^[^@\s]+@(?=[^@\s]+\Z).+\..+\Z", max_length=254)]
    name: Text


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    sku: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")]
    quantity: Annotated[int, Meta(ge=1, le=10_000)]
    unit_price: Money


class Address(Struct, frozen=True, forbid_unknown_fields=True):
    line1: Text
    city: Text
    postal_code: Annotated[str, Meta(min_length=1, max_length=20)]
    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}\Z")]
    line2: Text | None = None


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    customer: Customer
    currency: Literal["CHF", "EUR", "GBP", "JPY", "USD"]
    lines: Annotated[list[Line], Meta(min_length=1, max_length=500)]
    shipping_address: Address
    total: Money | None = None  # what the customer was shown; if given, it must be what the lines come to

    def __post_init__(self) -> None:
        digits = MINOR_DIGITS[self.currency]
        for index, line in enumerate(self.lines if digits < MONEY_DIGITS else ()):
            if len(line.unit_price.partition(".")[2]) > digits:
                raise BadField(
                    f"/lines/{index}/unit_price", f"{line.unit_price}: {self.currency} has {digits} decimals"
                )
        if self.total is not None and Decimal(self.total) != total(self):
            raise BadField("/total", f"total is {self.total}, but the lines come to {total(self)}")


def total(order: Order) -> Decimal:
    """The sum of the lines, with as many decimals as the currency has."""
    amount = sum((line.quantity * Decimal(line.unit_price) for line in order.lines), Decimal(0))
    return amount.quantize(MINOR_UNITS[order.currency])


def process(order: Order, message: Message) -> Effects:
    result = {
        "order_number": f"ORD-{message.id[-12:].upper()}",
        "state": "confirmed",
        "total": str(total(order)),
        "currency": order.currency,
        "items": sum(line.quantity for line in order.lines),
        "customer": order.customer,
        "lines": order.lines,
        "shipping_address": order.shipping_address,
    }
    return Effects(result)


EXAMPLE = {
    "customer": {"email": "ana@example.com", "name": "Ana Ruiz"},
    "currency": "EUR",
    "lines": [{"sku": "KB-104", "quantity": 2, "unit_price": "39.90"}],
    "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01 F5P2", "country": "IE"},
}
WORKLOAD = Workload("orders", Order, process, example=EXAMPLE)
