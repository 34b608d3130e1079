"""`make` wherever and however it is started: from a path with spaces, in the background under nohup, as root or not."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import copy_to, environment

NOBODY = 65_534
# Those that press Ctrl-C, that a path could break, and that depend on what a user may do to files.
CHOSEN = "tests/server/test_first_hour.py tests/server/test_data_directory.py -k {}".format(
    shlex.quote("interrupted or first_hour or cannot_be_written")
)


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """A copy of the checkout with an environment of its own, which has the libraries of this one, and no pytest but a
    script that calls it: with bare assertions, because it rewrites those of thousands of tests to run a few."""
    with tempfile.TemporaryDirectory(prefix="a path ") as directory:
        Path(directory).chmod(0o755)
        copy = Path(directory, "de coupled")
        copy_to(copy)
        venv.create(copy / ".venv", with_pip=False, symlinks=True)
        (site,) = (copy / ".venv").glob("lib/python*/site-packages")
        (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
        script = copy / ".venv/bin/pytest"
        script.write_text('#!/bin/sh\nexec "$(dirname "$0")/python" -m pytest --assert=plain "$@"\n')
        script.chmod(0o755)
        (copy / "tmp dir").mkdir()
        yield copy


def in_the_background(checkout: Path, command: str, user: int | None = None) -> str:
    """As a script starts it with nohup and &: SIGHUP and SIGINT are ignored. What it printed, once it ended well."""
    done = subprocess.run(
        ["sh", "-c", f"nohup {command} & wait $!"],
        cwd=checkout,
        env={**environment(), "HOME": str(checkout), "TMPDIR": str(checkout / "tmp dir")},
        user=user,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,  # on a machine that does much else
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_tests_pass_in_the_background_from_a_path_with_spaces(checkout: Path) -> None:
    passed(checkout)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else; the other test ran as nobody special")
def test_tests_pass_for_one_who_is_not_root(checkout: Path) -> None:
    try:
        subprocess.run([sys.executable, "-c", "import pytest"], user=NOBODY, check=True)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("nobody but root can run this Python")
    for path in [checkout, *checkout.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    passed(checkout, NOBODY)


def passed(checkout: Path, user: int | None = None) -> None:
    assert " passed" in in_the_background(checkout, f"make test-fast {shlex.quote(f'ARGS={CHOSEN}')}", user)
