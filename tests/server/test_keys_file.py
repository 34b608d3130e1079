"""`decoupled keys`, and the file that it keeps keys in: private, whole, and nobody's change lost."""

from __future__ import annotations

import os
import re
import secrets
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from decoupled.core import api_keys, limits
from decoupled.core.api_keys import Keyring, Keys, KeysError
from decoupled.engines.sqlite.database import DataDirectoryError
from decoupled.engines.sqlite.keys_file import KeysFile
from tests.support.server import DECOUPLED


def keys(*arguments: str, status: int = 0) -> str:
    """What `decoupled keys ...` says."""
    done = subprocess.run([DECOUPLED, "keys", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def adds(name: str) -> Callable[[Keys], tuple[Keys, str]]:
    return lambda known: api_keys.add(known, name, 1, secrets.token_hex)


def test_a_key_is_shown_once_and_kept_nowhere(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = keys("add", "ana", "--data", str(data), "--workloads", "orders,returns", "--expires", "90d").strip()
    assert re.fullmatch(r"dk_[0-9a-f]{12}_[0-9a-f]{64}", key)
    listed = keys("list", "--data", str(data))
    assert key[3:15] in listed
    assert "orders,returns" in listed
    for text in (listed, *(file.read_text() for file in data.iterdir())):
        assert key[16:] not in text


def test_a_caller_s_keys_are_rotated_and_revoked_by_the_commands(tmp_path: Path) -> None:
    where = ("--data", str(tmp_path / "data"))
    first = keys("add", "ana", "--operator", *where).strip()
    second = keys("rotate", "ana", "--overlap", "1h", *where).strip()
    ring = Keyring(KeysFile(tmp_path / "data").look() or [])
    holders = [ring.holder(text) for text in (first, second)]
    assert [(key.name, key.operator) for key in holders if key] == [("ana", True)] * 2
    assert first[3:15] in keys("revoke", first[3:15], *where)
    assert keys("list", *where).splitlines()[1].split()[:2] == [second[3:15], "ana"]
    keys("revoke", "ana", *where)
    assert len(keys("list", *where).splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (("list",), 1, "there is no .*keys: decoupled keys add NAME makes it"),
        (("revoke", "ana"), 1, "there is no caller and no key 'ana'"),
        (("rotate", "ana"), 1, "there is no caller 'ana'"),
        (("add", "two words"), 1, "'two words' is no name of a caller"),
        (("add", "ana", "--workloads", "./orders.py"), 2, "'./orders.py' is no name of a workload"),
        (("add", "ana", "--expires", "0s"), 2, "--expires is 1s to 3,660d"),
        (("add", "ana", "--expires", "99999d"), 2, "--expires is 1s to 3,660d"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    arguments: tuple[str, ...], status: int, complaint: str, tmp_path: Path
) -> None:
    said = keys(*arguments, "--data", str(tmp_path / "data"), status=status)
    assert re.search(complaint, said)
    assert "Traceback" not in said


def test_the_file_is_for_its_owner_s_eyes_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        KeysFile(tmp_path / "data").change(adds("ana"))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    assert modes == {"keys": 0o600, "keys.lock": 0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_changes_of_many_commands_at_once_are_all_kept(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    commands = [
        subprocess.Popen([DECOUPLED, "keys", "add", f"caller-{number}", "--data", data], stdout=subprocess.PIPE)
        for number in range(6)
    ]
    made = [command.communicate(timeout=60)[0].decode().strip() for command in commands]
    ring = Keyring(KeysFile(tmp_path / "data").look() or [])
    assert [key.name for key in map(ring.holder, made) if key] == [f"caller-{number}" for number in range(6)]


def test_a_command_waits_for_another_one_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCK_WAIT_S", 0.1)
    file, other = KeysFile(tmp_path), KeysFile(tmp_path)

    def meanwhile(known: Keys) -> tuple[Keys, None]:
        with pytest.raises(DataDirectoryError, match="another command changes the keys"):
            other.change(adds("ben"))
        return known, None

    file.change(meanwhile)
    other.change(adds("ben"))


def test_a_look_tells_of_changes_only(tmp_path: Path) -> None:
    file = KeysFile(tmp_path)
    file.change(adds("ana"))
    looks = KeysFile(tmp_path)
    assert [key.name for key in looks.look() or []] == ["ana"]
    assert looks.look() is None
    file.change(adds("ben"))
    assert [key.name for key in looks.look() or []] == ["ana", "ben"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [(b'{"version": 1', "is damaged"), (b" " * 100, "is over 64 bytes"), (None, "there is no")],
    ids=["damaged", "too large", "gone"],
)
def test_a_file_that_cannot_be_read_is_told_each_time_and_never_written_over(
    text: bytes | None, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = KeysFile(tmp_path)
    file.change(adds("ana"))
    monkeypatch.setattr(limits, "MAX_API_KEYS_BYTES", 64)
    file.path.unlink() if text is None else file.path.write_bytes(text)
    for _ in range(2):
        with pytest.raises(KeysError, match=complaint):
            file.look()
    if text is not None:
        with pytest.raises(KeysError, match=complaint):
            file.change(adds("ben"))
        assert file.path.read_bytes() == text


def test_a_change_that_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = KeysFile(tmp_path)
    file.change(adds("ana"))

    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        file.change(adds("ben"))
    monkeypatch.undo()
    assert [key.name for key in KeysFile(tmp_path).look() or []] == ["ana"]
    assert file.change(adds("ben")).startswith("dk_")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_the_keys_of_another_user_s_directory_are_that_user_s_to_change(tmp_path: Path) -> None:
    os.chown(tmp_path, 65_534, 65_534)
    with pytest.raises(DataDirectoryError, match="belongs to user 65534"):
        KeysFile(tmp_path).change(adds("ana"))
    assert list(tmp_path.iterdir()) == []
