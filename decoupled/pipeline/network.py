"""Which exceptions are network trouble, whatever client library met it: one table of names, so that no library has to
be installed or imported to be known. Pure. What follows for a message is said in `blame.py`.

An error that carries the backend's own answer (an HTTP status, an SMTP code, a gRPC status) is judged by that. Any
other is judged by its class or one above it; and what was raised `from` such an error, likewise."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

from decoupled.core.backoff import asked_to_wait_s

TROUBLE: Mapping[str, tuple[str, ...]] = {
    "Python": ("builtins.ConnectionError", "builtins.TimeoutError", "socket.gaierror", "socket.herror", "ssl.SSLError"),
    "http.client, urllib": ("http.client.HTTPException", "urllib.error.URLError", "urllib.error.ContentTooShortError"),
    "urllib3": ("urllib3.exceptions.HTTPError",),
    "requests": (
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "requests.exceptions.ChunkedEncodingError",
        "requests.exceptions.ContentDecodingError",
    ),
    "httpx, httpcore": (
        "httpx.TransportError",
        "httpcore.TimeoutException",
        "httpcore.NetworkError",
        "httpcore.ProtocolError",
        "httpcore.ProxyError",
    ),
    "aiohttp": ("aiohttp.client_exceptions.ClientConnectionError", "aiohttp.client_exceptions.ClientPayloadError"),
    "botocore, boto3": (
        "botocore.exceptions.HTTPClientError",
        "botocore.exceptions.ConnectionError",
        "botocore.exceptions.IncompleteReadError",
        "botocore.exceptions.ResponseStreamingError",
    ),
    "smtplib": ("smtplib.SMTPServerDisconnected", "smtplib.SMTPConnectError", "smtplib.SMTPHeloError"),
    "psycopg": ("psycopg.OperationalError", "psycopg2.OperationalError", "psycopg2.InterfaceError"),
    "asyncpg": (
        "asyncpg.exceptions.PostgresConnectionError",
        "asyncpg.exceptions._base.InternalClientError",
        "asyncpg.exceptions.InsufficientResourcesError",
        "asyncpg.exceptions.OperatorInterventionError",
    ),
    "PyMySQL, mysqlclient": (
        "pymysql.err.OperationalError",
        "MySQLdb.OperationalError",
        "MySQLdb._exceptions.OperationalError",
    ),
    "redis": ("redis.exceptions.ConnectionError", "redis.exceptions.TimeoutError"),
    "pymongo": ("pymongo.errors.ConnectionFailure",),
}
"""Library: classes whose instances, and those of classes below them, are network trouble."""

_ERRNOS = frozenset(
    {
        errno.EADDRNOTAVAIL,  # no port is left to connect from
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOTCONN,
    }
)
"""Of an OSError that has no class of its own."""

WAITS_HTTP = frozenset({408, 425, 429})
"""Statuses under 500 that ask to come again. All from 500 do; all others are the message's."""
_WAITS_GRPC = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"})
_WAITS_AWS = ("Throttl", "TooManyRequests", "RequestLimitExceeded", "ProvisionedThroughputExceeded", "SlowDown")

_CLASSES = {name: library for library, names in TROUBLE.items() for name in names}
_CLIENTS = frozenset(name.partition(".")[0] for name in _CLASSES if not name.startswith("builtins.")) | {
    "_socket",
    "_ssl",
    "select",
    "selectors",
    "h11",
    "h2",
    "aiohappyeyeballs",
    "anyio",
    "boto3",
    "grpc",
}
"""Packages whose code waits for the network. A lock or a queue, which some of them wait by, is looked through."""
_LOOKED_THROUGH = frozenset({"threading", "queue", "concurrent", "asyncio", "contextlib", "uvloop", "async_timeout"})
_ASYNC = frozenset({"asyncio.streams", "asyncio.base_events", "asyncio.selector_events", "decoupled.outbound.mail"})
"""What stands in these modules and can be awaited waits for the network."""
_DEPTH = 8  # of errors that stand behind one another, and of frames that are looked through


