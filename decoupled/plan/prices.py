"""What things cost: `prices.toml`, the one dated list, and the arithmetic of its tiers. Nothing here knows how much of
anything a system needs."""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("prices.toml")


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to so many units a month, each `per` units are so many dollars."""

    dollars: float
    up_to: float = float("inf")


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one thing that is billed. `free`: units a month that an account has for nothing."""

    service: str
    unit: str
    per: float
    tiers: tuple[Tier, ...]
    source: str
    read_at: str
    free: float = 0.0

    @property
    def first(self) -> float:
        """Dollars for `per` units, in the first tier."""
        return self.tiers[0].dollars

    def dollars(self, units: float, free_tier: bool = False) -> float:
        """For so many units in a month."""
        billed = max(0.0, units - self.free) if free_tier else units
        dollars, begun = 0.0, 0.0
        for tier in self.tiers:
            dollars += max(0.0, min(billed, tier.up_to) - begun) / self.per * tier.dollars
            begun = tier.up_to
        return dollars


class PriceList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them, of a Region and a day (YYYY-MM-DD)."""

    region: str
    as_of: str
    prices: dict[str, Price]

    def __getitem__(self, name: str) -> Price:
        return self.prices[name]


@functools.cache
def price_list() -> PriceList:
    """The file that comes with the package."""
    return msgspec.toml.decode(FILE.read_bytes(), type=PriceList)
