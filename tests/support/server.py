"""A real `decoupled serve` in a process of its own, on a free port and a data directory of the test's: to ask, stop,
kill and start again. Every wait has a limit, every process is ended by its id. Nothing of the product is
patched here; see `tests/trial/launch.py` for servers that crash at a chosen point."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
DECOUPLED = Path(sys.executable).with_name("decoupled")
TRIAL = ROOT / "tests" / "support" / "trial"  # faults, and workloads for tests
LAUNCH = (sys.executable, "-P", str(TRIAL / "launch.py"))  # a server with a fault, see there
STARTS = 3  # another process may take the free port before the server does
WITHIN_S = 20.0

T = TypeVar("T")


def wait_for(found: Callable[[], T], until: Callable[[T], bool] = bool, seconds: float = WITHIN_S) -> T:
    """What `found` returns, once it is as it should be. Fails after so many seconds with what it was instead.

    It asks often at first, and ever less: to ask costs the server and the test two milliseconds of CPU."""
    started = time.monotonic()
    while not until(value := found()):
        waited = time.monotonic() - started
        assert waited < seconds, f"not within {seconds} s: {value!r}"
        time.sleep(min(0.01 + waited / 10, 0.05))
    return value


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def _named(option: str) -> str:
    """The workloads for tests by their files: `hazards` is tests/support/trial/workloads/hazards.py."""
    files = {file.stem: str(file) for file in (TRIAL / "workloads").glob("*.py")}
    return ",".join(files.get(name, name) for name in option.split(","))


class Server:
    """`decoupled serve` with some options, started and ended as often as a test likes, always on the same port."""

    def __init__(self, data: Path, *options: str, program: Sequence[str] = (str(DECOUPLED),)) -> None:
        self.data = data
        self.options = options
        self.program = program
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None
        self.directory = data.parent  # where it runs
        self.environment: Mapping[str, str] = {}  # beside ours
        self.log = data.parent / f"{data.name}.log"
        self.output: int | None = None  # what it writes to instead of the log
        self.trusts: ssl.SSLContext | None = None  # what its clients do, where it speaks TLS
        self.passes: tuple[int, ...] = ()  # descriptors that it inherits

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'http' if self.trusts is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the main process."""
        assert self.process is not None
        return self.process.pid

    # --- start and end --------------------------------------------------------

    def spawn(self, *program: str) -> None:
        """Start the process, and do not wait for it to listen."""
        if self.process is not None and self.ended():
            self._wait_for_fronts()
        arguments = ["serve", "--port", str(self.port), "--data", str(self.data), *map(_named, self.options)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment}
        with self.log.open("ab") as log:
            # In a session of its own, so that a test can signal the whole group, as Ctrl-C does.
            self.process = subprocess.Popen(
                [*(program or self.program), *arguments],
                cwd=self.directory,
                env=environment,
                stdout=log if self.output is None else self.output,
                stderr=log if self.output is None else self.output,
                pass_fds=self.passes,
                text=True,
                start_new_session=True,
            )

    def start(self) -> Server:
        """Start, and wait until it answers."""
        for attempt in range(1, STARTS + 1):
            self.spawn()
            try:
                self.wait_until_up()
            except AssertionError:
                self.kill()
                if attempt == STARTS or "cannot listen" not in self.logged():
                    raise
                self.port = free_port()
            else:
                break
        return self

    def _wait_for_fronts(self) -> None:
        """Of a server that was killed: they end a moment later, and until then a client might get through to them."""

        def refused() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return False
            return True

        wait_for(refused)

    def wait_until_up(self) -> None:
        """Until it answers. Fails at once, with its log, if it has ended instead."""
        assert self.process is not None
        deadline = time.monotonic() + WITHIN_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.logged()}"
            assert time.monotonic() < deadline, f"it does not listen: {self.logged()}"
            time.sleep(0.01)

    def ended(self) -> bool:
        """Whether the main process has."""
        assert self.process is not None
        return self.process.poll() is not None

    def wait(self, seconds: float = WITHIN_S) -> int:
        """Its exit status, once it has ended."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it runs on: {self.logged()}") from None

    def stop(self, number: int = signal.SIGTERM, seconds: float = WITHIN_S) -> int:
        """Ask it to end, and wait until it has; its exit status."""
        os.kill(self.pid, number)
        return self.wait(seconds)

    def kill(self) -> None:
        """End it as a crash does. Harmless if it has ended."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def end(self) -> None:
        """Kill what is left of it: workers that outlived it, children that workloads left behind."""
        self.kill()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def logged(self) -> str:
        """The end of what it wrote to standard output and standard error."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def log_lines(self) -> list[dict[str, Any]]:
        """The JSON lines of its log, each a whole one."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    # --- ask ------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = WITHIN_S,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        if self.trusts is not None:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.trusts)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        """GET."""
        return self.ask("GET", path)

    def post(self, path: str, entry: Any, **headers: str) -> Answer:
        """POST of JSON; `idempotency_key="..."` becomes a header."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, json.dumps(entry).encode(), {"content-type": "application/json", **fields})

    def accept(self, path: str, *entries: Any) -> list[str]:
        """POST entries as one batch; all must be accepted. Their ids, in order."""
        answer = self.post(path, list(entries))
        assert answer.status == 202, answer
        assert answer.json["rejected"] == [], answer
        return [accepted["id"] for accepted in answer.json["accepted"]]

    def wait_until(self, status: str, *paths: str, seconds: float = WITHIN_S) -> list[dict[str, Any]]:
        """The records at these paths, once they have that status."""
        return [self._wait_until(status, path, seconds) for path in paths]

    def _wait_until(self, status: str, path: str, seconds: float) -> dict[str, Any]:
        return wait_for(lambda: self.get(path).json, lambda record: record["status"] == status, seconds)

    # --- look -----------------------------------------------------------------

    def workers(self) -> list[int]:
        """The ids of its worker processes."""
        return self._children("decoupled.server.workers.process")

    def fronts(self) -> list[int]:
        """The ids of its fronts."""
        return self._children("decoupled.server.fronts.process", "faulty_front")

    def _children(self, *modules: str) -> list[int]:
        return [pid for pid in children(self.pid) if set(modules).intersection(command(pid))]

    def peak_rss_mb(self) -> float:
        """The most memory that the main process ever had, from the kernel."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        """Ask its file, beside it."""
        with contextlib.closing(sqlite3.connect(f"file:{self.data / 'decoupled.sqlite3'}?mode=ro", uri=True)) as file:
            file.execute("PRAGMA busy_timeout = 5000")
            return file.execute(sql, parameters).fetchall()

    def statuses(self) -> dict[str, int]:
        """How many messages there are in each status."""
        return dict(self.rows("SELECT status, count(*) FROM messages GROUP BY status"))

    def wait_until_settled(self, seconds: float = WITHIN_S) -> dict[str, int]:
        """Statuses, once none is queued."""
        return wait_for(self.statuses, lambda it: "queued" not in it, seconds)


@contextmanager
def serving(
    data: Path,
    *options: str,
    program: Sequence[str] = (str(DECOUPLED),),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server that listens. It is stopped as an operator stops it, and must then end by itself."""
    server = Server(data, *options, program=program)
    server.environment = environment or {}
    try:
        server.start()
        yield server
        assert server.stop() == 0, server.logged()
    finally:
        server.end()


def decoupled(*arguments: str | Path, status: int = 0, **more: Any) -> str:
    """What a command prints; or what it says when it fails."""
    command = [str(DECOUPLED), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, **more)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    said: str = done.stderr if status else done.stdout
    return said.strip()


def free_port() -> int:
    """Below the ports that the kernel gives to clients, so that no client sits on it when the server comes back."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def children(pid: int) -> list[int]:
    """The ids of a process's children that are not dead."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == pid and state != "Z":
                    found.append(int(entry.name))
    return found


def command(pid: int) -> list[str]:
    """The command line of a process; empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def alive(pid: int) -> bool:
    """Whether a process runs: neither gone nor waiting for its parent to notice its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Client:
    """A bare connection: sends any bytes, reads answers one by one."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        if server.trusts is not None:
            self.socket = server.trusts.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def post(self, body: bytes, *headers: str, path: str = "/ledger", length: int | None = None) -> None:
        size = len(body) if length is None else length
        lines = [f"POST {path} HTTP/1.1", "host: shop.example", f"content-length: {size}", *headers]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def answer(self, *, to_head: bool = False) -> Answer:
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = b"" if to_head else self.file.read(int(headers.get("content-length", 0)))
        return Answer(status, headers, body)