class Trouble(NamedTuple):
    """The network's or the backend's fault. `retry_after_s`: what the backend asked to wait, if it did."""

    retry_after_s: float | None = None


def trouble(error: BaseException) -> Trouble | None:
    """Whether an exception is network trouble; None if it is not, as far as can be known."""
    if not isinstance(error, Exception):
        return None  # SystemExit has a code, too
    try:
        return _trouble(error)
    except Exception:  # noqa: BLE001  its attributes are of any kind, and may raise when they are looked at
        return None


def _trouble(error: Exception) -> Trouble | None:
    for cause in _causes(error):
        if isinstance(cause, BaseExceptionGroup):
            return _of_all([trouble(each) for each in cause.exceptions])
        answered = _answer(cause)
        if answered is not None:
            return answered if isinstance(answered, Trouble) else None
        if _is_known(cause):
            return Trouble()
    return None


def _of_all(troubles: Sequence[Trouble | None]) -> Trouble | None:
    """Of a group of exceptions: trouble if all of them are."""
    wishes = [each.retry_after_s or 0.0 for each in troubles if each is not None]
    return Trouble(max(wishes) or None) if len(wishes) == len(troubles) else None


def waits(frames: Iterable[FrameType]) -> bool:
    """Whether what was interrupted waits for the network: by the client library that it is in. Its frames, the
    innermost first."""
    for frame in itertools.islice(frames, _DEPTH):
        name = str(frame.f_globals.get("__name__", ""))
        package = name.partition(".")[0]
        if name in _ASYNC:
            return True
        if package not in _LOOKED_THROUGH:
            return package in _CLIENTS
    return False


def stack(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame that runs, and those that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it was raised from, or says that it is the reason."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < _DEPTH:
        yield current
        seen.add(id(current))
        reason = getattr(current, "reason", None)  # urllib's, urllib3's
        current = current.__cause__ or (reason if isinstance(reason, BaseException) else None)


def _is_known(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        return True
    return not _CLASSES.keys().isdisjoint(_names(error))


def _names(error: BaseException) -> list[str]:
    """Of its class and those above it."""
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]


def _answer(error: BaseException) -> Trouble | bool | None:
    """By what the backend itself answered: trouble, or False if that is final. None: the error carries no answer."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore's
        about = _mapping(response, "ResponseMetadata")
        headers = _mapping(about, "HTTPHeaders")
        if str(_mapping(response, "Error").get("Code", "")).startswith(_WAITS_AWS):
            return Trouble(_wish_s(headers))
        return _by_status(about.get("HTTPStatusCode"), headers)
    if response is not None:  # requests', httpx's
        return _by_status(getattr(response, "status_code", None), getattr(response, "headers", None))
    if "grpc.RpcError" in _names(error) and hasattr(error, "code"):
        return Trouble() if error.code().name in _WAITS_GRPC else False
    if isinstance(smtp_code := getattr(error, "smtp_code", None), int):
        return Trouble() if smtp_code < 500 else False
    status = error.status if hasattr(error, "status") else getattr(error, "code", None)  # aiohttp's; urllib's
    return _by_status(status, getattr(error, "headers", None))


def _by_status(status: Any, headers: Any) -> Trouble | bool | None:
    if not isinstance(status, int) or not 100 <= status <= 599:
        return None
    if status not in WAITS_HTTP and status < 500:
        return False
    return Trouble(_wish_s(headers))


def _wish_s(headers: Any) -> float | None:
    """Of any library, or of one that is no HTTP library at all."""
    wish = headers.get("retry-after") if hasattr(headers, "get") else None
    return None if wish is None else asked_to_wait_s(str(wish))


def _mapping(of: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    """A part that should be a mapping, and is in botocore's."""
    part = of.get(name)
    return part if isinstance(part, Mapping) else {}
