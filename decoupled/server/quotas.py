"""What one caller may take of a server: messages a second, and messages that wait. It stands between the fronts and the
writer, in the writer's process, so that each message counts once however many fronts there are. What waits is the
store's to count; clock and keys are passed in.

    a request's messages ─▶ its caller's rate ─▶ its share of what waits ─▶ the writer
                                 │ no token             │ too many
                                 └▶ 429, until one is   └▶ 429, until some are processed
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from decoupled.core import limits
from decoupled.core.api_keys import Keys, KeysError, rates
from decoupled.core.outcomes import NotSent, Quota, Together, of_each
from decoupled.core.workload import Message
from decoupled.engines.protocols import StoreUnavailable
from decoupled.server.door import Sender, Sent
from decoupled.server.limited import Limited

log = logging.getLogger("decoupled.callers")

ALMOST_ONE = 1.0 - 1e-6  # what a second's worth adds up to, in floating point


@dataclass(slots=True)
class _Account:
    """Of one caller. `tokens` is below nothing after a batch that was larger than what was left."""

    tokens: float
    since: float  # when they were that many
    waiting: int = 0  # messages on the queue, at most: as they were counted, and all that came since
    counted_at: float = 0.0
    pending: int = 0  # messages with the writer, which may be on the queue or not

    def fill(self, rate: float, now: float) -> None:
        burst = _burst(rate)
        if self.tokens < burst:
            self.tokens = min(burst, self.tokens + (now - self.since) * rate)
        self.tokens = min(burst, self.tokens)
        self.since = now


class Quotas:
    """Implements Sender, in front of the writer's.

    The messages of a caller that wait are never more than `waiting + pending`: that is counted anew where it would
    exceed the limit, and only then. Until the next count, what was processed meanwhile counts, too."""

    def __init__(
        self,
        writer: Sender,
        rate: float | None,
        waiting: int | None,
        count: Callable[[str, int], int],
        read: Callable[[], Keys | None],
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
    ) -> None:
        """`rate` and `waiting` are of every caller: messages a second, messages. `count` says how many messages of a
        caller wait, as far as that number; raises StoreUnavailable. `read` gives the API keys when they have changed,
        else None; raises KeysError. `clock` is steady, in seconds."""
        self.limited = Limited(clock)
        self._writer = writer
        self._rate = rate
        self._most = waiting
        self._store_count = count
        self._read = read
        self._loop = loop
        self._clock = clock
        self._rates: dict[str, float] = {}  # of callers who have their own
        self._accounts: dict[str, _Account] | None = None  # those that sent last at the end; None: nobody has a limit
        self._count_again_at = 0.0
        self._uncounted = False  # the store could not, when it was last asked
        self.look()

    # --- a request ------------------------------------------------------------

    def send(self, messages: Sequence[Message], sent: Sent) -> None:
        """Hand over the messages of one request, all or none."""
        if self._accounts is None:
            self._writer.send(messages, sent)
            return
        caller, number, now = messages[0].caller, len(messages), self._clock()
        account = self._accounts.pop(caller, None)  # to the end
        if account is None:
            account = self._open(self._accounts, caller, now)
        self._accounts[caller] = account
        rate = self._rates.get(caller, self._rate)
        refusal = None if rate is None else self._over_rate(account, rate, now)
        if refusal is None and self._most is not None:
            refusal = self._over_share(account, caller, number, self._most, now)
        if refusal is not None:
            self.limited.note(caller, refusal.detail, number)
            self._loop.call_soon(_tell, sent, refusal)
            return
        if rate is not None:
            account.tokens -= number
        self._writer.send(messages, sent if self._most is None else _counted(account, number, sent))

    def _over_rate(self, account: _Account, rate: float, now: float) -> NotSent | None:
        account.fill(rate, now)
        if account.tokens >= ALMOST_ONE:
            return None
        wait_s = max(1, ceil((1.0 - account.tokens) / rate))
        detail = f"no more than {rate:g} messages a second are taken of this caller"
        return NotSent(detail, retry_after_s=wait_s, quota=self._quota(rate, f'"caller";r=0;t={wait_s}'))

    def _over_share(self, account: _Account, caller: str, number: int, most: int, now: float) -> NotSent | None:
        if account.waiting + account.pending + number <= most:
            return None
        detail = f"no more than {most:,} messages of this caller may wait"
        if number > most:
            return NotSent(f"{detail}; these are {number:,}", transient=False)
        if now >= max(account.counted_at + limits.CALLER_COUNT_S, self._count_again_at):
            self._count(account, caller, most)
        if (left := most - account.waiting - account.pending) >= number:
            return None
        wait_s = limits.CALLER_WAITING_RETRY_S
        quota = self._quota(self._rates.get(caller, self._rate), f'"waiting";r={max(0, left)};t={wait_s}')
        return NotSent(detail, retry_after_s=wait_s, quota=quota)

    def _quota(self, rate: float | None, left: str) -> Quota:
        policies = []
        if rate is not None:
            messages = Fraction(rate).limit_denominator(round(1 / limits.MIN_RATE))
            policies.append(f'"caller";q={messages.numerator};w={messages.denominator}')
        if self._most is not None:
            policies.append(f'"waiting";q={self._most}')
        return Quota(", ".join(policies), left)

    # --- accounts -------------------------------------------------------------

    def _open(self, accounts: dict[str, _Account], caller: str, now: float) -> _Account:
        """As if it had sent nothing for a while, and with what waits of it all the same."""
        while len(accounts) >= limits.MAX_CALLERS_KNOWN and self._forget_one(accounts, now):
            pass
        rate = self._rates.get(caller, self._rate)
        account = _Account(_burst(rate or 0.0), now)
        if self._most is not None:
            self._count(account, caller, self._most)
        return account

    def _forget_one(self, accounts: dict[str, _Account], now: float) -> bool:
        """One who has not sent for long, and one who may send all it likes if there is such a one; never one of whose
        messages it is not known whether they wait."""
        found = None
        for _, (caller, account) in zip(range(LOOKED_AT), accounts.items(), strict=False):
            if account.pending:
                continue
            found = found or caller
            rate = self._rates.get(caller, self._rate)
            if rate is None or account.tokens + (now - account.since) * rate >= _burst(rate):
                found = caller
                break
        if found is None:
            return False
        del accounts[found]
        return True

    def _count(self, account: _Account, caller: str, most: int) -> None:
        """To count takes the writer's time: a part of it and no more."""
        before = self._clock()
        try:
            account.waiting = self._store_count(caller, most)
            self._uncounted = False
        except StoreUnavailable as error:  # then as much is taken to wait as before, and the store says what it takes
            if not self._uncounted:
                log.warning("what waits of a caller cannot be counted", extra={"caller": caller, "error": str(error)})
            self._uncounted = True
        account.counted_at = now = self._clock()
        self._count_again_at = now + (now - before) * limits.CALLER_COUNT_PART

    def emitting(self, messages: Iterable[Message]) -> None:
        """These are about to be on the queue, too, because of what was processed: they count, and are not refused. What
        goes to a Callback-Url need not be told of: it takes the place of its message."""
        accounts = self._accounts
        if accounts is not None and self._most is not None:
            for message in messages:
                if (account := accounts.get(message.caller)) is not None:
                    account.waiting += 1

    def limit(self, rate: float | None, waiting: int | None) -> None:
        """Of every caller, from now on: what each has waiting, or may send at once, stays."""
        self._rate, self._most = rate, waiting
        self.look()

    # --- the keys -------------------------------------------------------------

    def look(self) -> None:
        """See whether the rates of keys have changed. While they cannot be read those of before count, and the fronts,
        who read the same file, say so in health."""
        try:
            keys = self._read()
        except KeysError:
            keys = None
        if keys is not None:
            self._rates = rates(keys)
        anybody = bool(self._rates) or self._rate is not None or self._most is not None
        if not anybody:
            self._accounts = None
        elif self._accounts is None:
            self._accounts = {}

    def look_again(self) -> None:
        """From now on again and again."""
        self.look()
        self._loop.call_later(limits.API_KEYS_LOOK_S, self.look_again)

    def told(self) -> dict[str, Any]:
        """For health: who was refused lately."""
        return self.limited.told()


LOOKED_AT = 10  # callers, for one to forget


def _burst(rate: float) -> float:
    """Messages that may come at once: one at least, however low the rate."""
    return max(1.0, rate * limits.CALLER_BURST_S)


def _counted(account: _Account, number: int, sent: Sent) -> Sent:
    """Whoever is told keeps count of what the writer has."""
    account.pending += number

    def told(outcome: Together) -> None:
        account.pending -= number
        may_wait = [one is None or one.unknown for one in of_each(outcome, number)]
        account.waiting += sum(may_wait)
        sent(outcome)

    return told


def _tell(sent: Sent, refusal: NotSent) -> None:
    try:
        sent(refusal)
    except Exception:  # one client's trouble must not keep the answer from the others
        log.exception("an answer could not be given")
