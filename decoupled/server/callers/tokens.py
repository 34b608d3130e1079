"""Proof by JWT: who signed in where the operator says. The caller is the one that API Gateway's JWT authorizer makes of
the same token. Without I/O of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from decoupled.core.problem import Problem
from decoupled.pipeline.call import jwt_caller
from decoupled.server.callers.callers import Caller, Known, refused
from decoupled.server.callers.issuer import Fetch, Issuer, discover
from decoupled.server.callers.token_keys import TokenError, UnknownKey, verify
from decoupled.server.health import Trouble

_SCHEME = "bearer "


class Tokens:
    """Implements Proof."""

    kind = "jwt"
    noun = "token"
    asks = "your token: as Authorization: Bearer"
    challenge = "Bearer"

    def __init__(
        self,
        issuer: str,
        audiences: Sequence[str],
        operators: Collection[str],
        clock_ms: Callable[[], int],
        fetch: Fetch | None = None,
    ) -> None:
        """`fetch`: where the issuer's keys come from, if not over the network."""
        self._audiences = audiences
        self._operators = operators
        self._clock_ms = clock_ms
        self._known = Known()
        self._issuer = Issuer(issuer, fetch or partial(discover, issuer), self._known.clear)

    def of(self, headers: Mapping[str, str], path: Sequence[str], body: bytes | bytearray) -> Caller | None:  # noqa: ARG002
        given = headers.get("authorization")
        if given is None:
            return None
        caller = self._known.get(given)
        if caller is None:
            if given[: len(_SCHEME)].lower() != _SCHEME:
                return None
            caller = self._prove(given)
        if caller.until_ms is not None and self._clock_ms() >= caller.until_ms:
            raise _invalid("The token has expired")
        return caller

    def _prove(self, given: str) -> Caller:
        issuer = self._issuer
        if issuer.keys is None:
            detail = "The keys of those who sign tokens are not known yet, so that nobody can be let in."
            raise Problem(503, detail, resend="safe", retry_after_s=issuer.again_s())
        try:
            token = given[len(_SCHEME) :].strip(" ")
            subject, until_ms = verify(token, issuer.keys, issuer.url, self._audiences, self._clock_ms())
        except UnknownKey as error:
            if issuer.is_absent(error.key_id):
                raise _invalid(str(error)) from error
            detail = "The token is signed with a key that is not known yet: its issuer is asked for it."
            raise Problem(503, detail, resend="safe", retry_after_s=issuer.again_s()) from error
        except TokenError as error:
            raise _invalid(str(error)) from error
        name = jwt_caller({"iss": issuer.url, "sub": subject})
        caller = Caller(name, name in self._operators, None, until_ms)
        self._known.keep(given, caller)
        return caller

    async def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        await self._issuer.watch(loop)

    def trouble(self) -> Trouble | None:
        return self._issuer.trouble()


def _invalid(why: str) -> Problem:
    """As RFC 6750 has it."""
    return refused(why, f'Bearer error="invalid_token", error_description="{why}"')
