"""A Containerfile, read so far that its steps can be done in a plain directory: there is no registry of images where
tests run, and no daemon."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

# All that it writes is a volume: what else there is cannot be written.
READ_ONLY = 'mount --make-rprivate /; mount --bind "$0" "$0"; mount -o remount,ro,bind /; exec "$@"'


@dataclass(slots=True)
class Stage:
    """From one FROM to the next."""

    image: str
    name: str = ""
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """What stands behind each such instruction."""
        return [text for name, text in self.steps if name == instruction]

    def one(self, instruction: str) -> str:
        """What stands behind the only one."""
        (text,) = self.all(instruction)
        return text

    def variables(self) -> dict[str, str]:
        """Of ENV."""
        return dict(pair.split("=", 1) for text in self.all("ENV") for pair in text.split())

    def command(self) -> list[str]:
        """What runs: the entry point with its arguments."""
        found: list[str] = json.loads(self.one("ENTRYPOINT")) + json.loads(self.one("CMD"))
        return found


def stages(file: Path) -> list[Stage]:
    """Of the file."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    found: list[Stage] = []
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        instruction, text = line.split(" ", 1)
        if instruction == "FROM":
            image, _, name = text.partition(" AS ")
            found.append(Stage(image, name))
        else:
            found[-1].steps.append((instruction, text.strip()))
    return found


def read_only_but(directory: Path) -> list[str]:
    """What to put before a command so that it can write nothing but that directory; nothing, where this process may not
    ask for it."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        return []
    return ["unshare", "-m", "sh", "-euc", READ_ONLY, str(directory)]
