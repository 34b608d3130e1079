"""Who calls, and what they may do: each request is shown to the kinds of proof that the server takes, in turn. What
proves what stands beside this, a file each. Without I/O of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from decoupled.core import limits
from decoupled.core.problem import Problem
from decoupled.server.health import Trouble


class Caller(msgspec.Struct, frozen=True):
    """Who has proved to be it."""

    name: str  # as messages have it
    operator: bool  # sees what is others', too
    workloads: frozenset[str] | None  # that it may use; None: all
    until_ms: int | None  # the proof counts; None: for ever
    event: str = ""  # of who may only send, what it calls this webhook; of others, nothing

    def admit(self, path: Sequence[str]) -> None:
        """Raises Problem 403 if that is a workload's route that it may not use, be there such a workload or not."""
        if self.workloads is not None and path and path[0] not in self.workloads:
            raise Problem(403, f"This key may not use the workload {path[0][:64]!r}.")


class Proof(Protocol):
    """One kind of it."""

    kind: str  # as --auth has it
    noun: str  # as people say it
    asks: str  # what to send, for who has sent none
    challenge: str  # the scheme that a 401 names

    def of(self, headers: Mapping[str, str], path: Sequence[str], body: bytes | bytearray) -> Caller | None:
        """Who proves by this kind that the request is its own; None if the request has no such proof, right or wrong.
        Raises Problem: 401 if it is wrong, 503 while nothing can be proved. Must not wait."""
        ...

    async def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on see again and again what counts as proof. Returns once that is known, or that takes too long."""
        ...

    def trouble(self) -> Trouble | None:
        """Why that cannot be seen. It `refuses`, while nobody can prove anything by this kind."""
        ...


class Callers:
    """Knows them by what their requests bring. A request has one proof: the first kind that finds its own decides."""

    def __init__(self, proofs: Sequence[Proof]) -> None:
        self._proofs = proofs

    @property
    def kinds(self) -> Sequence[str]:
        """As --auth has them."""
        return [proof.kind for proof in self._proofs]

    def of(self, headers: Mapping[str, str], path: Sequence[str], body: bytes | bytearray) -> Caller:
        """The caller of this request; `path` in parts, of any number, `body` as it came. Raises Problem 401 or 503."""
        for proof in self._proofs:
            caller = proof.of(headers, path, body)
            if caller is not None:
                return caller
        challenge = self._proofs[0].challenge
        if "authorization" in headers:
            nouns = " and no ".join(proof.noun for proof in self._proofs)
            raise refused(f"This is no {nouns} of this server", challenge)
        raise refused(f"Send {'; or '.join(proof.asks for proof in self._proofs)}", challenge)

    async def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on see again and again what counts as proof. Returns once that is known, or that takes too long."""
        await asyncio.gather(*(proof.watch(loop) for proof in self._proofs))

    def trouble(self) -> Trouble | None:
        """What is wrong with the kinds of proof. Nobody can be let in only if that is so of each of them."""
        troubles = [trouble for proof in self._proofs if (trouble := proof.trouble()) is not None]
        if not troubles:
            return None
        none_left = len(troubles) == len(self._proofs) and all(trouble.refuses for trouble in troubles)
        return Trouble("; ".join(dict.fromkeys(trouble.detail for trouble in troubles)), refuses=none_left)


class Known:
    """Callers by what their requests say, so that it need not be proved again. Their number is bounded; whoever still
    calls when another one took the place, is known again at once."""

    def __init__(self) -> None:
        self._callers: dict[str, Caller] = {}  # the first that came first
        self._chars = 0
        self.get = self._callers.get

    def keep(self, given: str, caller: Caller) -> None:
        """That of something that was not there."""
        self._callers[given] = caller
        self._chars += len(given)
        while len(self._callers) > limits.MAX_KNOWN or self._chars > limits.MAX_KNOWN_CHARS:
            first = next(iter(self._callers))
            del self._callers[first]
            self._chars -= len(first)

    def clear(self) -> None:
        """Nobody is known."""
        self._callers.clear()
        self._chars = 0


def refused(why: str, challenge: str = "Bearer") -> Problem:
    """A 401 that says why, without its full stop."""
    return Problem(401, f"{why}.", headers={"www-authenticate": challenge})
