"""What is answered aside: in one thread, in turn, bounded in number and time; what goes wrong there is an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from decoupled.core import limits
from decoupled.core.problem import Problem, Response
from decoupled.core.workload import Unavailable
from decoupled.pipeline.call import Call
from decoupled.server.http.aside import Aside
from decoupled.server.http.dashboard import Page
from decoupled.server.http.gateway import Gateway
from decoupled.server.http.request import Request
from tests.support.server import wait_for

CALL = Call(["-", "x"], "", {}, b"")


class Slow:
    """Answers when a test lets it, and keeps count."""

    def __init__(self, answer: Callable[[], Response] = lambda: Response(200, {}, b"well")) -> None:
        self.go = threading.Event()
        self.busy = threading.Event()
        self.begun = 0
        self.made = 0
        self.threads: set[int] = set()
        self.closed = threading.Event()
        self._answer = answer

    def make(self) -> Slow:
        self.made += 1
        return self

    def answer(self, _method: str, _call: Call, _client: str) -> Response:
        self.begun += 1
        self.threads.add(threading.get_ident())
        self.busy.set()
        assert self.go.wait(20)
        return self._answer()

    def close(self) -> None:
        self.closed.set()


class Unsayable(Problem):
    """One that no answer can be made of."""

    def response(self) -> Response:
        raise ZeroDivisionError("a fault of ours")


class Asking:
    """A request, and what came of it."""

    def __init__(self, aside: Aside, call: Call = CALL) -> None:
        self.request = Request()
        self.answers: list[Any] = []
        aside.ask("GET", call, self.request, self.answers.append)

    @property
    def status(self) -> int | None:
        return self.answers[0].status if self.answers else None


async def until(seen: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_for, seen)


def test_many_are_answered_by_one_thread_and_those_beyond_are_refused() -> None:
    async def run() -> None:
        slow = Slow()
        aside = Aside(slow.make, asyncio.get_running_loop())
        first = Asking(aside)
        await until(slow.busy.is_set)
        waiting = [Asking(aside) for _ in range(limits.MAX_PAGE_WAITING)]
        beyond = Asking(aside)
        assert (beyond.status, beyond.answers[0].headers["retry-after"]) == (503, "2")
        assert first.status is None
        slow.go.set()
        await until(lambda: all(asking.status == 200 for asking in [first, *waiting]))
        assert (slow.made, len(slow.threads)) == (1, 1)
        aside.close()
        await until(slow.closed.is_set)

    asyncio.run(run())


def test_nothing_is_begun_for_a_client_that_has_gone() -> None:
    async def run() -> None:
        slow = Slow()
        aside = Aside(slow.make, asyncio.get_running_loop())
        first, gone, last = Asking(aside), Asking(aside), Asking(aside)
        assert gone.request.held is not None
        gone.request.held.forget()
        slow.go.set()
        await until(lambda: first.status == last.status == 200)
        assert (slow.begun, gone.answers) == (2, [])
        aside.close()

    asyncio.run(run())


def test_a_request_whose_place_is_wanted_is_answered_once() -> None:
    async def run() -> None:
        slow = Slow()
        aside = Aside(slow.make, asyncio.get_running_loop())
        asking = Asking(aside)
        await until(slow.busy.is_set)
        assert asking.request.held is not None
        asking.request.held.end()
        slow.go.set()
        after = Asking(aside)
        await until(lambda: after.status == 200)
        assert [answer.status for answer in asking.answers] == [503]
        aside.close()

    asyncio.run(run())


def test_what_takes_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(limits, "PAGE_ANSWER_S", 0.05)

    async def run() -> None:
        slow = Slow()
        aside = Aside(slow.make, asyncio.get_running_loop())
        asking = Asking(aside)
        await until(lambda: asking.status == 503)
        slow.go.set()
        aside.close()
        await until(slow.closed.is_set)
        assert len(asking.answers) == 1
        assert [record.__dict__["path"] for record in caplog.records] == ["-/x"]

    asyncio.run(run())


def test_that_the_thread_hangs_is_in_health_until_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_ANSWER_S", 0.05)

    async def run() -> None:
        slow = Slow()
        aside = Aside(slow.make, asyncio.get_running_loop())
        page = Page(aside, shown=True)
        assert page.trouble() is None
        asking = Asking(aside)
        await until(lambda: asking.status == 503)
        await until(page.trouble)
        trouble = page.trouble()
        assert trouble is not None
        assert "the page and the metrics are not answered" in trouble.detail
        assert not trouble.refuses  # orders are taken all the same
        slow.go.set()
        await until(lambda: page.trouble() is None)
        aside.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Problem(404, "None."), 404),
        (ValueError("a stack cannot be asked that"), 422),
        (Unavailable("the file is gone"), 503),
        (ZeroDivisionError("a fault of ours"), 500),
        (SystemExit(1), 500),
        (Unsayable(404, "None."), 500),
    ],
)
def test_what_goes_wrong_is_an_answer_and_the_next_is_answered(error: BaseException, status: int) -> None:
    def fail() -> Response:
        raise error

    async def run() -> None:
        slow = Slow(fail)
        slow.go.set()
        aside = Aside(slow.make, asyncio.get_running_loop())
        one, other = Asking(aside), Asking(aside)
        await until(lambda: one.status == other.status == status)
        assert b"a fault of ours" not in one.answers[0].body
        aside.close()

    asyncio.run(run())


def test_what_could_not_be_opened_is_tried_again() -> None:
    slow = Slow()
    slow.go.set()
    tries = iter([Unavailable("there is no file yet"), None])

    def make() -> Slow:
        if (error := next(tries)) is not None:
            raise error
        return slow.make()

    async def run() -> None:
        aside = Aside(make, asyncio.get_running_loop())
        one = Asking(aside)
        await until(lambda: one.status == 503)
        other = Asking(aside)
        await until(lambda: other.status == 200)
        aside.close()

    asyncio.run(run())


def test_who_never_looks_costs_no_thread() -> None:
    async def run() -> None:
        before = threading.active_count()
        Aside(Slow().make, asyncio.get_running_loop())
        assert threading.active_count() == before

    asyncio.run(run())


def test_without_a_thread_it_is_said_and_the_next_one_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        slow = Slow()
        slow.go.set()
        aside = Aside(slow.make, asyncio.get_running_loop())
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            refused = Asking(aside)
        assert refused.status == 503
        other = Asking(aside)
        await until(lambda: other.status == 200)
        assert (slow.begun, len(refused.answers)) == (1, 1)
        aside.close()

    asyncio.run(run())


def test_it_ends_also_where_as_many_wait_as_may() -> None:
    async def run() -> None:
        slow = Slow()
        aside = Aside(slow.make, asyncio.get_running_loop())
        first = Asking(aside)
        await until(slow.busy.is_set)
        waiting = [Asking(aside) for _ in range(limits.MAX_PAGE_WAITING)]
        threading.Timer(0.05, slow.go.set).start()
        aside.close()
        await until(slow.closed.is_set)
        assert [asking.status for asking in waiting] == [503] * len(waiting)
        await until(lambda: first.status == 200)
        assert slow.begun == 1

    asyncio.run(run())


def test_what_goes_wrong_on_the_way_to_the_thread_is_an_answer_too() -> None:
    class Broken:
        def handle(self, _request: Request, _reply: Any) -> bool:
            raise ZeroDivisionError("a fault of ours")

        def close(self) -> None: ...

    async def run() -> None:
        none: Any = None
        page: Any = Broken()
        gateway = Gateway(none, none, none, {}, none, asyncio.get_running_loop(), page=page)
        request, answers = Request(), list[Any]()
        request.method, request.target = "GET", b"/-/live"
        gateway.handle(request, answers.append)
        assert [answer.status for answer in answers] == [500]
        assert b"a fault of ours" not in answers[0].body

    asyncio.run(run())
