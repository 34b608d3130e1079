"""The secret of a page: one for all processes of a data directory, whoever makes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.page_secret import SECRET_BYTES, PageSecret

MAKE = """
import sys; from pathlib import Path
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.page_secret import PageSecret
secret = PageSecret(DataDirectory(Path(sys.argv[1])))
sys.stdin.read()
print(secret(True).hex())
"""


def test_many_that_make_it_at_once_make_one(tmp_path: Path) -> None:
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.close()  # all of them go at that
        maker.stdin = None
    made = {maker.communicate(timeout=60)[0] for maker in makers}
    assert len(made) == 1
    assert len(bytes.fromhex(made.pop())) == SECRET_BYTES


def test_it_is_made_only_where_that_is_wanted_and_is_for_its_owner(tmp_path: Path) -> None:
    secret, other = PageSecret(DataDirectory(tmp_path)), PageSecret(DataDirectory(tmp_path))
    assert secret(False) is None
    assert list(tmp_path.iterdir()) == []
    before = os.umask(0)
    try:
        made = secret(True)
    finally:
        os.umask(before)
    assert made is not None
    assert (tmp_path / "page.secret").stat().st_mode & 0o777 == 0o600
    assert secret(True) == other(False) == other(True) == made


def test_deleted_it_is_gone_at_once_and_another_one_is_made(tmp_path: Path) -> None:
    secret = PageSecret(DataDirectory(tmp_path))
    first = secret(True)
    (tmp_path / "page.secret").unlink()
    assert secret(False) is None
    second = secret(True)
    assert second not in (None, first)


@pytest.mark.parametrize("text", [b"", b"00\n", b"z" * 64 + b"\n", b"0" * 64, b"\xff" * 65])
def test_what_is_not_whole_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "page.secret").write_bytes(text)
    secret = PageSecret(DataDirectory(tmp_path))
    assert secret(False) is None
    made = secret(True)
    assert made is not None
    assert secret(False) == made


def test_a_link_to_somewhere_else_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("0" * 64 + "\n")
    (tmp_path / "page.secret").symlink_to(tmp_path / "elsewhere")
    for make in (False, True):
        with pytest.raises(Unavailable):
            PageSecret(DataDirectory(tmp_path))(make)


def test_nobody_waits_for_a_pipe_in_its_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "page.secret")
    secret = PageSecret(DataDirectory(tmp_path))
    assert secret(False) is None
    with pytest.raises(Unavailable):
        secret(True)
