"""The certificate that a server shows to its clients, and its key: read and checked by the process that was told of
them, and handed to the fronts as they were then. So no front serves, or fails for, what nobody has checked, whatever
becomes of the files; they are read again at SIGHUP.

    start ──▶ fit ──▶ served                                 SIGHUP ──▶ fit ──▶ served from now on
        └──▶ not: no start                                        └──▶ not: those of before, and `trouble`
"""

from __future__ import annotations

import io
import logging
import os
import ssl
import stat
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec

from decoupled.core import limits
from decoupled.core.times import rfc3339
from decoupled.server.health import Trouble
from decoupled.server.options import Options

log = logging.getLogger("decoupled.certificate")

OTHERS = stat.S_IWGRP | stat.S_IRWXO  # what the mode of a key must have nothing of: a group may read it


class Certificate(msgspec.Struct, frozen=True):
    """As PEM: the chain, the server's own first, and the key."""

    chain: bytes
    key: bytes

    @classmethod
    def read(cls, chain: Path, key: Path) -> Certificate:
        """Raises ValueError that says what is wrong with which file."""
        read = cls(_content(chain), _content(key, private=True))
        for path, content in ((chain, read.chain), (key, read.key)):
            what, kinds = ("key", _KEY) if path is key else ("certificate", _CERTIFICATE)
            if not any(kind in content for kind in kinds):
                raise ValueError(f"{path} has no {what} in PEM")
        if b"ENCRYPTED" in read.key:
            raise ValueError(f"{key} is encrypted, and there is nobody to ask for its password")
        try:
            read.context()
        except ssl.SSLError as error:
            raise ValueError(f"{key} and {chain} cannot be used: {_why(error)}") from error
        return read

    @classmethod
    def handed(cls, descriptor: int) -> Certificate:
        """That a file of `hand` has, whose descriptor is closed. Others may read it at the same time."""
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        os.close(descriptor)
        return msgspec.msgpack.decode(content, type=cls)

    def hand(self) -> IO[bytes]:
        """A file for processes beside this one."""
        file = _memory()
        file.write(msgspec.msgpack.encode(self))
        file.flush()
        return file

    def context(self) -> ssl.SSLContext:
        """To serve with. Raises ssl.SSLError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        with _memory() as chain, _memory() as key:  # OpenSSL wants files
            for file, content in ((chain, self.chain), (key, self.key)):
                file.write(content)
                file.flush()
            # With a password, though it be none, nobody is asked for one at the terminal.
            context.load_cert_chain(_name(chain), _name(key), password=b"")
        return context

    def ends_ms(self) -> int:
        """When it does, in milliseconds since 1970."""
        text = self.chain.decode("ascii", "replace")
        begin = text.index("-----BEGIN CERTIFICATE-----")
        end = text.index(_END, begin) + len(_END)
        return not_after_ms(ssl.PEM_cert_to_DER_cert(text[begin:end]))


_END = "-----END CERTIFICATE-----"
_CERTIFICATE = (b"-----BEGIN CERTIFICATE-----",)
_KEY = (b"PRIVATE KEY-----",)


class Served:
    """The one that is served."""

    def __init__(self, chain: Path, key: Path, clock_ms: Callable[[], int]) -> None:
        """Raises ValueError."""
        self._paths = chain, key
        self._clock_ms = clock_ms
        self._why: str | None = None  # that of the files is not served
        self._take(Certificate.read(chain, key))

    def _take(self, certificate: Certificate) -> None:
        self.now = certificate
        self.file = certificate.hand()
        self._ends_ms = certificate.ends_ms()
        if (trouble := self._ending()) is not None:
            log.warning(trouble)

    def renew(self) -> None:
        """Read the files again."""
        try:
            self._take(Certificate.read(*self._paths))
        except ValueError as error:
            self._why = str(error)
        else:
            self._why = None
            log.info("the certificate is read again", extra={"ends": rfc3339(self._ends_ms)})
            return
        log.error("the certificate is not renewed; that of before is served", extra={"error": self._why})

    def trouble(self) -> Trouble | None:
        """It is not the one of the files, or not for long."""
        whys = (
            [] if self._why is None else [f"the certificate is not renewed, and that of before is served: {self._why}"]
        )
        whys += [] if (ending := self._ending()) is None else [ending]
        return Trouble("; ".join(whys)) if whys else None

    def _ending(self) -> str | None:
        left_s = (self._ends_ms - self._clock_ms()) / 1000
        if left_s > limits.CERTIFICATE_WARN_S:
            return None
        return f"the certificate {'ends' if left_s > 0 else 'has ended'} at {rfc3339(self._ends_ms)}: renew it"


def served(options: Options, clock_ms: Callable[[], int]) -> Served | None:
    """That of the options, if they have one. Raises ValueError."""
    if options.tls_cert is None or options.tls_key is None:
        return None
    return Served(options.tls_cert, options.tls_key, clock_ms)


def _content(path: Path, private: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(limits.MAX_CERTIFICATE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if private and mode & OTHERS:
        raise ValueError(
            f"{path} is a key that others may read or change ({stat.filemode(mode)}): chmod 600 it, or 640 for a group"
        )
    if len(content) > limits.MAX_CERTIFICATE_BYTES:
        raise ValueError(f"{path} is over {limits.MAX_CERTIFICATE_BYTES} bytes: that is no certificate, and no key")
    return content


def _why(error: ssl.SSLError) -> str:
    if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return "the key is not that of the certificate"
    return "one of them is damaged" if error.reason is None else error.reason.replace("_", " ").lower()


def not_after_ms(certificate: bytes) -> int:
    """When a certificate in DER ends (RFC 5280, 4.1): the second time of its validity, after version, serial number,
    algorithm and issuer. Raises ValueError if it is none."""
    try:
        inside = io.BytesIO(_value(io.BytesIO(_value(io.BytesIO(certificate))[1]))[1])
        tag, _ = _value(inside)
        for _ in range(3 if tag == _VERSION else 2):
            _value(inside)
        validity = io.BytesIO(_value(inside)[1])
        _value(validity)
        tag, text = _value(validity)
        year = "%y" if tag == _UTC_TIME else "%Y"
        ends = datetime.strptime(text.decode("ascii"), f"{year}%m%d%H%M%SZ").replace(tzinfo=UTC)
    except (OverflowError, ValueError) as error:
        raise ValueError("it is no X.509 certificate") from error
    return int(ends.timestamp() * 1000)


_VERSION, _UTC_TIME = 0xA0, 0x17


def _value(der: io.BytesIO) -> tuple[int, bytes]:
    """The next tag and what is under it."""
    tag, length = der.read(2)
    if length & 0x80:
        length = int.from_bytes(der.read(length & 0x7F))
    return tag, der.read(length)


def _memory() -> IO[bytes]:
    """A file of no disk, where that can be had; else one that only this user can open, and that goes when it is
    closed."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("certificate"), "r+b")
    return tempfile.NamedTemporaryFile()


def _name(file: IO[bytes]) -> str:
    return f"/proc/self/fd/{file.fileno()}" if isinstance(file.name, int) else file.name
