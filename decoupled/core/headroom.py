"""What an account lets a stack have, and which of the stack's parameters ask for more. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from decoupled.core import own_queues

MOST_CHOSEN = 10  # processors at once of a queue, where the account has room: enough for most, gentle to a backend
LEAST = 2  # AWS: of an event source mapping's MaximumConcurrency
INVOKES_OF_A_POLLER = 10  # AWS: processors at once that a provisioned poller keeps busy
UNRESERVED = 100  # AWS: executions that an account keeps for functions that reserve none


@dataclass(frozen=True, slots=True)
class Account:
    """What an account has in a Region; None where it could not be asked."""

    executions: int | None = None  # Lambda's, at once
    unreserved: int | None = None  # of these, what no function has reserved
    requests: float | None = None  # API Gateway's, a second
    burst: float | None = None
    table_writes: int | None = None  # DynamoDB's, units a second of a table
    table_reads: int | None = None


def processors(values: Mapping[str, str]) -> int:
    """How many processors all mappings of a stack with these parameters may run at once."""
    own = [one for one in values["OwnQueues"].split(",") if one != own_queues.NONE]
    each = int(values["MaximumConcurrency"])
    if int(values["MinimumPollers"]):
        each = int(values["MaximumPollers"]) * INVOKES_OF_A_POLLER
    shared = int(values["SharedConcurrency"]) if own else each
    ordered = int(values["OrderedConcurrency"]) if values["OrderedWorkloads"] else 0
    return len(own) * each + shared + ordered


def chosen(values: Mapping[str, str], unreserved: int) -> int:
    """The concurrency of a new stack's queues that leaves half of the account's pool to the front, and to others."""
    own = [one for one in values["OwnQueues"].split(",") if one != own_queues.NONE]
    queues = max(len(own), 1) + bool(values["OrderedWorkloads"])
    left = unreserved // 2 - (int(values["SharedConcurrency"]) if own else 0)
    return max(LEAST, min(MOST_CHOSEN, left // queues))


def exceeded(values: Mapping[str, str], account: Account, mine: int = 0) -> Iterator[str]:
    """Which parameters ask for more than there is, what comes of it, and what to do. `mine`: executions that the stack
    has reserved already."""
    yield from _of_executions(values, account, mine)
    limits: tuple[tuple[str, float | None, str], ...] = (
        ("ThrottleRate", account.requests, f"API Gateway's requests a second: {_raise('apigateway', 'L-8A5B8E43')}"),
        ("ThrottleBurst", account.burst, "API Gateway's burst, which follows the requests a second: ask for those"),
        ("TableMaxWrites", account.table_writes, f"DynamoDB's writes of a table: {_raise('dynamodb', '')}"),
        ("TableMaxReads", account.table_reads, f"DynamoDB's reads of a table: {_raise('dynamodb', '')}"),
    )
    for name, quota, of_what in limits:
        if quota is not None and float(values[name]) > quota:
            yield f"{name}={values[name]} is more than the account has, {quota:g} of {of_what}"


def _of_executions(values: Mapping[str, str], account: Account, mine: int) -> Iterator[str]:
    if account.executions is None or account.unreserved is None:
        return
    pool, busy, front = account.unreserved + mine, processors(values), int(values["ReceiverReserved"])
    more = _raise("lambda", "L-B99A9384")
    reserved = front + (busy if values["ReserveConcurrency"] == "yes" else 0)
    if reserved and pool - reserved < min(UNRESERVED, account.executions):
        yield (
            f"ReserveConcurrency and ReceiverReserved ask for {reserved} of {pool} executions, and Lambda refuses to"
            f" leave fewer than {min(UNRESERVED, account.executions)} unreserved: reserve less, or {more}"
        )
    elif not reserved and busy > pool // 2:
        yield (
            f"the processors of all queues may take {busy} of the {pool} executions that the account has at once, which"
            f" leaves {max(pool - busy, 0)} to the front: lower MaximumConcurrency, or {more}"
        )


def _raise(service: str, code: str) -> str:
    if not code:
        return f"ask for more in Service Account, {service}"
    asking = f"aws service-quotas request-service-quota-increase --service-code {service} --quota-code {code}"
    return f"ask for more ({asking} --desired-value N)"
