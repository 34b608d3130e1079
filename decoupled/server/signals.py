"""The signals that end a server, or renew what it serves with."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable


def listen_to_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, renew: Callable[[], None]) -> None:
    """From now on, of this process. `renew`: serve with what has changed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    # Started by `nohup`, it is to outlive its terminal.
    ends_with_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    def hang_up() -> None:
        """Somebody wants what has changed to count; unless it was the terminal, which is closed."""
        if ends_with_terminal and not _has_terminal():
            stop.set()
        else:
            renew()

    loop.add_signal_handler(signal.SIGHUP, hang_up)


def _has_terminal() -> bool:
    try:
        os.close(os.open(os.ctermid(), os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
