"""One HTTP POST to a host that a client named. Guards against requests into our own network (SSRF). Knows not what
is sent, or why.

A host is resolved once, every address it has is checked, and the connection goes to an address that was checked, so
that a name cannot point elsewhere in between. Everything ends within OUTBOUND_TIMEOUT_S, however slowly the other side
drips. No redirect is followed, no proxy asked, and of the answer only the head is read."""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import queue
import re
import socket
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from decoupled.core import limits
from decoupled.core.backoff import asked_to_wait_s
from decoupled.core.workload import BadField, Rejected, Unavailable
from decoupled.outbound.settings import tls


def check_url(pointer: str, url: str) -> None:
    """Raises BadField for what cannot be posted to, whatever the configuration."""
    try:
        _parts(url)
    except ValueError as error:
        raise BadField(pointer, str(error)) from error


def post(url: str, headers: Mapping[str, str], body: bytes, trusted_hosts: Collection[str] = ()) -> int:
    """POST to a host that a client named; answers the 2xx status. `trusted_hosts` may be private, and be spoken to
    without TLS.

    Raises Rejected for a target that is not allowed and for any answer that is final (3xx, 4xx), Unavailable when
    there is no answer in time, or one that asks to come again (408, 429, 5xx), and ValueError for a URL that
    `check_url` refuses or a header that is no line of visible ASCII."""
    deadline = time.monotonic() + limits.OUTBOUND_TIMEOUT_S
    parts = _parts(url)
    for name, value in headers.items():  # http.client lets a folded line through
        if not _VISIBLE.fullmatch(name) or not _VISIBLE.fullmatch(value.replace(" ", "")):
            raise ValueError(f"no header: {name[:40]!r}")
    host = parts.hostname or ""
    secure, trusted = parts.scheme == "https", host in trusted_hosts
    if not secure and not trusted:
        raise Rejected(f"{parts.scheme} is not allowed, only https")
    port = parts.port or (443 if secure else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        addresses = resolve(host, port, deadline)
        if not trusted and not all(is_public(address) for address in addresses):
            raise Rejected(f"{host} is not a public address")
        with contextlib.closing(_connect(addresses, port, host if secure else None, deadline)) as connection:
            response = _exchange(connection, deadline, path, {**headers, "host": parts.netloc}, body)
    except (OSError, http.client.HTTPException) as error:  # refused, reset, timed out, a bad certificate, no such name
        raise Unavailable(f"{host}: {type(error).__name__}: {error}") from error
    if response.status in (408, 429) or response.status >= 500:
        raise Unavailable(f"{host} answered {response.status}", asked_to_wait_s(response.headers.get("retry-after")))
    if response.status >= 300:
        raise Rejected(f"{host} answered {response.status}")
    return response.status


_VISIBLE = re.compile("[!-~]*")


def _parts(url: str) -> SplitResult:
    """What a URL consists of. Raises ValueError for what cannot be posted to."""
    if not _VISIBLE.fullmatch(url):
        raise ValueError("a URL is visible ASCII characters")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("a URL is http:// or https:// with a host")
    if parts.username is not None or parts.fragment:
        raise ValueError("a URL with neither user nor fragment is needed")
    return parts


def resolve(host: str, port: int, deadline: float) -> list[str]:
    """The addresses of a host. The system's resolver knows no deadline, so it is waited for from outside."""
    found: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.put([str(address[0]) for *_, address in answers])
        except UnicodeError:
            found.put(OSError(f"{host} is not a host name"))
        except OSError as error:
            found.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        addresses = found.get(timeout=_left(deadline))
    except queue.Empty:
        raise TimeoutError("no answer from DNS") from None
    if isinstance(addresses, OSError):
        raise addresses
    return addresses


# The blocks of IANA's registries of special-purpose addresses that are not globally reachable, as of 2025, and those
# within them that are. They stand here because the `ipaddress` of an older Python calls some of them global.
_NOT_PUBLIC = [
    ipaddress.ip_network(block)
    for block in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/3"),  # multicast, reserved and broadcast in one
        *("::/3", "4000::/2", "8000::/1"),  # all but 2000::/3, the global unicast addresses
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),  # Teredo and other protocols, examples, 6to4
    )
]
_PUBLIC_WITHIN = [
    ipaddress.ip_network(block)
    for block in (
        *("192.0.0.9/32", "192.0.0.10/32"),
        *("2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32", "2001:4:112::/48"),
        *("2001:20::/28", "2001:30::/28"),
    )
]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet. An IPv4 address inside an IPv6 one counts as itself; tunnels
    (6to4, Teredo), site-local and other old ways to write a private address are not public."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(ip.packed[-4:])))
    return any(ip in block for block in _PUBLIC_WITHIN) or not any(ip in block for block in _NOT_PUBLIC)


def _connect(addresses: list[str], port: int, tls_name: str | None, deadline: float) -> socket.socket:
    """A connection to the first address that takes one, with TLS if there is a name to verify it by."""
    last: OSError = OSError("no address")
    for address in addresses[: limits.MAX_OUTBOUND_ADDRESSES]:
        try:
            connection = socket.create_connection((address, port), timeout=_left(deadline))
            if tls_name is None:
                return connection
            with contextlib.ExitStack() as undo:
                undo.callback(connection.close)
                connection.settimeout(_left(deadline))
                secured = tls().wrap_socket(connection, server_hostname=tls_name)
                undo.pop_all()
                return secured
        except OSError as error:
            last = error
    raise last


def _exchange(
    connection: socket.socket, deadline: float, path: str, headers: Mapping[str, str], body: bytes
) -> http.client.HTTPResponse:
    exchange = http.client.HTTPConnection("")
    exchange.sock = _Timed(connection, deadline)  # connected already: it opens none by itself
    exchange.request("POST", path, body, {**headers, "connection": "close"})
    return exchange.getresponse()


class _Timed:
    """A connection that ends at a deadline. A socket's own time-out starts anew with every byte."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def sendall(self, data: bytes) -> None:
        self._connection.settimeout(_left(self._deadline))
        self._connection.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._connection, self._deadline))

    def close(self) -> None:
        """Left to who opened it."""


class _TimedReader(io.RawIOBase):
    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_left(self._deadline))
        return self._connection.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
