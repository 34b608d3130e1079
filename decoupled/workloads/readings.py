"""IoT readings: batches of hundreds as one JSON array, each kept once, however late and however often it comes, and
rolled up by the hour, exactly."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

from decoupled import Add, BadField, Effects, Message, Workload

MAX_VALUE = Decimal(10) ** 12  # with MAX_DECIMALS, an hour's sum stays exact for billions of readings
MAX_DECIMALS = 6


class Reading(Struct, frozen=True, forbid_unknown_fields=True):
    device: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]
    at: Annotated[datetime, Meta(tz=True)]
    value: Decimal

    def __post_init__(self) -> None:
        if not 2000 <= self.at.year < 2100:
            raise BadField("/at", "not in this century: is the device's clock set?")
        # An exponent that is no number means NaN or Infinity.
        exponent = self.value.as_tuple().exponent
        if not isinstance(exponent, int) or not -MAX_DECIMALS <= exponent <= 12 or abs(self.value) > MAX_VALUE:
            raise BadField("/value", f"not a number up to {MAX_VALUE:,} with at most {MAX_DECIMALS} decimals")


def natural_key(reading: Reading) -> str:
    """A device says one thing at one time: the first reading counts, and others with its time are the same again."""
    return f"{reading.device}@{reading.at.astimezone(UTC).isoformat()}"


def process(reading: Reading, message: Message) -> Effects:
    at = reading.at.astimezone(UTC)
    hour = f"{reading.device}.{at:%Y-%m-%dT%H}"
    roll_up = Add(
        f"readings/hourly/{hour}",
        {"count": 1, "sum": reading.value},
        lowest={"min": reading.value},
        highest={"max": reading.value},
    )
    result = {"device": reading.device, "at": at, "value": f"{reading.value:f}"}
    return Effects(result | {"hourly_url": f"/readings/hourly/{hour}"}, [roll_up])


WORKLOAD = Workload("readings", Reading, process, natural_key=natural_key, readable=("hourly",))
