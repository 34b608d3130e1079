"""How an issuer's keys are kept: asked for in the background, seldom, and never forgotten for its silence. In virtual
time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from decoupled.core import limits
from decoupled.core.problem import Problem
from decoupled.server.callers.tokens import Tokens
from tests.support import virtual_time
from tests.support.issuer import URL, Keyset

START_S = 1_795_000_000


class World:
    """An issuer, and what it answers; somebody who takes its tokens."""

    def __init__(self) -> None:
        self.issuer = Keyset(one="P-256")
        self.why: Exception | None = None  # it does not answer
        self.takes_s = 0.0  # to answer
        self.fetched_at: list[float] = []
        self.tokens = Tokens(URL, ["shop"], (), lambda: int((START_S + self.now) * 1000), self.fetch)

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def fetch(self) -> bytes:
        self.fetched_at.append(self.now)
        await asyncio.sleep(self.takes_s)
        if self.why is not None:
            raise self.why
        return self.issuer.text()

    async def watch(self) -> None:
        await self.tokens.watch(asyncio.get_running_loop())

    def token(self, key: str = "one", life_s: float = 1e7) -> str:
        return self.issuer.token(key, "ES256", now_s=START_S, exp=START_S + life_s)

    def asks(self, token: str) -> int:
        """The status of a request with this token."""
        try:
            self.tokens.of({"authorization": f"Bearer {token}"}, ["orders"], b"")
        except Problem as problem:
            self.retry_after_s = problem.retry_after_s or 0
            return problem.status if problem.status == 401 or problem.resend == "safe" else 500
        return 200

    def trouble(self) -> tuple[str, bool] | None:
        told = self.tokens.trouble()
        return None if told is None else (told.detail, told.refuses)


Story = Callable[[World], Awaitable[None]]


def told(story: Story) -> None:
    async def main() -> None:
        await story(World())

    virtual_time.run(main())


def test_clients_are_let_in_when_the_keys_are_known() -> None:
    async def story(world: World) -> None:
        world.takes_s = 2
        assert world.asks(world.token()) == 503
        assert world.trouble() == (
            f"nobody can be let in with a token of {URL}: it has not answered yet",
            True,
        )
        await world.watch()
        assert world.now == 2
        assert world.asks(world.token()) == 200
        assert world.trouble() is None

    told(story)


def test_a_start_does_not_wait_for_an_issuer_that_does_not_answer() -> None:
    async def story(world: World) -> None:
        world.takes_s = 1_000
        await world.watch()
        assert world.now == limits.KEYS_FIRST_S
        assert world.asks(world.token()) == 503
        await asyncio.sleep(limits.KEYS_FETCH_S)
        assert world.trouble() == (f"nobody can be let in with a token of {URL}: it does not answer", True)
        world.takes_s = 0
        await asyncio.sleep(limits.KEYS_AGAIN_S)
        assert world.asks(world.token()) == 200

    told(story)


def test_keys_are_looked_at_again_and_one_that_was_taken_out_counts_no_more() -> None:
    async def story(world: World) -> None:
        await world.watch()
        token = world.token()
        assert world.asks(token) == 200
        world.issuer.add("two", "P-256")
        del world.issuer.keys["one"]
        await asyncio.sleep(limits.KEYS_REFRESH_S - 1)
        assert world.asks(token) == 200
        await asyncio.sleep(limits.KEYS_AGAIN_S + 2)
        assert world.asks(token) in (401, 503)
        assert world.asks(world.token("two")) == 200
        await asyncio.sleep(limits.KEYS_AGAIN_S + 1)
        assert world.asks(token) == 401

    told(story)


def test_a_key_that_is_not_known_yet_is_asked_for_at_once_if_that_was_not_done_lately() -> None:
    async def story(world: World) -> None:
        await world.watch()
        await asyncio.sleep(limits.KEYS_AGAIN_S + 1)
        world.issuer.add("two", "P-256")
        token = world.token("two")
        assert world.asks(token) == 503
        assert world.retry_after_s == 1
        await asyncio.sleep(0.001)
        assert world.asks(token) == 200

    told(story)


def test_and_else_as_soon_as_may_be_and_until_then_the_client_is_told_to_come_back() -> None:
    async def story(world: World) -> None:
        await world.watch()
        await asyncio.sleep(2)
        world.issuer.add("two", "P-256")
        token = world.token("two")
        assert world.asks(token) == 503
        assert world.retry_after_s == limits.KEYS_AGAIN_S - 2 + 1
        await asyncio.sleep(limits.KEYS_AGAIN_S - 3)
        assert world.asks(token) == 503
        await asyncio.sleep(2)
        assert world.asks(token) == 200

    told(story)


def test_a_key_that_the_issuer_has_not_is_refused_once_it_was_asked() -> None:
    async def story(world: World) -> None:
        await world.watch()
        stranger = Keyset(other="P-256")
        token = stranger.token("other", "ES256", now_s=START_S)
        assert world.asks(token) == 503
        await asyncio.sleep(limits.KEYS_AGAIN_S + 1)
        assert [world.asks(token) for _ in range(3)] == [401] * 3
        world.issuer.keys |= stranger.keys  # it has one by now
        await asyncio.sleep(limits.KEYS_AGAIN_S + 1)
        assert world.asks(token) == 200

    told(story)


def test_whoever_makes_up_keys_does_not_have_the_issuer_asked_more_often() -> None:
    async def story(world: World) -> None:
        await world.watch()
        stranger = Keyset(other="P-256")
        for number in range(9_900):
            token = stranger.token("other", "ES256", {"kid": f"k{number}"}, START_S)
            assert world.asks(token) == 503
            await asyncio.sleep(0.005)  # more between two fetches than are known by name
        gaps = [after - before for before, after in zip(world.fetched_at, world.fetched_at[1:], strict=False)]
        assert 4 <= len(gaps) <= 5
        assert min(gaps) > limits.KEYS_AGAIN_S - 0.001
        issuer = world.tokens._issuer
        assert len(issuer._sought) <= limits.MAX_KEYS_SOUGHT
        assert len(issuer._absent) <= 2 * limits.MAX_KEYS_SOUGHT
        assert world.asks(world.token()) == 200

    told(story)


@pytest.mark.parametrize("error", [OSError("no route to host"), ValueError("it answers 500"), TimeoutError()])
def test_the_keys_of_an_issuer_that_is_gone_count_as_they_were_and_health_says_so(error: Exception) -> None:
    async def story(world: World) -> None:
        await world.watch()
        known, new = world.token(), world.token(life_s=50_000)
        assert world.asks(known) == 200
        world.why = error
        await asyncio.sleep(limits.KEYS_REFRESH_S + limits.KEYS_AGAIN_S + 1)
        assert world.trouble() == (f"the keys of {URL} count as they were: {str(error) or 'it does not answer'}", False)
        assert (world.asks(known), world.asks(new)) == (200, 200)
        stranger = Keyset(other="P-256").token("other", "ES256", now_s=START_S, exp=START_S + 1e6)
        for _ in range(3):  # who knows
            assert world.asks(stranger) == 503
            assert world.retry_after_s <= limits.KEYS_AGAIN_S + 1
            await asyncio.sleep(limits.KEYS_AGAIN_S)
        await asyncio.sleep(3_600)
        assert world.asks(known) == 200
        world.why = None
        await asyncio.sleep(limits.KEYS_AGAIN_S + 1)
        assert world.trouble() is None
        assert world.asks(known) == 200
        assert world.asks(stranger) == 401

    told(story)


def test_an_issuer_without_a_key_lets_nobody_in_and_health_says_so() -> None:
    async def story(world: World) -> None:
        await world.watch()
        token = world.token()
        assert world.asks(token) == 200
        keys, world.issuer.keys = world.issuer.keys, {}
        await asyncio.sleep(limits.KEYS_REFRESH_S + limits.KEYS_AGAIN_S + 1)
        assert world.asks(token) in (401, 503)
        assert world.trouble() == (
            f"nobody can be let in with a token of {URL}: it has no key that can be used",
            True,
        )
        world.issuer.keys = keys
        await asyncio.sleep(limits.KEYS_REFRESH_S + limits.KEYS_AGAIN_S + 1)
        assert world.asks(token) == 200

    told(story)


def test_an_error_that_nobody_foresaw_is_for_the_last_resort() -> None:
    async def story(world: World) -> None:
        heard: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))
        world.why = KeyError("a bug")
        await world.watch()
        await asyncio.sleep(1)
        assert heard == [world.why]

    told(story)
