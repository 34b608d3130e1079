"""Proof by JWT, the part that is pure: an issuer's key set (RFC 7517), and whether a token is signed by one of its keys
and says what it must (RFC 7519, RFC 8725). PyJWT checks signatures; claims are compared here, by the server's clock."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import jwt
import msgspec
from msgspec import Meta

from decoupled.core import limits

# By type of key and curve. Only asymmetric ones, each with keys of its type: what verifies must not be what signs.
_ALGORITHMS: Mapping[tuple[Any, Any], Sequence[str]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_JWS = jwt.PyJWS(sorted({name for names in _ALGORITHMS.values() for name in names}))
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

_Seconds = Annotated[float, Meta(ge=0, le=253_402_300_799)]  # since the epoch, of a year that has four digits


class TokenError(ValueError):
    """It proves nothing. Says why, without quotes: as a WWW-Authenticate header may repeat it."""


class UnknownKey(TokenError):  # noqa: N818  not wrong yet: the issuer may have such a key by now
    """No key of the set is called so."""

    def __init__(self, key_id: str) -> None:
        super().__init__("The issuer has no such key")
        self.key_id = key_id


# --- the keys -----------------------------------------------------------------


class TokenKeys:
    """Those of a key set that can check signatures, by id and algorithm."""

    def __init__(self, keys: Mapping[tuple[str, str], jwt.PyJWK], text: bytes = b"") -> None:
        self._keys = keys
        self.text = text  # that they were read from
        self.ids = frozenset(key_id for key_id, _ in keys)

    def find(self, key_id: str, algorithm: str) -> jwt.PyJWK:
        """Raises UnknownKey, or TokenError if the key is for something else."""
        key = self._keys.get((key_id, algorithm))
        if key is None:
            raise TokenError("The key is for another algorithm") if key_id in self.ids else UnknownKey(key_id)
        return key


class _KeySet(msgspec.Struct):
    keys: Annotated[list[dict[str, Any]], Meta(max_length=limits.MAX_TOKEN_KEYS)]


def read_keys(text: bytes) -> TokenKeys:
    """Those of a JWK Set; keys in it that are for other things or of other kinds are passed over, as RFC 7517 asks.
    Raises ValueError if it is none."""
    try:
        read = msgspec.json.decode(text, type=_KeySet).keys
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no JWK Set: {error}") from error
    found: dict[tuple[str, str], jwt.PyJWK] = {}
    for jwk in read:
        for name, key in _usable(jwk):
            found.setdefault(name, key)
    return TokenKeys(found, text)


def _usable(jwk: dict[str, Any]) -> Iterator[tuple[tuple[str, str], jwt.PyJWK]]:
    jwk = {name: value for name, value in jwk.items() if value is not None}  # as some write what they leave out
    key_id, names = jwk.get("kid"), _ALGORITHMS.get((_text(jwk.get("kty")), _text(jwk.get("crv"))), ())
    if not isinstance(key_id, str) or not 0 < len(key_id) <= limits.MAX_KEY_ID_CHARS or "d" in jwk:  # d: it is private
        return
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return
    for name in names:
        if jwk.get("alg", name) == name:
            try:
                key = jwt.PyJWK(jwk, name)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                return
            if name[:2] in ("RS", "PS") and not limits.MIN_RSA_BITS <= key.key.key_size <= limits.MAX_RSA_BITS:
                return
            yield (key_id, name), key


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# --- a token ------------------------------------------------------------------


class _Header(msgspec.Struct):
    alg: str
    kid: str


class _Claims(msgspec.Struct):
    iss: str
    sub: Annotated[str, Meta(min_length=1, max_length=limits.MAX_SUBJECT_CHARS)]
    exp: _Seconds
    aud: str | list[str] | None = None
    client_id: str | None = None
    nbf: _Seconds | None = None
    iat: _Seconds | None = None


def verify(token: str, keys: TokenKeys, issuer: str, audiences: Sequence[str], now_ms: int) -> tuple[str, int]:
    """Whom the token is about, and when it ends to count. Raises TokenError, or UnknownKey."""
    if len(token) > limits.MAX_TOKEN_CHARS:
        raise TokenError(f"The token has over {limits.MAX_TOKEN_CHARS} characters")
    if _COMPACT.fullmatch(token) is None:
        raise TokenError("This is no signed JWT")
    header = _header(token)
    key = keys.find(header.kid, header.alg)
    try:
        payload = _JWS.decode(token, key, algorithms=[header.alg])
    except jwt.PyJWTError as error:
        raise TokenError("The token's signature is wrong") from error
    return _checked(payload, issuer, audiences, now_ms)


def _header(token: str) -> _Header:
    part = token.partition(".")[0]
    try:
        header = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=_Header)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise TokenError("The token's header has no alg and kid") from error
    if header.alg not in _JWS.get_algorithms():
        raise TokenError("The token's alg is none that is taken")
    if len(header.kid) > limits.MAX_KEY_ID_CHARS:
        raise TokenError("The token's kid is too long")
    return header


def _checked(payload: bytes, issuer: str, audiences: Sequence[str], now_ms: int) -> tuple[str, int]:
    try:
        claims = msgspec.json.decode(payload, type=_Claims)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TokenError("The token's claims are no iss, sub, aud and exp, or one of them is none") from error
    now, leeway = now_ms / 1000, limits.CLOCK_LEEWAY_S
    meant_for = claims.client_id or [] if claims.aud is None else claims.aud  # as API Gateway has it
    if claims.iss != issuer:
        raise TokenError("The token is another issuer's")
    if not set(audiences).intersection([meant_for] if isinstance(meant_for, str) else meant_for):
        raise TokenError("The token is for another audience")
    if claims.exp + leeway <= now:
        raise TokenError("The token has expired")
    if max(claims.nbf or 0, claims.iat or 0) - leeway > now:
        raise TokenError("The token does not count yet")
    if not claims.sub.isprintable():
        raise TokenError("The token's sub is no text")
    return claims.sub, int((claims.exp + leeway) * 1000)
