"""Whose an item is, on DynamoDB: by an attribute of ours, set when the item is made, and when it is stored whole. One
that has none was made by a version that knew no owners, or for callers that nobody can tell apart: it is nobody's, and
stays so whoever adds to it. Pure.

    Add or Update by ana    nothing there ──▶ ana's      somebody's ──▶ theirs still
                            nobody's, not marked so ──▶ the condition fails; tried again, it is marked as nobody's
"""

from __future__ import annotations

from decoupled.core import limits
from decoupled.engines.aws.attributes import Attributes

NOBODY = None
"""The value of the attribute that marks an item as nobody's: so that this is found out once."""


def owner(stored: Attributes) -> str | None:
    """The owner of an item; None if it is nobody's."""
    return stored.get(limits.OWNER_ATTRIBUTE, {}).get("S")


def is_unmarked(stored: Attributes | None) -> bool:
    """Whether an item is there, and does not say whose it is."""
    return stored is not None and limits.OWNER_ATTRIBUTE not in stored
