"""What docs/operations.md answers to a person on call, typed as it is printed.

A section is typed from its top to its end in a project of its own, which `decoupled new shop` has made and whose server
runs from the start, as `systemctl start decoupled` starts it. Each `sh` block is one bash, and must end well. A block
without a language that follows at once is what it prints, all of it: `…` stands for anything in a line, and a line of
nothing else for any lines. The port 8080 is a free one instead. A section that names a `--stack` has AWS's services
beside it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tests.support.server import DECOUPLED, free_port

HERE = Path(__file__).parent
WITHIN_S = 120  # of a block
PRINTED_PORT = "127.0.0.1:8080"

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """What is typed, and what it prints, if the text says so."""

    typed: str
    prints: str | None = None


def sections(document: str) -> dict[str, str]:
    """The text under each heading of the second level."""
    parts = re.split(r"^## (.+)$", document, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(section: str) -> list[Block]:
    """What is to be typed, in order."""
    fences = list(_FENCE.finditer(section))
    found = []
    for fence, following in zip_longest(fences, fences[1:]):
        if fence["language"] != "sh":
            continue
        prints = None
        if following is not None and not following["language"]:
            between = section[fence.end() : following.start()]
            prints = following["text"] if not between.strip() else None
        found.append(Block(fence["text"], prints))
    return found


def promised(prints: str, output: str) -> bool:
    """Whether the output is what the text says."""
    lines = [line.rstrip() for line in prints.strip().splitlines()]
    parts = [r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in lines]
    shown = "".join(f"{line.rstrip()}\n" for line in output.strip().splitlines())
    return re.fullmatch("".join(parts), shown) is not None


class Desk:
    """Where one section is typed."""

    def __init__(self, directory: Path, aws: Mapping[str, str] | None = None) -> None:
        """`aws`: the environment in which its services are there."""
        self.port = free_port()
        self.project = directory / "shop"
        inherited = aws or {name: value for name, value in os.environ.items() if not name.startswith("DECOUPLED_")}
        self._environment = {
            **inherited,
            "DECOUPLED_PORT": str(self.port),
            "ON_CALL": str(directory),
            "PATH": f"{HERE}:{DECOUPLED.parent}:{inherited['PATH']}",
        }
        self._bash("decoupled new shop", directory)

    def type(self, block: Block) -> str:
        """What it printed. Fails if it failed, or printed what the text does not promise."""
        output = self._bash(block.typed.replace(PRINTED_PORT, f"127.0.0.1:{self.port}"), self.project)
        output = output.replace(f"127.0.0.1:{self.port}", PRINTED_PORT)
        assert "Traceback (most recent call last)" not in output, output
        if block.prints is not None:
            assert promised(block.prints, output), f"the text says:\n{block.prints}\nand it prints:\n{output}"
        return output

    def _bash(self, typed: str, directory: Path) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", typed],
            cwd=directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, f"{typed}ended with {done.returncode}, and printed:\n{done.stdout}"
        return done.stdout

    @contextmanager
    def with_server(self) -> Iterator[None]:
        """Whatever the section does to it, it has ended in the end."""
        try:
            self._bash("systemctl start decoupled", self.project)
            yield
        finally:
            self._bash("systemctl stop decoupled; systemctl stop decoupled-litestream", self.project)


def follow(section: str, directory: Path, aws: Mapping[str, str] | None = None) -> None:
    """Type all of it."""
    desk = Desk(directory, aws)
    with desk.with_server():
        for block in blocks(section):
            desk.type(block)
