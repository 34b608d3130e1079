"""Proof by signature: which sender of webhooks has signed a request, raw body and all. How that is found out stands in
`core/senders.py`. Without I/O of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from decoupled.core.senders import Senders, Signers
from decoupled.core.signatures import SignatureError
from decoupled.server.callers.callers import Caller, refused
from decoupled.server.callers.kept import Kept
from decoupled.server.health import Trouble


class Signatures:
    """Implements Proof. None is known by heart: each request has its own."""

    kind = "signatures"
    noun = "signed webhook"
    asks = "a webhook that is signed as Standard Webhooks, Stripe or GitHub sign theirs"
    challenge = "Signature"

    def __init__(self, read: Callable[[], Senders | None], clock_ms: Callable[[], int]) -> None:
        """`read` as Kept has it."""
        self._clock_ms = clock_ms
        self._signers = Signers([])
        self._kept = Kept("secrets of webhooks", read, self._take)

    def _take(self, senders: Senders) -> None:
        self._signers = Signers(senders)

    def of(self, headers: Mapping[str, str], path: Sequence[str], body: bytes | bytearray) -> Caller | None:
        workload = path[0] if len(path) == 1 else ""  # nothing else takes webhooks
        try:
            sent = self._signers.sent(workload, headers, body, self._clock_ms())
        except SignatureError as error:
            self._kept.require()
            raise refused(str(error), self.challenge) from error
        if sent is None:
            return None
        return Caller(f"webhook:{sent.name}", False, frozenset([workload]), None, sent.event)

    async def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._kept.look_again(loop)

    def look(self) -> None:
        """See whether the senders have changed."""
        self._kept.look()

    def trouble(self) -> Trouble | None:
        return self._kept.trouble()
