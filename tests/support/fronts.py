"""A server's fronts as a test sees them: which of them has a client, how many each has, clients on each of them."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.server import Client, Server, wait_for

ATTEMPTS = 200  # clients until each front has one
CHECK = b"POST /checks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def ready(server: Server, count: int) -> list[int]:
    """The fronts' ids, once so many can take clients."""
    wait_for(lambda: server.get("/health").json.get("fronts"), lambda fronts: fronts == count)
    return server.fronts()


def front_of(server: Server, client: Client) -> int | None:
    """The id of the front that has the client; None while it waits in the kernel."""
    _, port = client.socket.getsockname()
    found = _sockets(server, f"0100007F:{port:04X} 01")
    return next((pid for pid in server.fronts() if found & _files(pid)), None)


def clients_of(server: Server) -> dict[int, int]:
    """How many clients each front has."""
    found = _sockets(server, "[0-9A-F:]+ 01")
    return {pid: len(found & _files(pid)) for pid in server.fronts()}


def open_fronts(server: Server) -> list[int]:
    """The ids of those that let clients in."""
    found = _sockets(server, "00000000:0000 0A")
    return [pid for pid in server.fronts() if found & _files(pid)]


def renewed(server: Server, before: list[int], fronts: int) -> list[int]:
    """Those that let clients in, once none from before does any more."""
    return wait_for(
        lambda: open_fronts(server), lambda pids: len(pids) == fronts and not set(before).intersection(pids)
    )


def serves(client: Client) -> None:
    """This client, on the connection that it has."""
    client.send(CHECK)
    assert client.answer().status == 202


def _sockets(server: Server, other_end_and_state: str) -> set[str]:
    """Those on the server's port, as a process has them."""
    line = rf"0100007F:{server.port:04X} {other_end_and_state}(?: +\S+){{5}} +(\d+)"
    return {f"socket:[{inode}]" for inode in re.findall(line, Path("/proc/net/tcp").read_text())}


def _files(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(entry.readlink()))
    return found


@contextmanager
def clients_on_each(server: Server, fronts: list[int]) -> Iterator[dict[int, Client]]:
    """A client of each of these fronts."""
    with contextlib.ExitStack() as stack:
        found: dict[int, Client] = {}
        for _ in range(ATTEMPTS):
            client = stack.enter_context(Client(server))
            pid = wait_for(lambda client=client: front_of(server, client))  # type: ignore[misc]
            assert pid is not None
            found.setdefault(pid, client)
            if found.keys() >= set(fronts):
                yield found
                return
        raise AssertionError(f"after {ATTEMPTS} clients only {sorted(found)} of {fronts} have one")


class Clients:
    """Threads that post checks, each on connections of its own, and may not fail: whatever else than 202 they get, no
    answer to a whole request or half of one, is trouble. They connect again where the server says that it closes."""

    def __init__(self, server: Server, threads: int, pipelined: int = 1, think_s: float = 0.0) -> None:
        self.server = server
        self.accepted: list[str] = []  # paths
        self.trouble: list[str] = []
        self.stopping = threading.Event()
        self.ends = False  # the server does: then a connection may end, between two answers
        self._pipelined = pipelined
        self._think_s = think_s
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, answers: int = 50) -> None:
        """Wait until there are so many more."""
        before = len(self.accepted)
        wait_for(lambda: self.trouble or len(self.accepted) >= before + answers)

    def _run(self) -> None:
        try:
            while not self.stopping.is_set():
                with Client(self.server) as client:
                    while not self.stopping.is_set() and self._exchange(client):
                        pass
        except OSError as error:
            if not self.ends:
                self.trouble.append(repr(error))

    def _exchange(self, client: Client) -> bool:
        """Whether the connection stays."""
        self.stopping.wait(self._think_s)
        client.send(CHECK * self._pipelined)
        for number in range(1, self._pipelined + 1):
            if not client.file.peek(1):
                if not self.ends:
                    self.trouble.append(f"request {number} of {self._pipelined} has no answer")
                return False
            answer = client.answer()
            if answer.status == 503 and self.ends:
                continue
            if answer.status != 202 or "location" not in answer.headers:
                self.trouble.append(repr(answer))
                return False
            self.accepted.append(answer.headers["location"])
            if answer.headers.get("connection") == "close" and number < self._pipelined:
                self.trouble.append(f"closed after request {number} of {self._pipelined}")
        return answer.headers.get("connection") != "close"
