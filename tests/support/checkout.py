"""Copies of this checkout, for tests of what people type in theirs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.server import ROOT


def copy_to(directory: Path) -> None:
    """What git has, as it is now, and nothing that was built."""
    for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0"):
        if name and (ROOT / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)


def environment() -> dict[str, str]:
    """This one, without what the `make` and the pytest that run this test hand on to theirs: their options."""
    ours = ("MAKE", "MFLAGS", "ARGS", "PYTEST")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
