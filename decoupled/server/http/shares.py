"""What all clients share: places, and the memory for what is kept for them. Who may have more of it, who waits for it,
and who gives way when there is none left. No socket; the clock is passed in.

    bytes kept     0 ─────────────── half of them ──────────────── all that there are
    a large body   is read            waits, unread; the eldest    somebody gives way: who has most,
                                      goes on                      of the address that has most

An address has no limit of its own, for a reverse proxy has one for all of its clients. But whoever has most gives way
first: a client that takes what it can get takes it from itself.
"""

from __future__ import annotations

import heapq
import socket
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from operator import attrgetter
from typing import Protocol, TypeVar

from decoupled.core import limits
from decoupled.core.problem import Problem

LOOK_S = 0.05  # between two looks for room, while bodies wait for it
FAVOURED_LOOKS = 40  # in which the eldest of them must be done


class Client(Protocol):
    """A connection, as it counts here."""

    address: str
    kept: int  # bytes, as it has told
    since: float  # when it began to do what it does: to be idle, or to send a request

    @property
    def spare(self) -> int:
        """Bytes of those kept that it could do without: all but the request that is being answered."""
        ...

    @property
    def sends_much(self) -> bool:
        """It is in the middle of a large body."""
        ...

    @property
    def may_leave(self) -> bool:
        """It has not just the one request that is being answered."""
        ...

    def stop_reading(self) -> None:
        """Until there is room."""
        ...

    def read_on(self) -> None:
        """There is."""
        ...

    def give_way(self, problem: Problem, at_once: bool) -> None:
        """Let go of what is kept for it; with `at_once`, of its place too."""
        ...


C = TypeVar("C", bound=Client)


class Shares:
    """Of one server. `used` is the sum of what is kept for its clients."""

    def __init__(
        self,
        clients: Collection[Client],
        call_later: Callable[[float, Callable[[], None]], object],
        most: int,
    ) -> None:
        """`most`: bytes that may be kept for all of them."""
        self.used = 0
        self.most = most
        self._tight = most // 2
        self._room = most // 8
        self.gave_way: Counter[str] = Counter()  # clients, by what they gave up; the server reads and clears it
        self._clients = clients
        self._call_later = call_later
        self._next_search = most  # for who gives way, when so many bytes are used
        self._waiting: dict[Client, None] = {}  # for room, the eldest first
        self._favoured: Client | None = None  # reads on although it is tight
        self._looks = 0  # since it does
        self._looking = False

    # --- bytes ----------------------------------------------------------------

    def count(self, client: Client, kept: int) -> None:
        """So many bytes are kept for the client now. It may be asked to wait with more, or anyone to give way."""
        more = kept - client.kept
        client.kept = kept
        self.used += more
        if more > 0:
            if self.used > self._tight:
                self._tighten(client)
        elif self._waiting and not client.sends_much:
            self._waiting.pop(client, None)

    def _tighten(self, client: Client) -> None:
        if self.used <= self.most:
            self._next_search = self.most
        elif self.used > self._next_search:
            self._make_room(self.most - self._room)
        if client.sends_much and client is not self._favoured:
            client.stop_reading()
            self._waiting[client] = None
            self._look_later()

    def _make_room(self, enough: int) -> None:
        spare = {client: spare for client in self._clients if (spare := client.spare)}
        largest_first = sorted(spare, key=spare.__getitem__, reverse=True)
        for client in who_gives_way(largest_first, spare.__getitem__, self.used - enough):
            self.gave_way["what was kept for them"] += 1
            client.give_way(too_much(), False)
        # Where nobody could give enough, they are not all looked at again for every byte.
        self._next_search = max(self.most, self.used + limits.MIB)

    def _look_later(self) -> None:
        if not self._looking:
            self._looking = True
            self._call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Let those read on for whom there is room by now. Where there is none, the eldest does all the same: so they
        come to their ends one by one. If it does not, some keep their bytes and do nothing: they give way."""
        self._looking = False
        room = self._tight - self.used
        while self._waiting and room > 0:
            self._let_eldest_read_on()
            room -= limits.READ_BYTES
        if self._favoured is None or not self._favoured.sends_much:
            self._favoured = self._let_eldest_read_on() if self._waiting else None
            self._looks = 0
        elif self._waiting:
            self._looks += 1
            if self._looks > FAVOURED_LOOKS:
                self._favoured = None
                self._make_room(self._tight - self._room)
        if self._waiting or self._favoured is not None:
            self._look_later()

    def _let_eldest_read_on(self) -> Client:
        eldest = next(iter(self._waiting))
        del self._waiting[eldest]
        eldest.read_on()
        return eldest

    # --- places ---------------------------------------------------------------

    def make_places(self, wanted: int) -> bool:
        """Ask so many clients to leave: those first that have waited longest, or have longest not come to the end of a
        request. Whether any could be asked. Looks at all of them, so that several places at once cost less."""
        longest_first = sorted(self._clients, key=attrgetter("since"))
        leaving = who_gives_way([client for client in longest_first if client.may_leave], lambda _: 1, wanted)
        for client in leaving:
            self.gave_way["a place"] += 1
            client.give_way(Problem(503, "Too many clients are connected.", resend="safe", retry_after_s=1), True)
        return bool(leaving)


def who_gives_way(clients: Iterable[C], weight: Callable[[C], int], wanted: int) -> list[C]:
    """The clients that together have what is wanted. Each time, the address that has most gives one: the first of its
    own, in the order of the clients."""
    owned: dict[str, deque[C]] = defaultdict(deque)
    total: Counter[str] = Counter()
    for client in clients:
        owned[client.address].append(client)
        total[client.address] += weight(client)
    most = [(-amount, address) for address, amount in total.items()]
    heapq.heapify(most)
    found = []
    while wanted > 0 and most:
        amount, address = most[0]
        client = owned[address].popleft()
        found.append(client)
        wanted -= weight(client)
        if owned[address]:
            heapq.heapreplace(most, (amount + weight(client), address))
        else:
            heapq.heappop(most)
    return found


def too_much() -> Problem:
    """What those are told that give bytes up, or have waited too long for some."""
    return Problem(503, "Too much is being sent at once.", resend="safe", retry_after_s=1)


def client_at(peer: tuple[object, ...] | None) -> tuple[str, str]:
    """A client's address as it is, and as it counts."""
    host = str(peer[0]) if peer else ""
    return host, address_of(host)


def address_of(host: str) -> str:
    """What counts as one address: with IPv6 the /64 that a client has as a rule to itself."""
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host  # IPv4, or none at all
    mapped = packed[:12] == b"\0" * 10 + b"\xff\xff"
    return socket.inet_ntop(socket.AF_INET, packed[12:]) if mapped else packed[:8].hex()
