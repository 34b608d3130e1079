"""The service manager that has started this process, if one has: systemd, or who speaks as it does. It may hand over
the socket that clients come to, which outlives the server: those that come while there is none wait for the next
(sd_listen_fds(3)). And it may want to be told when requests are taken, how it goes, and that it goes on
(sd_notify(3))."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import os
import socket
from collections.abc import MutableMapping

from decoupled.core import upkeep_limits as limits
from decoupled.server.health import Look, summary
from decoupled.server.options import Options

log = logging.getLogger("decoupled.server")

FIRST_FD = 3  # of those that are handed over


class ServiceManager:
    """What it has given, and a way to tell it."""

    def __init__(self, variables: MutableMapping[str, str], pid: int) -> None:
        """Of the process of that number. Takes what is meant for it out of the variables, for its children would take
        it as meant for them. Raises ValueError when a socket is handed over that cannot be served on."""
        given = {name: variables.pop(name, "") for name in _VARIABLES}
        self._address = given["NOTIFY_SOCKET"]
        self._failed = False
        self._told = ""
        self._watchdog_s = None
        if given["WATCHDOG_USEC"].isdecimal() and given["WATCHDOG_PID"] in ("", str(pid)):
            self._watchdog_s = int(given["WATCHDOG_USEC"]) / 1e6
        self.listener = _listener(given["LISTEN_FDS"]) if given["LISTEN_PID"] == str(pid) else None

    def listening(self, options: Options) -> Options:
        """With the address of the socket that was handed over, whatever the options say. Raises ValueError."""
        if self.listener is None:
            return options
        host, port = self.listener.getsockname()[:2]
        if (host, port) != (options.host, options.port):
            asked = f"{options.host}:{options.port}"
            log.info("the service manager says where to listen, not the options", extra={"options": asked})
        return dataclasses.replace(options, host=host, port=port)

    # --- what it is told ------------------------------------------------------

    def ready(self, looks: list[Look], loop: asyncio.AbstractEventLoop) -> None:
        """Requests are taken; and from now on it is told how it goes. The watchdog hears from the event loop, and from
        nobody else: what that waits for is what a new start may mend. A full disk is not."""
        if not self._address:
            return
        self.tell("READY=1")
        every_s = (
            limits.NOTIFY_EVERY_S if self._watchdog_s is None else min(limits.NOTIFY_EVERY_S, self._watchdog_s / 3)
        )

        def beat() -> None:
            told = summary(looks)
            status = f"STATUS={told['status'] if told['detail'] is None else told['detail']}".replace("\n", " ")
            lines = ([] if self._watchdog_s is None else ["WATCHDOG=1"]) + [status] * (status != self._told)
            self._told = status
            if lines:
                self.tell(*lines)
            loop.call_later(every_s, beat)

        beat()

    def stopping(self) -> None:
        """No request is taken any more."""
        self.tell("STOPPING=1")

    def tell(self, *lines: str) -> None:
        """Neither waits nor raises: what cannot be told is in the log, once."""
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
                notices.setblocking(False)
                notices.sendto("\n".join(lines).encode(errors="replace")[: limits.NOTICE_BYTES], address)
        except OSError as error:
            if not self._failed:
                log.warning("the service manager cannot be told how it goes", extra={"error": str(error)})
            self._failed = True
        else:
            self._failed = False


_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


def _listener(number: str) -> socket.socket | None:
    if number in ("", "0"):
        return None
    if number != "1":
        raise ValueError(f"the service manager hands over {number} sockets (LISTEN_FDS); one can be served on")
    try:
        os.set_inheritable(FIRST_FD, False)  # for workers and what they start it would never close
        listener = socket.socket(fileno=FIRST_FD)
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        why = "there is no such file" if error.errno == errno.EBADF else error.strerror
        raise ValueError(f"the service manager says that file {FIRST_FD} is a socket (LISTEN_FDS): {why}") from error
    if listener.family not in (socket.AF_INET, socket.AF_INET6) or listener.type != socket.SOCK_STREAM or not listens:
        raise ValueError("the socket that the service manager hands over is no TCP socket that listens (ListenStream=)")
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
    listener.setblocking(False)
    return listener
