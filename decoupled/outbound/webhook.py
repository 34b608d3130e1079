"""One HTTP POST to a host that a client named. Guards against requests into our own network (SSRF). Knows not what
is sent, or why. aiohttp speaks HTTP (`connections.py`); where it may connect to is said here.

Every address that a host has is checked, and so is, once more, the address of each socket that is opened: a name cannot
point elsewhere in between. Everything ends within OUTBOUND_TIMEOUT_S, however slowly the other side drips. No redirect
is followed, no proxy asked, and of an answer's body only so much is read as it takes to use the connection again."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Collection, Mapping

from decoupled.core import limits, tracing, urls
from decoupled.core.backoff import asked_to_wait_s
from decoupled.core.workload import BadField, Rejected, Unavailable


def check_url(pointer: str, url: str) -> None:
    """Raises BadField for what cannot be posted to, whatever the configuration."""
    try:
        urls.parts(url)
    except ValueError as error:
        raise BadField(pointer, str(error)) from error


def host(url: str) -> str:
    """Whom it is for, of a URL that `check_url` took."""
    return urls.host(url)


def check_target(url: str, trusted_hosts: Collection[str]) -> None:
    """Raises ValueError for what `post` would refuse, as far as that can be told without asking DNS."""
    target = urls.parts(url)
    if (name := target.hostname or "") in trusted_hosts:
        return
    if target.scheme != "https":
        raise ValueError(f"{target.scheme} is not allowed, only https")
    try:
        public = is_public(name)
    except ValueError:  # a name; what is no address, and yet some systems read as one, shows when it is looked up
        public = f".{name}".removesuffix(".").rpartition(".")[2] != "localhost"
    if not public:
        raise ValueError(f"{name} is not a public address")


async def post(url: str, headers: Mapping[str, str], body: bytes, trusted_hosts: Collection[str] = ()) -> int:
    """POST to a host that a client named; answers the 2xx status. `trusted_hosts` may be private, and be spoken to
    without TLS.

    Raises Rejected for a target that is not allowed and for any answer that is final (3xx, 4xx), Unavailable when
    there is no answer in time, or one that asks to come again (408, 429, 5xx), and ValueError for a URL that
    `check_url` refuses or a header that is no line of visible ASCII."""
    from decoupled.outbound import connections  # aiohttp, which a receiver need not wait for when it starts

    parts = urls.parts(url)
    for field, value in headers.items():
        if not _VISIBLE.fullmatch(field) or not _VISIBLE.fullmatch(value.replace(" ", "")):
            raise ValueError(f"no header: {field[:40]!r}")
    name = parts.hostname or ""
    trusted = name in trusted_hosts
    if parts.scheme != "https" and not trusted:
        raise Rejected(f"{parts.scheme} is not allowed, only https")
    target = parts._replace(path=parts.path or "/").geturl()
    try:
        with tracing.posting(parts) as calling:
            async with asyncio.timeout(limits.OUTBOUND_TIMEOUT_S):
                kept = connections.kept(None if trusted else is_public)
                status, retry_after = await kept.post(target, name, {**headers, **calling.headers}, body)
            calling.answered(status)
    except connections.NotPermitted as error:
        raise Rejected(f"{name} is not a public address") from error
    except TimeoutError as error:
        raise Unavailable(f"{name}: timed out") from error
    except connections.TROUBLE as error:  # refused, reset, a bad certificate, no such name, no HTTP
        cause = connections.cause(error)
        raise Unavailable(f"{name}: {type(cause).__name__}: {cause}") from error
    if status in (408, 429) or status >= 500:
        raise Unavailable(f"{name} answered {status}", asked_to_wait_s(retry_after))
    if status >= 300:
        raise Rejected(f"{name} answered {status}")
    return status


_VISIBLE = re.compile("[!-~]*")


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
