"""Asks what became of every order that got a 202, and draws up the account: the second half of `decoupled spike`. Each
id is asked until its record is final, so that "lost" is found and not assumed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp

from decoupled.cli.load import Accepted, Plan, Sent, address, ask, order
from decoupled.core.status import ENDED

ENOUGH_QUEUED = 200  # unfinished answers in a row: messages are taken in turn, so the rest need not be asked yet
PAUSE_S = 0.5


@dataclass(slots=True)
class Account:
    """What became of what was accepted. Every id is in exactly one of `statuses`: processed, rejected, dead, queued, or
    lost (no record, or that of another order). `double` and `wrong` name orders, and what is the matter with them."""

    accepted: int
    statuses: Counter[str] = field(default_factory=Counter)
    double: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    end_to_end_ms: list[float] = field(default_factory=list)
    effects_counted: bool = False

    @property
    def exit_status(self) -> int:
        """0: all is well; 1: something was lost, done twice or done wrong; 3: nothing was, but not all is processed."""
        if self.lost or self.double or self.wrong or sum(self.statuses.values()) != self.accepted:
            return 1
        return 3 if self.statuses["queued"] or self.dead else 0


async def reconcile(
    plan: Plan,
    client: aiohttp.ClientSession,
    sent: Sent,
    within_s: float,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Account:
    """Ask for every record until all are final, or the time is up."""
    account = Account(len(sent.accepted))
    deadline = time.monotonic() + within_s
    pending: Sequence[Accepted] = sorted(sent.accepted, key=lambda accepted: accepted.sent_at)
    _check_ids(sent, account)
    while True:
        pending = await _ask_all(plan, client, pending, account, on_progress, last=time.monotonic() >= deadline)
        if not pending:
            return account
        await asyncio.sleep(PAUSE_S)


def _check_ids(sent: Sent, account: Account) -> None:
    owners: dict[str, int] = {}
    for accepted in sent.accepted:
        if accepted.id in owners:
            account.wrong.append(f"orders {owners[accepted.id]} and {accepted.number} have one id, {accepted.id}")
        owners[accepted.id] = accepted.number
    for number, other in sent.resent.items():
        account.double.append(f"order {number} got another id when it was sent again under its key: {other}")


async def _ask_all(
    plan: Plan,
    client: aiohttp.ClientSession,
    pending: Sequence[Accepted],
    account: Account,
    on_progress: Callable[[int], None],
    last: bool,
) -> list[Accepted]:
    """Ask once for what is not final, in the order in which it was sent; answers what still is not. The `last` time,
    whatever is not final is counted as it is."""
    left: list[Accepted] = []
    asked = iter(pending)
    unfinished_in_a_row = 0

    async def connection() -> None:
        nonlocal unfinished_in_a_row
        for accepted in asked:
            status, record, _ = await ask(plan, client, "GET", f"/orders/{accepted.id}")
            if status == 200 and record["status"] in ENDED:
                unfinished_in_a_row = 0
                _settle(plan, accepted, record, account)
                on_progress(sum(account.statuses.values()))
            elif last:
                _leave(accepted, status, account)
            else:
                left.append(accepted)
                unfinished_in_a_row += 1
                if unfinished_in_a_row >= ENOUGH_QUEUED:
                    return

    await asyncio.gather(*(connection() for _ in range(plan.connections)))
    left.extend(asked)
    return sorted(left, key=lambda accepted: accepted.sent_at)


def _leave(accepted: Accepted, status: int, account: Account) -> None:
    """The time is up, and there is no final record: the queue has it, unless there is no trace of it at all."""
    if status == 404:
        account.statuses["lost"] += 1
        account.lost.append(f"order {accepted.number}: there is no record {accepted.id}")
    else:
        account.statuses["queued"] += 1


def _settle(plan: Plan, accepted: Accepted, record: Mapping[str, Any], account: Account) -> None:
    """A final record: is it that of this order, and is it right?"""
    status = record["status"]
    if status == "processed":
        result, (_, total) = record["result"], order(plan.run, accepted.number)
        if result["customer"]["email"] != address(plan.run, accepted.number):
            account.statuses["lost"] += 1
            account.lost.append(f"order {accepted.number}: {accepted.id} is the record of another order")
            return
        if result["total"] != total:
            account.wrong.append(f"order {accepted.number}: {accepted.id} has the total {result['total']}, not {total}")
        account.end_to_end_ms.append(_ms(record["processed_at"]) - _ms(record["accepted_at"]))
    elif status == "dead":
        account.dead.append(accepted.id)
    account.statuses[status] += 1


def count_effects(plan: Plan, effects: Mapping[str, int], account: Account) -> None:
    """Hold the account against the effects themselves, counted in the store by customer address, whatever the ids: an
    order with two records was done twice."""
    account.effects_counted = True
    for number in range(plan.orders):
        count = effects.get(address(plan.run, number), 0)
        if count > 1:
            account.double.append(f"order {number} has {count} records")


def _ms(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000
