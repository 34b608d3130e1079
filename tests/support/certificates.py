"""Certificates for servers of tests, as files: an authority of the test's own, and what it has signed."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import trustme

NAMES = ("shop.example", "localhost", "127.0.0.1")


@dataclass
class Files:
    """In a directory. `trusts` is a client's context that trusts the authority."""

    directory: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    @property
    def chain(self) -> Path:
        return self.directory / "tls.crt"

    @property
    def key(self) -> Path:
        return self.directory / "tls.key"

    @property
    def trusted(self) -> Path:
        """What clients trust, as a file."""
        path = self.directory / "ca.pem"
        self.authority.cert_pem.write_to_path(path)
        return path

    @property
    def options(self) -> tuple[str, ...]:
        """Of `serve`."""
        return ("--tls-cert", str(self.chain), "--tls-key", str(self.key))

    def trusts(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def issue(self, days: float | None = None) -> int:
        """Another certificate, in place of the one that is there; its serial number. It ends in so many days."""
        ends = None if days is None else datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        issued = self.authority.issue_cert(*NAMES, not_after=ends)
        self.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.key.chmod(0o600)
        return serial_of(issued.cert_chain_pems[0].bytes())


def serial_of(pem: bytes) -> int:
    """As OpenSSL reads it."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem).serial_number
