"""What an operator chose of who may call, and the callers that come of it: the same in a front and in a server without
fronts."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from decoupled.core.api_keys import Keys
from decoupled.core.senders import Senders
from decoupled.server.callers.api_keys import ApiKeys
from decoupled.server.callers.callers import Callers, Proof
from decoupled.server.callers.signatures import Signatures
from decoupled.server.options import Options


class Asked(msgspec.Struct, frozen=True):
    """Plain, so that a front can be told of it."""

    auth: tuple[str, ...]  # kinds of proof
    operators: tuple[str, ...]  # names of callers
    jwt_issuer: str | None
    jwt_audience: tuple[str, ...]

    @staticmethod
    def by(options: Options) -> Asked:
        """What these options say of it."""
        return Asked(options.auth, options.operators, options.jwt_issuer, options.jwt_audience)


def callers(
    asked: Asked,
    read_keys: Callable[[], Keys | None],
    read_senders: Callable[[], Senders | None],
    clock_ms: Callable[[], int],
) -> Callers | None:
    """None where nobody is asked who it is. `read_keys` and `read_senders` as `Kept` has them."""
    operators = frozenset(asked.operators)
    proofs: list[Proof] = []
    if "keys" in asked.auth:
        proofs.append(ApiKeys(read_keys, clock_ms, operators))
    if "jwt" in asked.auth and asked.jwt_issuer is not None:
        from decoupled.server.callers.tokens import Tokens  # with PyJWT, OpenSSL and aiohttp: half a second of a start

        proofs.append(Tokens(asked.jwt_issuer, asked.jwt_audience, operators, clock_ms))
    if "signatures" in asked.auth:
        proofs.append(Signatures(read_senders, clock_ms))
    return Callers(proofs) if proofs else None
