"""The template's alarms in outages, behind the real processor, in time that passes at once: each sounds once and clears
once, or keeps silent, as the table in docs/aws.md has it. However far CloudWatch looks back, which it does not say.

And the model of CloudWatch's alarms against the tables of its User Guide."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import template
from tests.support.alarms import STACK, Alarm, evaluated
from tests.support.stack_in_time import MINUTE_MS, Stack, State

DOCS = Path(__file__).parents[2] / "docs" / "aws.md"
RATES = (1, 100, 10_000)  # messages an hour
BEFORE, AFTER = 60, 180  # minutes in which all is well
DAY = 24 * 60


@dataclass(frozen=True)
class Trouble:
    """How it is called in docs/aws.md; what is wrong, for how many minutes; and of how many messages one is simulated,
    at each of RATES: the others would only tell more often what these tell."""

    name: str
    state: State
    minutes: int
    each: tuple[int, int, int] = (1, 1, 100)


TROUBLES = (
    Trouble("a backend is away for 5 minutes", "sick", 5, (1, 1, 10)),
    Trouble("for 4 hours", "sick", 4 * 60),
    Trouble("for 2 days", "sick", 2 * DAY, (1, 50, 1_000)),
    Trouble("the processor cannot start for 4 hours", "cannot start", 4 * 60),
    Trouble("nothing invokes it for 4 hours", "off", 4 * 60),
    Trouble("a bug fails everything for 4 hours", "buggy", 4 * 60, (1, 2, 100)),
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """No line of the log for each of many thousand tries."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def documented() -> dict[str, list[set[str]]]:
    """The table in docs/aws.md: by what happens, the alarms that sound at each of RATES."""
    rows = re.findall(r"^\| (.+?) \|((?: .*\|)+)$", DOCS.read_text().split("### Which alarms sound")[1], re.MULTILINE)
    cells = {name: [{*re.findall(r"\w+Alarm", cell)} for cell in rest.split("|")[:-1]] for name, rest in rows}
    return {name: found for name, found in cells.items() if len(found) == len(RATES)}


def arrivals(per_hour: int, minutes: int, each: int) -> list[int]:
    """At even distances, from the first second on."""
    count = per_hour * minutes // 60 // each
    return [1_000 + number * minutes * MINUTE_MS // count for number in range(count)]


def stack(trouble: Trouble, rate: int, each: int) -> Stack:
    begin, end = BEFORE * MINUTE_MS, (BEFORE + trouble.minutes) * MINUTE_MS
    lived = Stack(lambda at: trouble.state if begin <= at < end else "well", each)
    minutes = BEFORE + trouble.minutes + AFTER
    sent = arrivals(rate, minutes, each)
    lived.run(minutes - 60, [at for at in sent if at < (minutes - 60) * MINUTE_MS])
    lived.redrive()  # what a person does when it is over
    lived.run(60, [at for at in sent if at >= (minutes - 60) * MINUTE_MS])
    assert (lived.processed, len(lived.held), lived.dead) == (len(sent), 0, [])
    return lived


@pytest.mark.parametrize("place", range(len(RATES)), ids=[f"{rate} an hour" for rate in RATES])
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda it: it.name)
def test_each_alarm_sounds_once_and_clears_once_or_keeps_silent(trouble: Trouble, place: int) -> None:
    lived = stack(trouble, RATES[place], trouble.each[place])
    sound = documented()[trouble.name][place]
    assert sound
    for how, changes in lived.changes().items():
        assert changes == {name: ["ALARM", "OK"] for name in sound}, how


def test_a_poisoned_message_makes_dead_letters_sound_and_nothing_else() -> None:
    lived = Stack(lambda _: "well")
    lived.run(5 * 60, arrivals(100, 5 * 60, 1), poison=[BEFORE * MINUTE_MS + 7])
    assert len(lived.dead) == 1
    lived.dead.clear()  # purged
    lived.run(60)
    (sound,) = {frozenset(cell) for cell in documented()["one message is poisoned"]}
    for changes in lived.changes().values():
        assert changes == {name: ["ALARM", "OK"] for name in sound}


def test_a_dead_letter_that_nobody_sees_to_is_called_to_mind_before_sqs_deletes_any() -> None:
    lived = Stack(lambda _: "well")
    lived.run(4 * DAY, poison=[1_000])
    lived.dead.clear()
    lived.run(DAY)
    (sound,) = {frozenset(cell) for cell in documented()["and nobody sees to it for 4 days"]}
    for how, changes in lived.changes().items():
        assert changes == {name: ["ALARM", "OK"] for name in sound}
        (reminded, _), *_ = lived.looks[how]["DeadLettersAgeAlarm"].changes
        assert reminded < 4 * DAY


