"""The queues of a stack together: which one a message is sent to, and which one it came from. What is done with one
stands in `messages.py`.

    workload is ordered ──▶ the FIFO queue
    has a queue of its own ──▶ that, so that nobody else's backlog is in its way
    else ──▶ the one that they share; what an older version sent comes from there, too"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from decoupled.core import own_queues
from decoupled.core.outcomes import Delivery, NotSent, Record
from decoupled.core.workload import Message, Workloads
from decoupled.engines.aws.client import client
from decoupled.engines.aws.messages import SqsQueue
from decoupled.engines.aws.schedules import Schedules
from decoupled.engines.aws.sqs_format import SqsDelivery

T = TypeVar("T")


class SqsQueues:
    """Implements Producer and Consumer on several queues. `own`, by the keys of their workloads: see
    `core/own_queues.py`. `fifo`: that of the workloads that are `ordered`. `another` makes one of the same stack that
    a later release knows, and this one does not: messages come from there after a rollback."""

    def __init__(
        self,
        shared: SqsQueue,
        own: Mapping[str, SqsQueue] | None = None,
        fifo: SqsQueue | None = None,
        ordered: Collection[str] = (),
        another: Callable[[str], SqsQueue | None] = lambda _name: None,
    ) -> None:
        self._another = another
        self._shared = shared
        self._own = own or {}
        self._fifo = fifo
        self._ordered = ordered
        self._by_name = {queue.name: queue for queue in (shared, *self._own.values(), *filter(None, [fifo]))}

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        """To each queue what is its own, in turn."""
        outcomes: dict[int, NotSent | None] = {}
        for queue, indexes in _by_queue(range(len(messages)), lambda index: self._queue(messages[index])):
            outcomes |= zip(indexes, queue.send([messages[index] for index in indexes]), strict=True)
        return [outcomes[index] for index in range(len(messages))]

    def send_again(self, message: Message, occasion: str) -> NotSent | None:
        """As an SqsQueue does."""
        return self._queue(message).send_again(message, occasion)

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        """As an SqsQueue does. On the FIFO queue a message that waits keeps those behind it waiting."""
        for queue, theirs in _by_queue(delays, lambda each: self._source(each[0])):
            queue.retry_later(theirs)

    def defer(self, due: Sequence[tuple[Delivery, int]], now_ms: int) -> list[Delivery]:
        """As an SqsQueue does, each its own."""
        given_back: list[Delivery] = []
        for queue, theirs in _by_queue(due, lambda each: self._source(each[0])):
            given_back += queue.defer(theirs, now_ms)
        return given_back

    def send_dead_letter(self, message: Message, dead: Record) -> None:
        """All to the standard dead-letter queue: what is dead has no order, and a look at a FIFO queue sees no more
        than ten messages of a group."""
        self._shared.send_dead_letter(message, dead)

    def _queue(self, message: Message) -> SqsQueue:
        if self._fifo is not None and message.workload in self._ordered:
            return self._fifo
        return self._own.get(own_queues.key(message.workload), self._shared)

    def _source(self, delivery: Delivery) -> SqsQueue:
        """The queue whose receipt it has: not that of its workload, where an older version sent it elsewhere."""
        name = delivery.queue if isinstance(delivery, SqsDelivery) else ""
        if name and name not in self._by_name and (another := self._another(name)) is not None:
            self._by_name[name] = another
        return self._by_name.get(name) or self._queue(delivery.message)


def _by_queue(some: Iterable[T], queue_of: Callable[[T], SqsQueue]) -> Iterable[tuple[SqsQueue, list[T]]]:
    """Those of each queue, in the order in which they came."""
    found: dict[SqsQueue, list[T]] = {}
    for one in some:
        found.setdefault(queue_of(one), []).append(one)
    return found.items()


def queues_of(environ: Mapping[str, str], workloads: Workloads) -> SqsQueue | SqsQueues:
    """The queues that a function's environment names: QUEUE_URL, DEAD_LETTER_QUEUE_URL where it buries,
    ORDERED_QUEUE_URL if the stack has ORDERED_WORKLOADS, and the name of each workload's own queue, as in QUEUEorders.
    Raises ValueError if the ordered ones are not the workloads that are ordered."""
    ordered = {name for name, workload in workloads.items() if workload.ordered}
    if missing := ordered - {*environ.get("ORDERED_WORKLOADS", "").split(",")}:
        needed = ",".join(sorted(ordered))
        raise ValueError(
            f"the stack does not know that {min(missing)!r} is ordered: deploy with OrderedWorkloads={needed}"
        )
    account = environ["QUEUE_URL"].rpartition("/")[0]
    found = ((_OWN.fullmatch(variable), name) for variable, name in environ.items())
    own = {variable[1]: f"{account}/{name}" for variable, name in found if variable and name}
    dead_letter_url, ordered_url = environ.get("DEAD_LETTER_QUEUE_URL", ""), environ.get("ORDERED_QUEUE_URL", "")
    schedules = functools.partial(Schedules.from_environment, environ)
    return queues(client("sqs"), environ["QUEUE_URL"], dead_letter_url, own, ordered_url, ordered, schedules)


_OWN = re.compile("QUEUE([a-z0-9]+)")


def queues(
    sqs: Any,
    url: str,
    dead_letter_url: str,
    own: Mapping[str, str],
    ordered_url: str,
    ordered: Collection[str],
    schedules: Callable[[str], Schedules | None] = lambda _url: None,
) -> SqsQueue | SqsQueues:
    """A stack's: with `own` ones of workloads, by their keys, and a FIFO queue for those that are ordered, where it has
    them. `schedules` makes those that send to a queue."""

    def made(its: str) -> SqsQueue:
        return SqsQueue(sqs, its, dead_letter_url, schedules(its))

    if not own and not ordered_url and not dead_letter_url:
        return made(url)
    others = {key: made(its) for key, its in own.items()}
    account = url.rpartition("/")[0]
    return SqsQueues(
        made(url),
        others,
        made(ordered_url) if ordered_url else None,
        ordered,
        lambda name: made(f"{account}/{name}"),
    )
