"""HTTP requests that are never lost. Here are the version and what a workload's file imports; ARCHITECTURE.md tells of
the rooms behind it."""

from decoupled.core.identifiers import derived_id
from decoupled.core.workload import (
    Add,
    BadField,
    Delete,
    Effects,
    EffectsError,
    Emit,
    Item,
    Message,
    NotYet,
    Put,
    Rejected,
    Unavailable,
    Update,
    Workload,
    Write,
)

__version__ = "0.2.0"

__all__ = [
    "Add",
    "BadField",
    "Delete",
    "Effects",
    "EffectsError",
    "Emit",
    "Item",
    "Message",
    "NotYet",
    "Put",
    "Rejected",
    "Unavailable",
    "Update",
    "Workload",
    "Write",
    "__version__",
    "derived_id",
]
