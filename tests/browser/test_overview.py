"""The overview, with a server that says what a test makes up: what is wrong stands there in words, and nothing moves,
overlaps or is cut while numbers change."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from decoupled.dashboard.shapes import Box, Latency, Live, SickGroup, WorkloadNow
from tests.support.browser import playwright_page
from tests.support.lives import boxes, live, overview
from tests.support.page_server import Ask, page_server
from tests.support.server import wait_for

WHY = "payments.example does not answer"
OPEN = WorkloadNow("orders", "open", why=WHY, since_s=250.0, probe_in_s=11.2, unfinished=1_204, form=True)
HELD = WorkloadNow("orders", "held", why="KeyError: 'sku'", since_s=3_720.0, probe_in_s=2.0, unfinished=17)
ALIKE, PARTS = " held, since its messages fail all alike: ", "Error: no stock; no price"
HELD_OF_PARTS = WorkloadNow("orders", "held", why=PARTS, since_s=3.0)
GROUPS = WorkloadNow(
    "notifications", "closed", sick_groups=14, groups=[SickGroup("hooks.example", "open", "502 Bad Gateway", 9.0, 3.0)]
)
OUTAGE = live(
    status="degraded",
    detail="orders is held, since its messages fail all alike: x; the log is long",
    overview=overview(
        queued=1_204,
        dead=12,
        oldest_age_s=252.0,
        limited={
            "callers": 3,
            "worst": [
                {"caller": "key:" + "importer-" * 12, "why": "sends too much", "messages": 40_213, "last_s": 1.0}
            ],
        },
        notes=["the log of the file is long: 96 MB"],
    ),
    workloads=[OPEN, GROUPS, WorkloadNow("a" * 60, "held", why="E" * 400)],
    boxes=boxes(
        processor=Box("bad", f"orders wait: {WHY}: " + "a-name-that-goes-on-and-on." * 8),
        queue=Box("warn", "the oldest has waited for 4 min"),
        dead=Box("warn", "12 new ones in the last hour"),
    ),
)

# Elements whose content is wider than they are, but for those that are meant to be.
CUT = """[...document.querySelectorAll("main *, .top *")]
    .filter(it => it.scrollWidth > it.clientWidth + 1 && getComputedStyle(it).display !== "inline")
    .filter(it => !it.closest(".visually-hidden, .uplot, svg, .system, .tabs"))
    .map(it => it.outerHTML.slice(0, 120))"""


def history(count: int = 100, gap: int = 50) -> dict[str, Any]:
    """So many samples, and in the middle a minute without any."""
    now = time.time_ns() // 1_000_000
    times = [now - (count - place) * 5_000 - (60_000 if place < gap else 0) for place in range(count)]
    return {"step_s": 5.0, "times": times, "series": {"accepted_per_s": [100.0] * count, "queued": [7.0] * count}}


def answers(said: Live) -> dict[str, Ask]:
    """A server that says this."""
    return saying([said])


def saying(said: list[Live]) -> dict[str, Ask]:
    """A server that says what stands first here, which a test may put something else for."""

    def look(_: dict[str, str]) -> tuple[int, Any]:
        return 200, msgspec.structs.replace(said[0], taken_at=time.time_ns() // 1_000_000)

    return {"GET live": look, "GET history": lambda _: (200, history())}


def headline(page: Page) -> list[str]:
    """The lines, without the words of their signs."""
    expect(page.locator(".trouble-text").first).not_to_be_empty()
    return page.locator(".trouble-text").all_inner_texts()


@pytest.mark.parametrize(
    ("said", "first"),
    [
        (live(), "All is well: 1,012/s come in, 15 wait, the oldest for 20 ms."),
        (
            live(status="not running", overview=overview(queued=2, in_flight=0)),
            "The server does not run. 2 messages wait on the disk, safe. Start it with decoupled serve.",
        ),
        (
            live(status="unavailable", detail="the disk is full"),
            "Nothing is accepted: the disk is full. What was accepted is safe.",
        ),
        (live(workloads=[OPEN]), f"Orders wait: {WHY}, for 4 min; 1,204 queued; nothing is lost."),
        (
            live(workloads=[HELD], status="degraded", detail="orders is held, since its messages fail all alike: x"),
            "Orders are held, since all fail alike: KeyError: 'sku', for 1 h 2 min; 17 queued; nothing is lost.",
        ),
        (
            live(workloads=[HELD_OF_PARTS], status="degraded", detail=f"orders is{ALIKE}{PARTS}"),
            "Orders are held, since all fail alike: Error: no stock; no price, for 3 s; 0 queued; nothing is lost.",
        ),
        (
            live(workloads=[GROUPS]),
            "Some of notifications wait: hooks.example: 502 Bad Gateway and 13 more groups. The others go on.",
        ),
        (live(boxes=boxes(dead=Box("warn", "3 new ones"))), "Dead letters: 3 new ones."),
        (live(overview=overview(alarms=["Oldest"])), "An alarm sounds: Oldest."),
    ],
)
def test_it_says_in_words_what_is_wrong(browser: Browser, said: Live, first: str) -> None:
    with page_server(answers(said)) as url, playwright_page(browser, url) as page:
        assert headline(page) == [first]


def test_the_worst_comes_first_and_each_leads_to_where_it_is_put_right(browser: Browser) -> None:
    with page_server(answers(OUTAGE)) as url, playwright_page(browser, url) as page:
        lines = headline(page)
        assert lines[0] == f"Orders wait: {WHY}, for 4 min; 1,204 queued; nothing is lost."
        assert "The log is long. Requests are still accepted." in lines
        assert "Dead letters: 12 new ones in the last hour." in lines
        page.get_by_role("link", name="Why").first.click()
        expect(page.locator("#workload-orders a")).to_be_focused()
        page.get_by_role("link", name="What waits").first.click()
        expect(page.locator("#main")).to_have_class("view view-messages")
        assert page.url.endswith("#/messages?workload=orders&status=queued")


def test_a_box_says_why_it_has_its_colour(browser: Browser) -> None:
    with page_server(answers(OUTAGE)) as url, playwright_page(browser, url) as page:
        queue = page.locator("[data-box=queue]")
        expect(queue).to_have_attribute("data-colour", "warn")
        expect(queue).to_contain_text("the oldest has waited for 4 min")
        expect(queue).to_contain_text("look at it")  # the sign's word
        expect(page.locator("[data-box=table]")).to_contain_text("well")


@pytest.mark.parametrize("width", [320, 360, 768, 1_024, 1_200, 1_440, 1_920])
def test_nothing_overlaps_and_nothing_is_cut(browser: Browser, width: int) -> None:
    with page_server(answers(OUTAGE)) as url, playwright_page(browser, url, width=width) as page:
        expect(page.locator("canvas").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(CUT) == []
        rectangles = page.locator(".box, .arrow, .chart").evaluate_all(
            "all => all.map(it => { const r = it.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; })"
        )
        for place, (left, top, right, bottom) in enumerate(rectangles):
            for other in rectangles[place + 1 :]:
                apart = right <= other[0] + 1 or other[2] <= left + 1 or bottom <= other[1] + 1 or other[3] <= top + 1
                assert apart, (rectangles[place], other)


@pytest.mark.parametrize("width", [360, 1_440])
def test_nothing_moves_while_numbers_change(browser: Browser, width: int) -> None:
    busy = live(
        overview=overview(
            queued=938_204, in_flight=640, delayed=77_777, oldest_age_s=75_000.0, accepted_per_s=12_904.3
        ),
        accept=Latency(0.99, 9.4),
        waiting=Latency(None, None),
        processing=Latency(28.0, 101.0),
        commit_messages=None,
        retried_per_s=1_234.5,
    )
    said = [live()]
    where = "all => all.map(it => [it.offsetLeft, it.offsetTop, it.offsetWidth, it.offsetHeight])"
    with page_server(saying(said)) as url, playwright_page(browser, url, width=width) as page:
        expect(page.locator("canvas")).to_have_count(4)
        before = page.locator(".box, .arrow, .chart, .workload").evaluate_all(where)
        said[0] = busy
        expect(page.locator("[data-box=queue] .figure")).to_have_text("938,204")
        assert page.locator(".box, .arrow, .chart, .workload").evaluate_all(where) == before


def test_the_focus_stays_while_numbers_change(browser: Browser) -> None:
    more = msgspec.structs.replace(OUTAGE, workloads=[msgspec.structs.replace(OPEN, unfinished=1_999, since_s=251.0)])
    said = [OUTAGE]
    with page_server(saying(said)) as url, playwright_page(browser, url) as page:
        page.get_by_role("link", name="What waits").first.focus()
        said[0] = more
        expect(page.locator(".trouble-text").first).to_contain_text("1,999 queued")
        expect(page.get_by_role("link", name="What waits").first).to_be_focused()


def test_a_chart_can_be_read_as_a_table_and_a_gap_is_a_gap(browser: Browser) -> None:
    with page_server(answers(live())) as url, playwright_page(browser, url) as page:
        chart = page.locator("figure").first
        label = re.compile("^In and out, the last hour: accepted now ")
        expect(chart.get_by_role("img")).to_have_attribute("aria-label", label)
        chart.get_by_text("As a table").click()
        expect(chart.locator("tbody tr").last).to_contain_text("100/s")
        gaps = page.evaluate(
            """async past => {
                const { Past } = await import("/-/assets/past.js");
                const it = new Past();
                it.replace(past);
                return it.series.accepted_per_s.filter(value => value === null).length;
            }""",
            history(),
        )
        assert gaps == 1


def test_a_hidden_tab_asks_nothing_and_asks_at_once_when_it_is_seen(browser: Browser) -> None:
    asked: list[float] = []
    hide = "on => { Object.defineProperty(document, 'hidden', { configurable: true, get: () => on });"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"

    def look(_: dict[str, str]) -> tuple[int, Any]:
        asked.append(time.monotonic())
        return 200, live()

    said: dict[str, Ask] = {"GET live": look, "GET history": lambda _: (200, history())}
    with page_server(said) as url, playwright_page(browser, "about:blank") as page:
        page.clock.install()
        page.goto(url)
        wait_for(lambda: len(asked))
        page.evaluate(hide, True)
        before = len(asked)
        page.clock.run_for(60_000)
        page.evaluate("fetch('-/history')")  # what had been sent before it is through, too
        assert len(asked) == before
        page.evaluate(hide, False)
        wait_for(lambda: len(asked), lambda count: count > before)
