"""Who stands beside: groups that are sick, busy or broken, and what the others have of it. The real scheduler, queue
and table in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from decoupled.core import limits
from decoupled.core.outcomes import Delivery
from decoupled.core.workload import Effects, Message, Unavailable, Workload
from decoupled.server.health import Trouble
from decoupled.server.scheduling.breaker import HOLD_AFTER, TRICKLE
from tests.support.virtual_time import EPOCH_MS, EmbeddedInVirtualTime, run

DAY_S = 86_400.0
_numbers = itertools.count()


class Call(Struct):
    host: str = ""
    bad: bool = False


def calls(host: str, count: int, bad: bool = False) -> list[Message]:
    """Messages to a host, or of a caller."""
    body = msgspec.json.encode(Call(host, bad)).decode()
    return [Message(f"{next(_numbers):08}-{host}", "calls", body, "anonymous", EPOCH_MS, host) for _ in range(count)]


def workloads(process: Callable[[Call, Message], Effects], **options: float) -> dict[str, Workload]:
    return {"calls": Workload("calls", Call, process, group=lambda call: call.host, **options)}  # type: ignore[arg-type]


def answer(_call: Call, _message: Message) -> Effects:
    return Effects({})


def test_a_single_message_waits_for_one_round_of_a_long_queue_and_not_for_all_of_it() -> None:
    async def busy() -> None:
        server = EmbeddedInVirtualTime(workloads(answer), message_s=0.03)
        server.send(calls("busy", 2_000))
        server.start()
        await asyncio.sleep(2)
        server.send(calls("quiet", 1))
        await server.until_finished(within_s=600)
        assert server.finished_after_s("quiet") < 3  # and all of the others' take 30 s

    run(busy())


@pytest.mark.parametrize("sick", [1, 30])
def test_a_host_that_hangs_with_a_long_queue_delays_no_others_and_loses_nothing(sick: int) -> None:
    back_at_s = 1800.0

    async def hang() -> None:
        def call(call: Call, _message: Message) -> Effects:
            if call.host.startswith("sick") and server.loop.time() < back_at_s:
                raise Unavailable("timed out")
            return Effects({})

        server = EmbeddedInVirtualTime(workloads(call))

        def takes_s(message: Message) -> float:
            return 8.0 if message.group.startswith("sick") and server.loop.time() < back_at_s else 0.001

        server.slow = takes_s
        for number in range(sick):
            server.send(calls(f"sick-{number}", 3_000 // sick))
        server.start()
        await asyncio.sleep(300)
        for second in range(100):
            server.send(calls(f"well-{second % 7}", 10))
            await asyncio.sleep(1)
        await asyncio.sleep(20)
        assert server.statuses() == {"processed": 1_000, "queued": 3_000 // sick * sick}
        state = server.breakers.states()["calls"]
        assert state["state"] == "closed"
        assert min(sick, 10) <= state["sick_groups"] <= sick  # a worker for those that hang, 80 s for each to be known
        await server.until_finished(within_s=DAY_S)
        assert server.statuses() == {"processed": 1_000 + 3_000 // sick * sick}

    run(hang())


def test_when_all_hosts_are_sick_the_workload_waits_and_one_that_is_new_and_well_is_served() -> None:
    async def no_names() -> None:
        def call(call: Call, _message: Message) -> Effects:
            if call.host != "well":
                raise Unavailable("no such name")
            return Effects({})

        server = EmbeddedInVirtualTime(workloads(call))
        for number in range(500):
            server.send(calls(f"host-{number}", 4))
        server.start()
        await asyncio.sleep(600)
        assert server.breakers.states()["calls"]["state"] == "open"
        assert max(server.receive_counts()) < 20
        assert sum(server.receive_counts()) < 600 * (TRICKLE + 1)
        server.send(calls("well", 1))
        await asyncio.sleep(30)
        assert server.statuses() == {"processed": 1, "queued": 2_000}
        server.stopping = True

    run(no_names())


def test_a_receiver_that_allows_so_many_a_second_gets_so_many() -> None:
    async def paced() -> None:
        server = EmbeddedInVirtualTime(workloads(answer, group_rate=20))
        server.send(calls("slow", 1_000) + calls("slower", 1_000))
        server.start()
        await asyncio.sleep(20)
        assert 2 * 390 <= server.statuses()["processed"] <= 2 * 421
        await server.until_finished(within_s=60)

    run(paced())


def test_a_workload_keeps_to_its_rate_beside_one_that_has_none() -> None:
    async def paced() -> None:
        served = {**workloads(answer, rate=50), "pings": Workload("pings", Call, answer)}
        server = EmbeddedInVirtualTime(served)
        server.send(calls("a", 2_000))
        server.send([Message(f"ping-{n}", "pings", "{}", "anonymous", EPOCH_MS) for n in range(2_000)])
        server.start()
        await asyncio.sleep(20)
        assert 2_000 + 950 <= server.statuses()["processed"] <= 2_000 + 1_060
        await server.until_finished(within_s=60)

    run(paced())


# --- a run of the same failure ----------------------------------------------------


def buggy(_call: Call, _message: Message) -> Effects:
    raise TypeError("unsupported operand")


@pytest.mark.parametrize("hosts", [1, 7, 1_000])
def test_a_bug_that_fails_everything_costs_a_pause_and_no_dead_letters(hosts: int) -> None:
    async def deployed() -> None:
        mended_at_s = 1200.0

        def process(call: Call, message: Message) -> Effects:
            return answer(call, message) if server.loop.time() > mended_at_s else buggy(call, message)

        server = EmbeddedInVirtualTime(workloads(process))
        for number in range(hosts):
            server.send(calls(f"host-{number}", 10_000 // hosts))
        total = 10_000 // hosts * hosts
        server.start()
        await asyncio.sleep(mended_at_s)
        statuses = server.statuses()
        assert statuses.get("dead", 0) <= 50
        assert statuses["queued"] >= total - 50
        trouble = server.groups.trouble()
        assert trouble is not None
        assert "TypeError: unsupported operand" in trouble.detail
        await server.until_finished(within_s=DAY_S)
        assert server.statuses() == {"processed": total}
        assert server.groups.trouble() is None

    run(deployed())


def test_poison_among_good_messages_dies_within_its_attempts_whoever_sent_it() -> None:
    async def poisoned() -> None:
        def process(call: Call, message: Message) -> Effects:
            return buggy(call, message) if call.bad else answer(call, message)

        server = EmbeddedInVirtualTime(workloads(process))
        for number in range(50):
            server.send(calls(f"host-{number}", 99) + calls(f"host-{number}", 1, bad=True))
        server.start()
        await server.until_finished(within_s=600)
        assert server.statuses() == {"processed": 4_950, "dead": 50}
        attempts = server.database.execute("SELECT DISTINCT attempts FROM messages WHERE status = 'dead'")
        assert attempts.fetchall() == [(limits.MAX_ATTEMPTS,)]

    run(poisoned())


def test_a_caller_that_sends_nothing_but_poison_is_held_alone() -> None:
    async def clumsy() -> None:
        def process(call: Call, message: Message) -> Effects:
            return buggy(call, message) if call.host == "clumsy" else answer(call, message)

        server = EmbeddedInVirtualTime(workloads(process))
        server.send(calls("clumsy", 3 * HOLD_AFTER))
        server.start()
        await asyncio.sleep(300)
        state = server.breakers.states()["calls"]
        assert (state["state"], [it["group"] for it in state["groups"]]) == ("closed", ["clumsy"])
        server.send(calls("careful", 100))
        await asyncio.sleep(2)
        assert server.statuses()["processed"] == 100
        server.stopping = True

    run(clumsy())


# --- a claim that fails -------------------------------------------------------


def test_a_workload_whose_claims_fail_keeps_no_other_waiting_and_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> None:
        other = Workload("other", Call, answer, group=lambda call: call.host)
        server = EmbeddedInVirtualTime({**workloads(answer), "other": other})
        claim = server.queue.claim

        def fails(workload: str, *arguments: Any) -> list[Delivery]:
            if workload == "calls" and server.loop.time() < 100:
                raise TypeError("what nobody thought of")
            return claim(workload, *arguments)

        monkeypatch.setattr(server.queue, "claim", fails)
        server.send(calls("a", 5))
        server.send([Message(f"other-{n}", "other", "{}", "anonymous", EPOCH_MS, "b") for n in range(500)])
        server.start()
        await asyncio.sleep(20)
        assert server.statuses() == {"processed": 500, "queued": 5}
        assert server.groups.trouble() == Trouble(
            "messages of calls cannot be claimed: TypeError: what nobody thought of"
        )
        state = server.breakers.states()["calls"]
        assert (state["state"], state["why"]) == (
            "open",
            "its messages cannot be claimed: TypeError: what nobody thought of",
        )
        await server.until_finished(within_s=200)
        assert server.groups.trouble() is None
        assert server.breakers.states()["calls"] == {"state": "closed"}

    run(broken())


def test_a_caller_whose_messages_go_past_the_claims_has_no_more_than_its_share() -> None:
    async def flood() -> None:
        server = EmbeddedInVirtualTime({"calls": Workload("calls", Call, answer)}, message_s=60.0)

        def accept(messages: list[Message]) -> int:
            """As the writer does with what comes in; how many went past the claims."""
            at_once, later = server.take(messages)
            claimed = server.queue.send_claimed(at_once, server.visibility_timeout_s)
            server.queue.send(later)
            server.sent(claimed)
            return len(claimed)

        server.start()
        await asyncio.sleep(1.1)  # the workers are there, and nothing waits
        share = server._capacity("calls") * 3 // 4
        assert sum(accept(calls("key:ana", 1)) for _ in range(2 * share)) == share
        accept(calls("key:ben", 1))
        await asyncio.sleep(1)
        rows = server.database.execute(
            "SELECT message_group, count(*) FROM messages WHERE in_flight = 1 GROUP BY message_group"
        )
        assert dict(rows.fetchall()) == {"key:ana": share, "key:ben": 1}

    run(flood())


def test_of_two_fresh_messages_with_one_id_the_one_that_no_worker_takes_is_left_to_the_queue() -> None:
    async def twice() -> None:
        server = EmbeddedInVirtualTime({"calls": Workload("calls", Call, answer)})
        server.start()
        await asyncio.sleep(1.1)  # the workers are there, and nothing waits
        first = calls("", 1)[0]
        other = msgspec.structs.replace(first, digest="another entry's")
        server._room = lambda: 1  # type: ignore[method-assign]
        at_once, later = server.take([first, other, *calls("", 1)])
        assert at_once == [first]
        assert later[0] is other
        assert len(later) == 2

    run(twice())
