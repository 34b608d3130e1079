"""Writes what docs/scale.md shows: after each command the text that it prints, and the plots that it draws. Run as
`python -m tests.support.plans`, or `make plans`; a test says whether the document is as it would be written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.server import DECOUPLED, ROOT

DOCUMENT = ROOT / "docs" / "scale.md"
SHOWN = re.compile(r"^```\n(decoupled plan .*?)\n```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command as it is printed, and what is printed below it."""
    yield from SHOWN.findall(text)


def said(command: str, directory: Path) -> str:
    """What the command prints there, in a terminal of 80 columns."""
    arguments = shlex.split(command.replace("\\\n", " "))[1:]
    environment = os.environ | {"COLUMNS": "80"}
    done = subprocess.run(
        [DECOUPLED, *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=True
    )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def main() -> None:
    text = DOCUMENT.read_text()
    for command, shown in commands(text):
        text = text.replace(
            f"{command}\n```\n\n```text\n{shown}```", f"{command}\n```\n\n```text\n{said(command, ROOT)}```"
        )
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
