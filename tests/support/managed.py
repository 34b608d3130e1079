"""A server that a service manager has started, as systemd does it: with the socket that clients come to, which stays
when the server ends, and an address to be told at."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.support.server import DECOUPLED, Server

# systemd hands sockets over as files 3 and on, and says for which process they are.
HAND_OVER = 'exec 3<&"$0" {other}<&-; export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@"'


class Managed(Server):
    """Its socket listens from the beginning to `close`."""

    def __init__(self, data: Path, *options: str, listener: socket.socket | None = None) -> None:
        super().__init__(data, *options)
        self.listener = listener or listening()
        self.port = self.listener.getsockname()[1]
        number = self.listener.fileno()
        self.program = ("bash", "-c", HAND_OVER.replace("{other}", str(number)), str(number), str(DECOUPLED))
        self.passes = (number,)
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = data.parent / f"{data.name}.notify"
        self.notices.bind(str(address))
        self.notices.settimeout(20)
        self.environment = {"LISTEN_FDS": "1", "NOTIFY_SOCKET": str(address)}

    def _wait_for_fronts(self) -> None:
        """Nobody is ever refused at this address."""

    def told(self, pattern: str) -> Sequence[str]:
        """All lines that the manager is told from now on, until one is such a line."""
        lines: list[str] = []
        while not any(re.fullmatch(pattern, line) for line in lines):
            lines += self.notices.recv(65_536).decode().splitlines()
        return lines

    def close(self) -> None:
        """End it, and whatever is left."""
        self.end()
        self.listener.close()
        self.notices.close()


def listening() -> socket.socket:
    """On a free port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    return listener
