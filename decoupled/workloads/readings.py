"""IoT readings: batches of hundreds as one JSON array, each kept once, however late and however often it comes, and
rolled up by the hour, exactly."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from decoupled import Add, BadField, Effects, Item, Message, Workload

FROM, BEFORE = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
MAX_VALUE = Decimal(10) ** 12  # with MAX_DECIMALS, an hour's sum stays exact for billions of readings
MAX_DECIMALS = 6
NUMBER = re.compile(rb'("?)([+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?)\1')  # in JSON, or as text in JSON


class Reading(Struct, frozen=True, forbid_unknown_fields=True):
    # Time and value as they were sent: a datetime rounds to microseconds, and a Decimal takes the digits of any script.
    device: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]
    at: Annotated[str, Meta(max_length=64, extra_json_schema={"format": "date-time"})]
    value: Annotated[Raw, Meta(extra_json_schema={"type": ["number", "string"]})]

    def __post_init__(self) -> None:
        time(self)
        number(self)


def time(reading: Reading) -> datetime:
    """In UTC. Raises BadField for what is no time, or not exactly one to the microsecond."""
    if re.search(r"\.[0-9]{6}0*[1-9]", reading.at):
        raise BadField("/at", "finer than a microsecond")
    try:
        at: datetime = msgspec.convert(reading.at, Annotated[datetime, Meta(tz=True)])
    except msgspec.ValidationError as error:
        raise BadField("/at", str(error)) from error
    if not FROM <= at < BEFORE:
        raise BadField("/at", "not in this century: is the device's clock set?")
    return at.astimezone(UTC)


def number(reading: Reading) -> Decimal:
    """The value, digit by digit. Raises BadField for what is no number, or one that a sum could not hold exactly."""
    if match := NUMBER.fullmatch(bytes(reading.value)):
        value = Decimal(match[2].decode())
        if -MAX_DECIMALS <= int(value.as_tuple().exponent) <= 12 and -MAX_VALUE <= value <= MAX_VALUE:
            return value
    raise BadField("/value", f"not a number up to {MAX_VALUE:,} with at most {MAX_DECIMALS} decimals")


def natural_key(reading: Reading) -> str:
    """A device says one thing at one time: the first reading counts, and others with its time are the same again."""
    return f"{reading.device}@{time(reading).isoformat()}"


def process(reading: Reading, message: Message) -> Effects:
    at, value = time(reading), number(reading)
    hour = f"{reading.device}.{at:%Y-%m-%dT%H}"
    roll_up = Add(
        f"readings/hourly/{hour}",
        {"count": 1, "sum": value},
        lowest={"min": value},
        highest={"max": value},
    )
    result = {"device": reading.device, "at": at, "value": f"{value:f}"}
    return Effects(result | {"hourly_url": f"/readings/hourly/{hour}"}, [roll_up])


def invariant(items: Iterator[tuple[str, Item]]) -> Iterator[str]:
    """An hour's sum lies between as many of its smallest and of its largest readings."""
    for key, hour in items:
        if not (hour["count"] >= 1 and hour["min"] * hour["count"] <= hour["sum"] <= hour["max"] * hour["count"]):
            yield f"{key}: {hour['count']} readings from {hour['min']} to {hour['max']} do not sum up to {hour['sum']}"


EXAMPLE = {"device": "boiler-7", "at": "2026-11-23T10:15:30Z", "value": 61.5}
WORKLOAD = Workload(
    "readings",
    Reading,
    process,
    natural_key=natural_key,
    readable=("hourly",),
    public=("hourly",),
    example=EXAMPLE,
    invariant=invariant,
)
