"""An OpenID Connect issuer of a test's own: its keys and its tokens, signed by joserfc, and where it answers, which can
go away and come back."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

Key = RSAKey | ECKey | OKPKey

URL = "https://issuer.example"
_MADE: dict[str, Callable[[str], Key]] = {
    "RSA": lambda name: RSAKey.generate_key(2048, {"kid": name}),
    "P-256": lambda name: ECKey.generate_key("P-256", {"kid": name}),
    "P-384": lambda name: ECKey.generate_key("P-384", {"kid": name}),
    "P-521": lambda name: ECKey.generate_key("P-521", {"kid": name}),
    "Ed25519": lambda name: OKPKey.generate_key("Ed25519", {"kid": name}),
}


class Keyset:
    """Keys by their ids, and tokens that they sign."""

    def __init__(self, **kinds: str) -> None:
        self.url = URL
        self.keys: dict[str, Key] = {}
        for name, kind in kinds.items():
            self.add(name, kind)

    def add(self, name: str, kind: str = "RSA") -> None:
        """One more."""
        self.keys[name] = _MADE[kind](name)

    def text(self, **more: Any) -> bytes:
        """The JWK Set; `more` is in each key."""
        return json.dumps({"keys": [{**key.as_dict(private=False), **more} for key in self.keys.values()]}).encode()

    def claims(self, now_s: float | None = None, **claims: Any) -> dict[str, Any]:
        """Of a good token. What is None is left out."""
        now = int(time.time() if now_s is None else now_s)
        good = {"iss": self.url, "aud": "shop", "sub": "ana", "iat": now, "nbf": now, "exp": now + 600}
        return {name: value for name, value in {**good, **claims}.items() if value is not None}

    def token(
        self,
        key: str | Key = "one",
        alg: str = "RS256",
        header: Mapping[str, Any] | None = None,
        now_s: float | None = None,
        **claims: Any,
    ) -> str:
        """A good one, but for what is said."""
        signs = self.keys[key] if isinstance(key, str) else key
        fields = {"alg": alg, "kid": signs.kid, **(header or {})}
        made: str = jwt.encode(fields, self.claims(now_s, **claims), signs, algorithms=[alg])
        return made

    def pem(self, name: str, private: bool = False) -> bytes:
        """One of them, as PEM."""
        return self.keys[name].as_pem(private=private)


class Issuer(Keyset):
    """Where it answers. `says`: other answers than its own, by path: a status and a body."""

    def __init__(self, url: str, **kinds: str) -> None:
        super().__init__(**kinds)
        self.url = url
        self.says: dict[str, tuple[int, bytes]] = {}
        self.asked: list[str] = []
        self.gone = False

    def answer(self, path: str) -> tuple[int, bytes]:
        """To GET."""
        self.asked.append(path)
        if path in self.says:
            return self.says[path]
        match path:
            case "/.well-known/openid-configuration":
                return 200, json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys", "x": [1]}).encode()
            case "/keys":
                return 200, self.text()
        return 404, b"{}"


@contextmanager
def answering(authority: trustme.CA | None = None, **kinds: str) -> Iterator[Issuer]:
    """An issuer on the loopback; with `authority`, over TLS."""
    issuer = Issuer("", **kinds)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if issuer.gone:
                self.close_connection = True
                return
            status, body = issuer.answer(self.path)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if authority is not None:
        server.socket = _tls(authority).wrap_socket(server.socket, server_side=True)
    issuer.url = f"{'http' if authority is None else 'https'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _tls(authority: trustme.CA) -> Any:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def trusting(authority: trustme.CA, directory: Path) -> dict[str, str]:
    """The environment of a program that trusts it."""
    file = directory / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    return {"SSL_CERT_FILE": str(file)}
