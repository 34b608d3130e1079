"""`decoupled senders`: who comes and goes, and that a secret is asked for where nobody sees it."""

from __future__ import annotations

import os
import pty
import re
import stat
import subprocess
from pathlib import Path

import pytest

from decoupled.engines.sqlite.keys_file import KeysFile, SendersFile
from tests.support.server import DECOUPLED, decoupled
from tests.support.webhooks import GITHUB, SECRETS, STANDARD, STRIPE

SECOND = "whsec_00000000000000000000000000000000"


def senders(data: Path, *arguments: str, secret: str | None = None, status: int = 0) -> str:
    return decoupled("senders", *arguments, "--data", data, status=status, input=secret or "")


def added(data: Path, name: str, preset: str, secret: str = "", status: int = 0) -> str:
    arguments = ("add", name, "--preset", preset, "--workloads", "payments,refunds")
    return senders(data, *arguments, secret=f"{secret or SECRETS[preset]}\n", status=status)


def test_senders_are_added_listed_rotated_and_revoked_without_a_secret_being_shown(tmp_path: Path) -> None:
    data = tmp_path / "data"
    said = [added(data, name, name) for name in SECRETS]
    said += [senders(data, "rotate", "stripe", "--overlap", "2h", secret=SECOND)]
    listed = senders(data, "list")
    rows = [line.split() for line in listed.splitlines()]
    assert rows[0] == ["sender", "preset", "workloads", "secrets", "newest"]
    assert [row[:4] for row in rows[1:]] == [
        ["standard", "standard", "payments,refunds", "1"],
        ["stripe", "stripe", "payments,refunds", "2,"],
        ["github", "github", "payments,refunds", "1"],
    ]
    assert re.search(r"2, 1 of them until \d{4}-", listed)
    assert senders(data, "revoke", "github") == "revoked github"
    assert [sender.name for sender in SendersFile(data).look() or []] == ["standard", "stripe"]
    assert not [text for text in [*said, listed] if any(secret in text for secret in (*SECRETS.values(), SECOND))]


def test_keys_and_senders_are_in_one_file_for_its_owner_s_eyes_and_leave_each_other_alone(tmp_path: Path) -> None:
    added(tmp_path, "till", "stripe")
    decoupled("keys", "add", "ana", "--data", tmp_path)
    added(tmp_path, "shop", "standard")
    decoupled("keys", "revoke", "ana", "--data", tmp_path)
    assert [sender.secrets[0].text for sender in SendersFile(tmp_path).look() or []] == [STRIPE, STANDARD]
    assert KeysFile(tmp_path).look() == []
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"keys": 0o600, "keys.lock": 0o600}


def test_on_a_terminal_the_secret_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [
        str(DECOUPLED),
        "senders",
        "add",
        "till",
        "--preset",
        "stripe",
        "--workloads",
        "payments",
        "--data",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    try:
        while b"Secret" not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, f"{STRIPE}\n".encode())
        while b"added till" not in shown:
            shown += os.read(ours, 4096)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert STRIPE.encode() not in shown
    assert (SendersFile(tmp_path).look() or [])[0].secrets[0].text == STRIPE


@pytest.mark.parametrize(
    ("arguments", "secret", "status", "complaint"),
    [
        (("list",), "", 1, "there is no .*keys: decoupled senders add NAME makes it"),
        (("revoke", "till"), "", 1, "there is no sender 'till'"),
        (("rotate", "till"), STRIPE, 1, "there is no sender 'till'"),
        (("rotate", "till", "--overlap", "99999d"), STRIPE, 2, "--overlap is 1s to 3,660d"),
        (
            ("add", "till", "--preset", "stripe", "--workloads", "a"),
            "",
            2,
            "read from standard input, and there is none",
        ),
        (("add", "till", "--preset", "stripe", "--workloads", "a"), "sk_live_0123456789abcdef", 1, "and no API key"),
        (("add", "till", "--preset", "github", "--workloads", "a"), f"{GITHUB}\n{GITHUB}", 1, "can be printed"),
        (("add", "till", "--preset", "github", "--workloads", "a"), "s" * 100_000, 1, "up to 256 characters"),
        (
            ("add", "till", "--preset", "github", "--workloads", "./a.py"),
            GITHUB,
            2,
            "'./a.py' is no name of a workload",
        ),
        (("add", "till", "--preset", "github"), GITHUB, 2, "Missing option '--workloads'"),
        (("add", "till", "--preset", "gitlab", "--workloads", "a"), GITHUB, 2, "'standard', 'stripe', 'github'"),
        (("add", "till", "--preset", "github", "--workloads", "a", GITHUB), "", 2, "unexpected extra argument"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_without_the_secret(
    arguments: tuple[str, ...], secret: str, status: int, complaint: str, tmp_path: Path
) -> None:
    said = senders(tmp_path / "data", *arguments, secret=secret, status=status)
    assert re.search(complaint, said)
    assert not secret or GITHUB in arguments or secret not in said
    assert not (tmp_path / "data" / "keys").exists()
