"""How long a worker process goes on, and what memory it may have: looked at, limited and told of from within. Linux
says what is in use; elsewhere the most that ever was stands for it, and a single message is not limited."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from decoupled.core import limits
from decoupled.server.workers.protocol import Leaving


class Lifetime:
    """Of this process, from when it has imported its workloads. A limit of 0 is none."""

    def __init__(self, memory_mb: int, messages: int) -> None:
        self.first_mb = resident_mb()
        self._memory_mb = memory_mb if memory_mb >= self.first_mb else 0  # another one would be no smaller
        self._messages = messages
        self._decided = 0
        self._look_at = 0.0

    def over(self, decided: int) -> Leaving | None:
        """After a batch of so many messages: why the process should make way for a new one, or None."""
        self._decided += decided
        if self._messages and self._decided >= self._messages:
            return Leaving("messages", f"it has decided {self._decided:,} messages")
        if self._memory_mb and (now := time.monotonic()) >= self._look_at:
            self._look_at = now + limits.MEMORY_LOOK_S
            if (used_mb := resident_mb()) > self._memory_mb:
                return Leaving("memory", f"it has {used_mb:,} MB of memory; it may have {self._memory_mb:,}")
        return None


def resident_mb() -> int:
    """Of this process."""
    if sys.platform == "linux":
        return _bytes(1) // limits.MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // limits.MIB  # macOS tells bytes


def limit_message(memory_mb: int) -> None:
    """From now on, what allocates several times a worker's memory gets a MemoryError, which is its message's own
    failure. Without this the machine's memory would run out, and the kernel look for a process to end."""
    if sys.platform == "linux" and memory_mb:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = _bytes(5) + limits.MESSAGE_MEMORY_FACTOR * memory_mb * limits.MIB
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _bytes(field: int) -> int:
    """Of /proc/self/statm: 1 is resident, 5 is data and stack."""
    return int(Path("/proc/self/statm").read_bytes().split()[field]) * resource.getpagesize()
