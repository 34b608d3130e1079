"""What errors have in common."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.alike import alike

TEXTS = st.one_of(
    st.text(max_size=700),
    st.text(alphabet="'\"a1-.@:/ \\…#?", max_size=300),
    st.lists(
        st.sampled_from(
            [
                "no",
                "order",
                "4711",
                "'x y'",
                '"q"',
                "https://h.example:80/a?b=1",
                "http://10.0.0.7:81/x",
                "a.b@c.d",
                "deadbeef",
                "can't",
                "…",
            ]
        ),
        max_size=60,
    ).map(" ".join),
)


@pytest.mark.parametrize(
    ("error", "left"),
    [
        ("no order 4711", "no order #"),
        ("'sku-1'", "'…'"),
        ("\"it's\" is not one of 'a', 'b'", "\"…\" is not one of '…', '…'"),
        ("can't find 'x'", "can't find '…'"),
        ("ada@example.com bounced", "…@… bounced"),
        ("GET https://api.example/v1/orders/17?key=s3 failed", "GET https://api.example/… failed"),
        ("http://10.0.0.7:8080/x: timed out", "http://#.#.#.#:#/… timed out"),
        ("0b0a7f3c-1c7e-4d0a-9c53-5a5c3e7a9b10 is gone", "# is gone"),
        ("abcdefab-abcd-abcd-abcd-abcdefabcdef is gone", "# is gone"),
        ("<Lock object at 0x7f3a2c>", "<Lock object at #>"),
        ("due 2026-11-29T22:04:01.5Z, not 1,000.50", "due #, not #"),
        ("missing required field `customer` - at `$.lines[3]`", "missing required field `customer` - at `$.lines[#]`"),
        ("two\n  lines\there", "two lines here"),
        ("no product of that name", "no product of that name"),
        ("", ""),
    ],
)
def test_what_differs_from_one_message_to_the_next_is_taken_out(error: str, left: str) -> None:
    assert alike("KeyError", error) == (f"KeyError: {left}" if left else "KeyError")


def test_errors_of_different_types_or_words_are_not_alike() -> None:
    errors = [("KeyError", "no order 1"), ("ValueError", "no order 1"), ("KeyError", "no customer 1")]
    assert len({alike(*error) for error in errors}) == 3


@given(st.integers(0), st.integers(0), st.uuids(), st.uuids(), st.emails(), st.emails())
def test_messages_of_one_bug_are_alike(n: int, m: int, one: object, other: object, ada: str, bob: str) -> None:
    ada, bob = ada.replace("'", ""), bob.replace("'", "")
    first, second = (
        alike("ValueError", f"order {number} of '{who}' ({an_id}) is over its limit of {number}.00")
        for number, who, an_id in ((n, ada, one), (m, bob, other))
    )
    assert first == second == "ValueError: order # of '…' (#) is over its limit of #"


@given(TEXTS)
@example("'" * 501)
@example("a@" * 250)
@example("x" * 199 + "1y")
@example("y " * 99 + "'a b'c")
def test_to_take_it_out_again_changes_nothing_and_the_length_is_bounded(error: str) -> None:
    left = alike("E", error)
    assert alike("E", left.removeprefix("E").removeprefix(": ")) == left
    assert len(left) <= limits.MAX_ALIKE_CHARS + len("E: ")


@given(TEXTS, st.randoms())
def test_which_digits_there_are_makes_no_difference(error: str, random: object) -> None:
    other = "".join(str(random.randrange(10)) if it in "0123456789" else it for it in error)  # type: ignore[attr-defined]
    assert alike("E", error) == alike("E", other)
