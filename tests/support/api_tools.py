"""The programs that take our OpenAPI document, from the environment that `make api-tools` makes: whether it is one, and
whether a server does what it says."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).parents[2] / ".venv-api-tools" / "bin"

# Everything but one check: what a schema allows may still be refused in view of other fields.
_CONFIGURATION = """
[generation]
allow-extra-parameters = false
unique-inputs = true

[checks]
positive_data_acceptance.enabled = false
"""


def run(program: str | Path, *arguments: str | Path, directory: Path, seconds: float = 180) -> str:
    """What one of them, or a file of Python, printed once it ended well."""
    command = [TOOLS / "python", TOOLS / program, *arguments]  # its own first line breaks at a space in the path
    environment = {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, "\n".join(line[:1_000] for line in (done.stdout + done.stderr).splitlines())
    return done.stdout


def validate(document: Any, directory: Path) -> None:
    """Fails if it is no OpenAPI document."""
    run("openapi-spec-validator", saved(document, directory), directory=directory)


def conforms(document: Any, url: str, directory: Path, examples: int, *options: str) -> str:
    """Have Schemathesis send so many requests for each operation, good ones and bad ones, and those that it knows to be
    at the limits. Fails at an answer that is not in the document: also at those that `default` would allow. What it
    printed."""
    strict = json.loads(json.dumps(document))
    for operations in strict["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("default", None)
    (directory / "schemathesis.toml").write_text(_CONFIGURATION)
    (directory / "schema.json").write_text(json.dumps(strict))
    chosen = ("--url", url, "--max-examples", str(examples), "--seed", "13", "--no-color", *options)
    return run("schemathesis", "run", directory / "schema.json", *chosen, directory=directory)


def saved(document: Any, directory: Path) -> Path:
    """It, as a file."""
    file = directory / "openapi.json"
    file.write_text(json.dumps(document))
    return file
