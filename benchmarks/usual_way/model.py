"""The order as a pydantic model, with the rules of `workloads/orders.py`."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MINOR_DIGITS = {"CHF": 2, "EUR": 2, "GBP": 2, "JPY": 0, "USD": 2}
Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Money = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,2})?$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Customer(Strict):
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$", max_length=254)]
    name: Text


class Line(Strict):
    sku: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    quantity: Annotated[int, Field(ge=1, le=10_000)]
    unit_price: Money


class Address(Strict):
    line1: Text
    city: Text
    postal_code: Annotated[str, StringConstraints(min_length=1, max_length=20)]
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
    line2: Text | None = None


class Order(Strict):
    customer: Customer
    currency: Literal["CHF", "EUR", "GBP", "JPY", "USD"]
    lines: Annotated[list[Line], Field(min_length=1, max_length=500)]
    shipping_address: Address
    total: Money | None = None

    @model_validator(mode="after")
    def total_is_right(self) -> "Order":
        if self.total is not None and Decimal(self.total) != self.sum():
            raise ValueError(f"total is {self.total}, but the lines come to {self.sum()}")
        return self

    def sum(self) -> Decimal:
        amount = sum((line.quantity * Decimal(line.unit_price) for line in self.lines), Decimal(0))
        return amount.quantize(Decimal(1).scaleb(-MINOR_DIGITS[self.currency]))