def test_a_night_without_a_message_is_silent() -> None:
    lived = Stack(lambda _: "well")
    lived.run(12 * 60)
    assert [*lived.changes().values()] == [{}, {}]
    assert documented()["nothing comes for a night"] == [set()] * len(RATES)


def test_a_processor_that_cannot_start_for_days_loses_nothing() -> None:
    """After 1,000 receives SQS moves what is healthy: that is two days, and the dead-letter queue has it."""
    end = 3 * DAY * MINUTE_MS
    lived = Stack(lambda at: "cannot start" if at < end else "well")
    sent = arrivals(1, 3 * DAY, 1)
    lived.run(3 * DAY, sent)
    (first, _), *_ = lived.looks["two more"]["DeadLettersAlarm"].changes
    assert first >= 2 * DAY
    lived.run(10)
    lived.redrive()
    lived.run(60)
    assert (lived.processed, lived.dead) == (len(sent), [])


def test_alarms_as_they_are_often_set_come_and_go_or_say_nothing() -> None:
    """Three minutes in a row, on what was put back in each; and on the age that SQS tells: this simulation can fail."""
    trouble = Trouble("", "sick", 4 * 60)
    begin, end = BEFORE * MINUTE_MS, (BEFORE + trouble.minutes) * MINUTE_MS
    lived = Stack(lambda at: trouble.state if begin <= at < end else "well")
    told = (f"Decoupled/{STACK}", "unavailable", ())
    age = ("AWS/SQS", "ApproximateAgeOfOldestMessage", (("QueueName", "Queue"),))
    restless = Alarm(told, "Sum", 1, 3, 3, 0, "notBreaching")
    blind = Alarm(age, "Maximum", 1, 3, 3, 900, "notBreaching")
    lived.looks = {"": {"restless": restless, "blind": blind}}
    lived.run(BEFORE + trouble.minutes + AFTER, arrivals(10, BEFORE + trouble.minutes, 1))
    assert len(restless.changes) > 10
    assert blind.changes == []


# --- the model --------------------------------------------------------------------

GUIDE = (  # of three data points three, of five that are looked at: 0 is well, X breaches, - is missing
    ("0-X-X", "OK", "OK", 3),
    ("0----", "OK", "OK", 3),
    ("-----", "ALARM", "OK", 3),
    ("0XX-X", "ALARM", "ALARM", 3),
    ("----X", "ALARM", "OK", 3),
    ("X----", "ALARM", "OK", 3),
    ("0-X-X", "ALARM", "ALARM", 2),  # and two of three
    ("00X0X", "ALARM", "ALARM", 2),
    ("0-X--", "ALARM", "OK", 2),
    ("----0", "ALARM", "OK", 2),
    ("----X", "ALARM", "OK", 2),
)


@pytest.mark.parametrize(("points", "breaching", "not_breaching", "datapoints"), GUIDE)
def test_the_model_evaluates_as_the_guide_s_tables_do(
    points: str, breaching: str, not_breaching: str, datapoints: int
) -> None:
    seen = [{"0": False, "X": True, "-": None}[point] for point in points]
    assert evaluated(seen, 3, datapoints, "breaching") == breaching
    assert evaluated(seen, 3, datapoints, "notBreaching") == not_breaching


def test_an_alarm_of_many_minutes_slides_by_one_and_adds_up_or_takes_the_largest() -> None:
    lived = Stack(lambda _: "well")
    for minute, value in ((3, 2.0), (4, 1.0), (9, 2.0)):
        lived.metrics.put("n", "m", minute, value)
    sums = Alarm(("n", "m", ()), "Sum", 5, 1, 1, 2.5, "notBreaching", more=0)
    largest = Alarm(("n", "m", ()), "Maximum", 5, 1, 1, 1.5, "notBreaching", more=0)
    for minute in range(20):
        sums.look(lived.metrics, minute)
        largest.look(lived.metrics, minute)
    assert sums.changes == [(4, "ALARM"), (8, "OK")]
    assert largest.changes == [(3, "ALARM"), (8, "OK"), (9, "ALARM"), (14, "OK")]


def test_every_alarm_that_a_stack_has_is_looked_at() -> None:
    alarms = {n: it for n, it in template.load()["Resources"].items() if it["Type"] == "AWS::CloudWatch::Alarm"}
    of_others = {name for name, it in alarms.items() if it.get("Condition") == "WithOrderedWorkloads"}
    of_others |= {name for name, it in alarms.items() if it.get("Condition") == "WithOwnQueues"}
    state: Callable[[int], State] = lambda _: "well"  # noqa: E731
    assert {*Stack(state).looks["two more"]} == alarms.keys() - of_others
