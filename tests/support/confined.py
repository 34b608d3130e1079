"""Runs a program as a systemd unit would confine it, where there is no systemd: no capabilities, no new privileges,
only the system calls and the kinds of sockets that the unit allows, no memory that is both written and run, its number
of files. Usage: confined.py UNIT PROGRAM [ARGUMENT ...]. Needs systemd-analyze, for the names, and libseccomp.

What it cannot do is to hide files: that is read from the unit only."""

import ctypes
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_SET_MDWE = 38, 24, 65
CAPABILITIES = 41
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # with EPERM
EQUAL = 4

kernel = ctypes.CDLL(None, use_errno=True)
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def main() -> None:
    unit = Path(sys.argv[1]).read_text()
    files = int(values(unit, "LimitNOFILE")[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    os.umask(int(values(unit, "UMask")[0], 8))
    names = allowed(unit)  # while other programs can be run
    if values(unit, "CapabilityBoundingSet") == [""]:
        for capability in range(CAPABILITIES):
            ask(PR_CAPBSET_DROP, capability)
    if values(unit, "NoNewPrivileges") == ["yes"]:
        ask(PR_SET_NO_NEW_PRIVS, 1)
    if values(unit, "MemoryDenyWriteExecute") == ["yes"]:
        ask(PR_SET_MDWE, 1)
    filter_calls(names, [getattr(socket, name) for name in values(unit, "RestrictAddressFamilies")[0].split()])
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  that is what it is for


def values(unit: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{name}=")]


def ask(what: int, value: int) -> None:
    if kernel.prctl(what, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {what} {value}")


def allowed(unit: str) -> set[str]:
    """The system calls."""
    found: set[str] = set()
    for filters in values(unit, "SystemCallFilter"):
        names = {name for group in filters.lstrip("~").split() for name in expanded(group)}
        found = found - names if filters.startswith("~") else found | names
    return found


def expanded(name: str) -> set[str]:
    """A group, as its calls."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    inside = [line.strip() for line in listed.stdout.splitlines() if line.startswith(" ")]
    return {call for one in inside if not one.startswith("#") for call in expanded(one)}


def filter_calls(names: set[str], families: list[int]) -> None:
    rules = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(REFUSE)))
    for name in sorted(names | {"execve"}):  # systemd's own, for the program
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            continue  # of another kind of machine
        compares = [Compare(0, EQUAL, family, 0) for family in families] if name == "socket" else [None]
        for compare in compares:
            array = (Compare * 1)(compare) if compare is not None else None
            if seccomp.seccomp_rule_add_array(rules, ctypes.c_uint32(ALLOW), number, int(array is not None), array):
                raise OSError(f"no rule for {name}")
    if seccomp.seccomp_load(rules):
        raise OSError("the filter cannot be loaded")


main()
