"""What an operator may choose for one machine: every option once, with its type, default, bounds and help. The flags of
`serve`, the environment variables and the keys of decoupled.toml come from here; where their values come from is
`configuration.py`'s affair. Limits that nobody should choose stand in `decoupled/core/limits.py`."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from decoupled.core import limits, replicas, retention


def _option(default: Any, text: str, least: float | None = None, most: float | None = None, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "least": least, "most": most, **more})


@dataclass(frozen=True, slots=True)
class Options:
    """Checked when made: raises ValueError naming what is wrong. Names end in their unit, which flags leave out."""

    workloads: tuple[str, ...] = _option(
        ("orders",), "Comma-separated: orders (one of ours), shop.orders, shop.orders:WORKLOAD or ./orders.py."
    )
    host: str = _option("127.0.0.1", "Address to listen on.")
    port: int = _option(8080, "Port to listen on.", 1, 65_535)
    auth: tuple[str, ...] = _option(
        ("none",),
        "Who may call: none asks nobody; or, comma-separated, who has an API key (keys: decoupled keys) or an issuer's"
        " token (jwt), and who signs webhooks (signatures: decoupled senders).",
        choices=("none", "keys", "jwt", "signatures"),
    )
    jwt_issuer: str | None = _option(None, "Who signs the tokens: an OpenID Connect issuer's https URL.", none="none")
    jwt_audience: tuple[str, ...] = _option((), "Comma-separated: whom tokens are for, one of these.", none="none")
    operators: tuple[str, ...] = _option(
        (), "Comma-separated callers that see what is others', too: key:NAME, jwt:ISSUER#SUBJECT.", none="none"
    )
    insecure: bool = _option(False, "Listen where others can reach it, and ask nobody who they are.")
    tls_cert: Path | None = _option(  # noqa: RUF009  as data
        None, "PEM file of a certificate, and of those that it was signed with: speak HTTPS.", none="plain HTTP"
    )
    tls_key: Path | None = _option(None, "PEM file of its key, for nobody else to read.", none="none")  # noqa: RUF009
    cors_origins: tuple[str, ...] = _option(
        (), "Comma-separated: https://shop.example, whose pages may call from browsers; or *, any.", none="none"
    )
    page: str = _option(
        "on", "Whether browsers get the page for people on call, at /; /metrics is there anyway.", choices=("on", "off")
    )
    data: Path = _option(Path(".data"), "Data directory.")  # noqa: RUF009  a path cannot change
    record_ttl: tuple[str, ...] = _option(
        (),
        "Comma-separated: how long records are kept after their end: 90d, orders=365d, orders.rejected=30d, *.dead=9d.",
        none="for ever",
    )
    body_ttl: tuple[str, ...] = _option(
        (), "Comma-separated: how long processed and rejected messages keep their bodies: 7d, orders=30d.", none="not"
    )
    concurrency: int = _option(2, "Worker processes that process messages.", 1, 64)
    fronts: int | None = _option(
        None,
        "Processes that take requests and check them; 0: the main process does it.",
        0,
        limits.MAX_FRONTS,
        none="by the number of cores",
    )
    rate: float | None = _option(
        None, "Messages processed a second, at most.", limits.MIN_RATE, limits.MAX_RATE, none="no ceiling"
    )
    caller_rate: float | None = _option(
        None, "Messages a second that one caller may send.", limits.MIN_RATE, limits.MAX_RATE, none="no limit"
    )
    caller_waiting: int | None = _option(
        None, "Messages of one caller that may wait at a time.", 1, limits.MAX_CALLER_WAITING, none="no limit"
    )
    function_timeout_s: float = _option(30.0, "Seconds that a batch of up to ten messages may take.", 0.1, 900)
    visibility_timeout_s: float = _option(  # six times the function timeout, as AWS advises
        180.0, "Seconds until a message that was not settled comes back.", 1, limits.MAX_VISIBILITY_TIMEOUT_S
    )
    max_attempts: int = _option(
        limits.MAX_ATTEMPTS, "Failures of a message before it is a dead letter.", least=1, most=1_000
    )
    max_receive_count: int = _option(
        limits.MAX_RECEIVE_COUNT, "Deliveries before it is one: for crashes.", least=1, most=1_000_000
    )
    worker_memory_mb: int = _option(
        512, "MB that a worker may have after a batch before it is replaced; 0: no limit.", 0, 1_000_000
    )
    worker_messages: int = _option(0, "Messages after which a worker is replaced; 0: no limit.", 0, 1_000_000_000)
    drain_s: float = _option(10.0, "Seconds to finish what is in flight when asked to stop.", 0, 900)
    log_level: str = _option("INFO", "What to log, and what is worse.", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    backup_dir: Path | None = _option(  # noqa: RUF009  as data
        None, "Directory of its own where the server keeps backups that it makes by itself.", none="none are made"
    )
    backup_every_s: float = _option(86_400.0, "Seconds between two of them.", 10, 366 * 86_400)
    backup_keep: int = _option(7, "How many of them are kept; of older ones, the oldest goes first.", 1, 10_000)
    replica: str | None = _option(
        None,
        "Where Litestream replicates the data to, which is watched: a directory, or s3://BUCKET/PATH.",
        none="none",
    )
    root: Path | None = None  # the user's project, whose modules are workloads: where decoupled.toml is; no option

    @property
    def front_processes(self) -> int:
        """How many there are: where it is not said, the writer and the workers have half of the cores; and a single
        core is served best by one process."""
        return min(_cores() // 2, limits.FRONTS_BY_CORES) if self.fronts is None else self.fronts

    @property
    def url(self) -> str:
        """Where a client on this machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        scheme = "http" if self.tls_cert is None else "https"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    @property
    def proofs(self) -> tuple[str, ...]:
        """The kinds of it that callers are asked for; none where anybody may call."""
        return () if self.auth == ("none",) else self.auth

    @property
    def _asks_for_tokens(self) -> bool:
        return "jwt" in self.auth and self.jwt_issuer is not None and bool(self.jwt_audience) and all(self.jwt_audience)

    def __post_init__(self) -> None:
        for option in OPTIONS:
            if wrong := option.refusal(getattr(self, option.field)):
                raise ValueError(f"{option.field} is {wrong}")
        for caller in self.operators:
            if not caller.startswith(("key:", "jwt:")):
                raise ValueError(f"operators has {caller!r}; a caller is key:NAME or jwt:ISSUER#SUBJECT")
        if (self.jwt_issuer is not None or self.jwt_audience or "jwt" in self.auth) and not self._asks_for_tokens:
            raise ValueError("tokens need all of auth jwt, jwt_issuer and jwt_audience")
        if self.jwt_issuer is not None and ("?" in self.jwt_issuer or not is_protected(self.jwt_issuer)):
            raise ValueError(
                f"jwt_issuer is {self.jwt_issuer!r}; it can be an https URL, or an http one of the loopback"
            )
        if "none" in self.auth and len(self.auth) > 1:
            raise ValueError(f"auth is {', '.join(self.auth)}: either nobody is asked, or callers prove who they are")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("of tls_cert and tls_key there is only one: a certificate needs its key")
        for origin in self.cors_origins:
            check_origin(origin)
        retention.parse(self.record_ttl, "record_ttl")
        retention.parse(self.body_ttl, "body_ttl")
        if self.replica is not None:
            replicas.check(self.replica, self.data, Path.cwd())
        if self.visibility_timeout_s < self.function_timeout_s:
            raise ValueError(
                f"the visibility timeout ({self.visibility_timeout_s:g} s) is shorter than the function timeout"
                f" ({self.function_timeout_s:g} s): messages would be handed out again while they are processed"
            )


