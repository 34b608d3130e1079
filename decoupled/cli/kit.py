"""Finds the files that commands need beside the code: Lambda's functions, the template, scripts, a project."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def kit(name: str) -> Path:
    """Such a file or directory: in an installed wheel under decoupled/kit/, in a checkout where it is."""
    carried = PACKAGE / "kit"
    return (carried if carried.is_dir() else PACKAGE.parent) / name
