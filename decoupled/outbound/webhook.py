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
import socket
import threading
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from decoupled.core import limits
from decoupled.core.workload import BadField, Rejected, Unavailable
from decoupled.outbound.settings import tls


def check_url(pointer: str, url: str) -> None:
    """Raises BadField for what cannot be posted to, whatever the configuration."""
    try:
        parts = urlsplit(url)
        usable = parts.hostname and parts.port != 0
    except ValueError as error:
        raise BadField(pointer, str(error)) from error
    if not usable or parts.username is not None or parts.fragment:
        raise BadField(pointer, "a URL with a host, and neither user nor fragment, is needed")


def post(url: str, headers: Mapping[str, str], body: bytes, trusted_hosts: Collection[str] = ()) -> int:
    """POST to a host that a client named; answers the 2xx status. `trusted_hosts` may be private, and be spoken to
    without TLS.

    Raises Rejected for a target that is not allowed and for any answer that is final (3xx, 4xx), and Unavailable when
    there is no answer in time, or one that asks to come again (408, 429, 5xx)."""
    deadline = time.monotonic() + limits.OUTBOUND_TIMEOUT_S
    parts = urlsplit(url)
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
        raise Unavailable(f"{host} answered {response.status}", _retry_after_s(response.headers.get("retry-after")))
    if response.status >= 300:
        raise Rejected(f"{host} answered {response.status}")
    return response.status


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


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_CARRIES_V4 = [ipaddress.IPv6Network(net) for net in ("::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10")]


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet. An IPv4 address inside an IPv6 one counts as itself; tunnels
    (6to4, Teredo), site-local and other old ways to write a private address are not public."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(ip.packed[-4:])))
        if any(ip in network for network in _CARRIES_V4):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


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


def _retry_after_s(value: str | None) -> float | None:
    """Seconds to wait, from seconds or from an HTTP date; None if it says neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
