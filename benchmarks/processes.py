"""What the processes of a server cost, from the kernel: CPU and system calls of each role, told apart by command line,
and which of them holds a client's connection. Linux only. Loads nothing itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

PROC = Path("/proc")
TICKS_A_S = os.sysconf("SC_CLK_TCK")
WRITER, OTHERS, ENDED, ALL = "writer", "others", "ended meanwhile", "all of the server"
ROLES = {"decoupled.server.fronts.process": "fronts", "decoupled.server.workers.process": "workers"}
TOLD = (WRITER, *ROLES.values(), OTHERS, ENDED)  # in this order
PERF_ATTACHES_S = 0.5
PERF_WITHIN_S = 10  # to write down what it counted
ESTABLISHED = "01"


@dataclass(frozen=True, slots=True)
class Process:
    """One that runs; seconds of CPU, user and system, of it and of those of its children that have ended."""

    role: str
    own_s: float
    reaped_s: float


def role(command: Sequence[str]) -> str:
    """Of a process that a server started, by its command line."""
    modules = [value for flag, value in pairwise(command) if flag == "-m"]
    return ROLES.get(modules[0], OTHERS) if modules else OTHERS


def running(pid: int) -> dict[int, Process]:
    """A server's main process, which is the writer, and all that descend from it, by their ids."""
    stats = {}
    for entry in PROC.iterdir():
        with suppress(OSError, ValueError):
            stats[int(entry.name)] = _stat((entry / "stat").read_text())
    family = {pid}
    while more := {child for child, (parent, *_) in stats.items() if parent in family} - family:
        family |= more
    roles = {each: WRITER if each == pid else _role_of(each) for each in sorted(family & stats.keys())}
    return {each: Process(name, *stats[each][1:]) for each, name in roles.items()}


def cpu_s(before: Mapping[int, Process], after: Mapping[int, Process]) -> dict[str, float]:
    """Seconds of CPU by role between two looks at a server. What ended meanwhile stands under `ENDED`: its parent has
    been told how much it used in all, and what it had used at the first look is taken off."""
    used: defaultdict[str, float] = defaultdict(float)
    for pid, process in after.items():
        earlier = before.get(pid, Process(process.role, 0.0, 0.0))
        used[earlier.role] += process.own_s - earlier.own_s
        used[ENDED] += process.reaped_s - earlier.reaped_s
    used[ENDED] -= sum(process.own_s + process.reaped_s for pid, process in before.items() if pid not in after)
    if used[ENDED] < 1 / TICKS_A_S:
        del used[ENDED]
    return {name: used[name] for name in TOLD if name in used}


def of_an_order(used_s: Mapping[str, float], orders: int) -> dict[str, float]:
    """What that comes to in microseconds an order: all of the server, and each role's part."""
    return {name: seconds * 1e6 / orders for name, seconds in {ALL: sum(used_s.values()), **used_s}.items()}


def told(processes: Mapping[int, Process]) -> str:
    """How many of each role: "writer 1, fronts 2, workers 2"."""
    counts = Counter(process.role for process in processes.values())
    return ", ".join(f"{name} {counts[name]}" for name in TOLD if counts[name])


def _stat(line: str) -> tuple[int, float, float]:
    """Of /proc/PID/stat: its parent, and seconds of CPU of its own and of its children that have ended."""
    fields = line.rpartition(")")[2].split()
    user, system, children_user, children_system = map(int, fields[11:15])
    return int(fields[1]), (user + system) / TICKS_A_S, (children_user + children_system) / TICKS_A_S


def _role_of(pid: int) -> str:
    """One that has ended meanwhile has no command line any more."""
    with suppress(OSError):
        return role((PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0"))
    return OTHERS


# --- system calls -----------------------------------------------------------------


@contextmanager
def counting_calls(pid: int) -> Iterator[dict[str, int]]:
    """The server's system calls by role, there when the block has ended. Empty where perf is missing or may not."""
    calls: dict[str, int] = {}
    by_role: defaultdict[str, list[int]] = defaultdict(list)
    for each, process in running(pid).items():
        by_role[process.role].append(each)
    counters = {name: _perf(pids) for name, pids in by_role.items()} if shutil.which("perf") else {}
    time.sleep(PERF_ATTACHES_S)
    try:
        yield calls
    finally:
        for counter in counters.values():
            counter.send_signal(signal.SIGINT)  # a Popen signals nothing that has ended
        outputs = {name: counter.communicate(timeout=PERF_WITHIN_S)[1] for name, counter in counters.items()}
    counted = {name: calls_counted(outputs[name]) for name in TOLD if name in outputs}
    calls.update({name: count for name, count in counted.items() if count is not None})


def calls_counted(output: str) -> int | None:
    """What `perf stat -x,` says; None if it could not count. Processes that made none are "<not counted>"."""
    for line in output.splitlines():
        if ",raw_syscalls:sys_enter," in line:
            count = line.split(",")[0]
            return int(count) if count.isdecimal() else 0 if count == "<not counted>" else None
    return None


def _perf(pids: Sequence[int]) -> subprocess.Popen[str]:
    command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", ",".join(map(str, pids))]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


# --- connections ------------------------------------------------------------------


def holders(pid: int, port: int) -> dict[int, int]:
    """Which process of a server holds the connection of a client: by the client's port, the process's id."""
    clients = clients_of((PROC / "net" / "tcp").read_text(), port)
    found = {}
    for each in running(pid):
        with suppress(OSError):
            for descriptor in (PROC / str(each) / "fd").iterdir():
                with suppress(OSError):
                    if (client := clients.get(str(descriptor.readlink()))) is not None:
                        found[client] = each
    return found


def clients_of(table: str, port: int) -> dict[str, int]:
    """The connections to a port in /proc/net/tcp: by the socket's name in /proc/PID/fd, the client's port."""
    clients = {}
    for line in table.splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if state == ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
            clients[f"socket:[{rest[5]}]"] = int(remote.rpartition(":")[2], 16)
    return clients