def check_origin(origin: str) -> None:
    """Raises ValueError if that is none of which a browser would say that a page comes from there."""
    if origin == "*":
        return
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        raise ValueError(f"cors_origins has {origin!r}; it can be https://shop.example, with a port if need be, or *")
    if (found["scheme"], found["port"]) in (("https", "443"), ("http", "80")):
        raise ValueError(f"cors_origins has {origin!r}; browsers leave out the port {found['port']}")


_ORIGIN = re.compile(r"(?P<scheme>https?)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?")


def is_protected(url: str) -> bool:
    """Whether nobody on the way to it can change what it answers: https; or http, on this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or parts.fragment or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def _cores() -> int:
    """That this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Option:
    """One of them, for those that read it from somewhere. `type` is one of str, int, float, bool, Path, tuple."""

    field: str
    type: type
    default: Any
    help: str
    least: float | None = None
    most: float | None = None
    choices: Sequence[str] = ()
    none: str | None = None  # what having no value means, if it may have none

    @property
    def name(self) -> str:
        """As a key of decoupled.toml: function_timeout."""
        return self.field.removesuffix("_s").removesuffix("_mb")

    @property
    def flag(self) -> str:
        """As a flag: --function-timeout."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """As an environment variable: DECOUPLED_FUNCTION_TIMEOUT."""
        return f"DECOUPLED_{self.name.upper()}"

    def refusal(self, value: Any) -> str | None:
        """The value and what it should have been, if it cannot be."""
        values = value if self.type is tuple else (value,)
        if self.choices and not (values and set(self.choices).issuperset(values)):
            return f"{', '.join(map(str, values))!r}; it can be {', '.join(self.choices)}"
        if self.least is None or self.most is None or value is None or self.least <= value <= self.most:
            return None
        return f"{value}; it can be {self.least:,} to {self.most:,}"


_TYPES = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "int | None": int,
    "float | None": float,
    "str | None": str,
    "Path": Path,
    "Path | None": Path,
    "tuple[str, ...]": tuple,
}

OPTIONS = tuple(
    Option(field.name, _TYPES[str(field.type)], field.default, **field.metadata)
    for field in dataclasses.fields(Options)
    if field.metadata
)
