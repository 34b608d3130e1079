"""Wheels of what travels to Lambda, fetched once for all tests by `make build/wheels/stamp`: to ask an index for them
takes a build longer than all else that it does. Without them, it asks the index. For tests only."""

from __future__ import annotations

import subprocess
import sys

from decoupled.cli.build import _LAMBDA, _PIP_OF_LAMBDA
from tests.support.server import ROOT

WHEELS = ROOT / "build" / "wheels"
WANTED = (
    (("-m", "pip"), (), ("lambda", "lambda-traces")),  # for this machine's Python, which the emulator runs functions on
    (("-c", _PIP_OF_LAMBDA), _LAMBDA, ("lambda",)),
)


def at_hand() -> dict[str, str]:
    """What has pip take them, in its environment. It has their hashes all the same."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEELS)} if (WHEELS / "stamp").exists() else {}


def fetch() -> None:
    """All of them."""
    for launch, platform, locks in WANTED:
        for lock in locks:
            command = [sys.executable, "-P", *launch, "--disable-pip-version-check", "--quiet", "download", *platform]
            command += ["--only-binary", ":all:", "--no-deps", "--require-hashes", "--dest", str(WHEELS)]
            subprocess.run([*command, "--requirement", str(ROOT / f"requirements/{lock}.lock")], check=True)


if __name__ == "__main__":
    fetch()
