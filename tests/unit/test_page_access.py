"""Who may see the page, and who may change something: codes, sessions, names and origins that are not what they should
be open nothing."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from decoupled.core import api_keys, limits
from decoupled.core.api_keys import Keys, KeysError
from decoupled.core.problem import Problem, Response
from decoupled.core.workload import Unavailable
from decoupled.dashboard import access
from decoupled.dashboard.access import Rules, Who
from decoupled.dashboard.gate import Gate
from decoupled.dashboard.shapes import Access
from decoupled.pipeline.call import Call
from tests.support.forged import TRIES
from tests.support.model_engine import ManualClock

NOW = 1_795_000_000_000
SECRET, OTHER = b"s" * access.SECRET_BYTES, b"o" * access.SECRET_BYTES
PAGE = {"x-decoupled": "page", "host": "127.0.0.1:8080"}


class Book:
    """The keys' file and the secret's, and what may go wrong with them."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.keys: Keys = []
        self.unreadable = False
        self.secret: bytes | None = SECRET

    def read(self) -> Keys | None:
        if self.unreadable:
            raise KeysError("it cannot be read")
        return self.keys

    def add(self, name: str, **more: Any) -> str:
        self.keys, text = api_keys.add(self.keys, name, self.clock(), secrets.token_hex, **more)
        return text

    def gate(self, *, open_: bool = False, keys: bool = True, operators: tuple[str, ...] = (), **more: bool) -> Gate:
        rules = Rules(open=open_, hosts=("shop.example",), keys=keys, operators=operators, **more)
        return Gate(rules, lambda _make: self.secret, self.read, self.clock)

    def code(self, secret: bytes = SECRET) -> str:
        return access.code(secret, self.clock(), b"nonce")


@pytest.fixture
def book() -> Book:
    return Book()


def call(cookie: str = "", body: object = None, **headers: str) -> Call:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call(["-", "x"], "", {**PAGE, **named, "cookie": cookie}, msgspec.json.encode(body))


def signed_in(gate: Gate, **given: str) -> str:
    """The cookie, as a browser sends it back."""
    answer = gate.sign_in(call(body=given), "10.0.0.1")
    assert msgspec.json.decode(answer.body, type=Access).change is not gate.rules.read_only
    return answer.headers["set-cookie"].partition(";")[0]


def refusal(make: Callable[[], object]) -> int:
    with pytest.raises(Problem) as refused:
        make()
    return refused.value.status


# --- codes and sessions -------------------------------------------------------


def test_a_code_makes_a_session_that_may_change_something(book: Book) -> None:
    gate = book.gate()
    cookie = signed_in(gate, code=book.code())
    granted = gate.check_seen(call(cookie))
    assert (granted.see, granted.change, granted.name) == (True, True, "operator")
    gate.check_changed(call(cookie))


def test_the_cookie_is_for_this_server_and_no_script(book: Book) -> None:
    header = book.gate().sign_in(call(body={"code": book.code()}), "10.0.0.1").headers["set-cookie"]
    assert header.split("; ")[1:] == ["Path=/", f"Max-Age={limits.SESSION_S}", "HttpOnly", "SameSite=Strict"]
    secure = book.gate(secure=True).sign_in(call(body={"code": book.code()}), "10.0.0.1").headers["set-cookie"]
    assert secure.endswith("; Secure")
    assert secure.startswith("__Host-decoupled-")  # beside it, the same directory's page without TLS sets its own


def test_a_code_ends_after_ten_minutes_and_a_session_after_eight_hours(book: Book) -> None:
    gate, code = book.gate(), book.code()
    book.clock.advance(limits.SIGN_IN_CODE_S - 0.001)
    cookie = signed_in(gate, code=code)
    book.clock.advance(0.001)
    assert refusal(lambda: gate.sign_in(call(body={"code": code}), "10.0.0.1")) == 403
    book.clock.advance(limits.SESSION_S - 0.002)
    assert gate.access_of(call(cookie)).change
    book.clock.advance(0.001)
    assert not gate.access_of(call(cookie)).change


def test_what_was_signed_for_one_purpose_is_no_good_for_another(book: Book) -> None:
    gate = book.gate()
    name = access.cookie_name(SECRET)
    assert not gate.access_of(call(f"{name}={book.code()}")).see
    session = access.session(SECRET, Who("code", "operator", "", NOW + 1_000))
    assert refusal(lambda: gate.sign_in(call(body={"code": session}), "10.0.0.1")) == 403


def test_another_data_directory_opens_nothing_here(book: Book) -> None:
    gate = book.gate()
    assert refusal(lambda: gate.sign_in(call(body={"code": book.code(OTHER)}), "10.0.0.1")) == 403
    session = access.session(OTHER, Who("code", "operator", "", NOW + 1_000))
    for secret in (SECRET, OTHER):
        assert not gate.access_of(call(f"{access.cookie_name(secret)}={session}")).see


def test_to_delete_the_secret_ends_every_session(book: Book) -> None:
    gate = book.gate()
    cookie = signed_in(gate, code=book.code())
    book.secret = None
    assert not gate.access_of(call(cookie)).see
    book.secret = OTHER
    assert not gate.access_of(call(cookie)).see


def test_a_secret_that_cannot_be_read_is_for_the_log_and_not_for_strangers(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    def secret(_make: bool) -> bytes | None:
        raise Unavailable("/srv/shop/page.secret cannot be used: [Errno 13] Permission denied")

    gate = Gate(Rules(open=False), secret, book.read, book.clock)
    for ask in (
        lambda: gate.access_of(call("decoupled-0=x")),
        lambda: gate.sign_in(call(body={"code": "x"}), "1.2.3.4"),
        lambda: gate.sign_out(call()),
    ):
        with pytest.raises(Problem) as refused:
            ask()
        assert (refused.value.status, "/srv" in refused.value.detail) == (503, False)
    assert len(caplog.records) == 1
    assert "Permission denied" in caplog.records[0].__dict__["error"]


def test_of_many_forged_sessions_none_is_one(book: Book) -> None:
    gate = book.gate()
    name, _, right = signed_in(gate, code=book.code()).partition("=")
    rng = random.Random(7)
    almost = [right[:-1], right[1:], right + "A", right + "=", right.partition(".")[0], right.upper(), "." + right, ""]
    for _ in range(TRIES):
        place = rng.randrange(len(right))
        other = rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
        almost.append(right[:place] + other + right[place + 1 :])
    for text in set(almost) - {right}:
        assert not gate.access_of(call(f"{name}={text}")).see, text
    assert not gate.access_of(call(f"{name}={right}; {name}={right}")).see  # which of the two?
    assert gate.access_of(call(f"a=b; {name}={right}; c=d")).see


def test_signing_out_has_the_browser_forget_the_session(book: Book) -> None:
    gate = book.gate()
    name = signed_in(gate, code=book.code()).partition("=")[0]
    header = gate.sign_out(call()).headers["set-cookie"]
    assert header.startswith(f"{name}=; ")
    assert "Max-Age=0" in header


# --- keys ---------------------------------------------------------------------


def test_an_operators_key_is_good_to_sign_in_with_and_no_other(book: Book) -> None:
    gate = book.gate(operators=("key:named",))
    for key in (book.add("ana", operator=True), book.add("named")):
        assert gate.access_of(call(signed_in(gate, key=key))).change
    for text in (book.add("shop"), "dk_" + "0" * 12 + "_" + "0" * 64, "", "x" * 10_000):
        assert refusal(partial(gate.sign_in, call(body={"key": text}), "10.0.0.1")) == 403
    without = book.gate(keys=False)
    assert without.access_of(call()).how == ["code"]
    assert refusal(lambda: without.sign_in(call(body={"key": book.add("eve", operator=True)}), "10.0.0.1")) == 403


def test_an_operator_of_some_workloads_is_none_of_the_page(book: Book) -> None:
    """It would see and change what all others have."""
    gate = book.gate(operators=("key:boss",))
    for name in ("ana", "boss"):
        text = book.add(name, operator=name == "ana", workloads=["ledger"])
        assert refusal(lambda text=text: gate.sign_in(call(body={"key": text}), "10.0.0.1")) == 403  # type: ignore[misc]


def test_a_session_ends_with_its_key(book: Book) -> None:
    gate = book.gate()
    key = book.add("ana", operator=True)
    cookie = signed_in(gate, key=key)
    assert gate.access_of(call(cookie)).change
    book.unreadable = True
    assert gate.access_of(call(cookie)).change  # it counts as it did
    book.unreadable = False
    book.keys, _ = api_keys.revoke(book.keys, "ana")
    assert not gate.access_of(call(cookie)).see
    assert refusal(lambda: gate.check_changed(call(cookie))) == 403


def test_a_session_lasts_no_longer_than_its_key(book: Book) -> None:
    gate = book.gate()
    cookie = signed_in(gate, key=book.add("ana", operator=True, life_s=60))
    book.clock.advance(59.999)
    assert gate.access_of(call(cookie)).change
    book.clock.advance(0.001)
    assert not gate.access_of(call(cookie)).see


def test_a_caller_who_is_no_operator_any_more_changes_nothing(book: Book) -> None:
    key = book.add("ana")
    cookie = signed_in(book.gate(operators=("key:ana",)), key=key)
    assert not book.gate().access_of(call(cookie)).see


# --- who sees what ------------------------------------------------------------


def test_where_callers_are_asked_nobody_sees_anything_before_signing_in(book: Book) -> None:
    gate = book.gate()
    assert refusal(lambda: gate.check_seen(call())) == 401
    assert refusal(lambda: gate.check_changed(call())) == 403
    assert gate.check_seen(msgspec.structs.replace(call(), caller="key:ana", operator=True)).see
    assert refusal(lambda: gate.check_seen(msgspec.structs.replace(call(), caller="key:shop"))) == 401


def test_where_nobody_is_asked_everybody_sees_and_only_who_signed_in_changes(book: Book) -> None:
    gate = book.gate(open_=True, keys=False)
    assert gate.check_seen(call()).change is False
    assert refusal(lambda: gate.check_changed(call())) == 403
    gate.check_changed(call(signed_in(gate, code=book.code())))


def test_a_page_that_only_shows_changes_nothing_for_anybody(book: Book) -> None:
    gate = book.gate(read_only=True)
    cookie = signed_in(gate, code=book.code())
    assert gate.check_seen(call(cookie)).change is False
    assert refusal(lambda: gate.check_changed(call(cookie))) == 403


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "localhost:1", "a.localhost", "10.1.2.3"]
)
def test_an_address_is_nobodys_to_point_elsewhere(book: Book, host: str) -> None:
    assert book.gate(open_=True).check_seen(call(host=host)).see


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_a_name_that_is_not_the_servers_shows_nothing(book: Book, host: str) -> None:
    gate = book.gate(open_=True)
    assert refusal(lambda: gate.check_seen(call(host=host))) == 403
    assert refusal(lambda: gate.sign_in(call(body={"code": book.code()}, host=host), "10.0.0.1")) == 403
    assert gate.check_seen(call(host="SHOP.example.:80")).see


@pytest.mark.parametrize(
    "headers",
    [{"x_decoupled": ""}, {"x_decoupled": "1"}, {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}],
)
def test_a_change_comes_from_the_page_itself(book: Book, headers: dict[str, str]) -> None:
    gate = book.gate(open_=True)
    cookie = signed_in(gate, code=book.code())
    assert refusal(lambda: gate.check_changed(call(cookie, **headers))) == 403
    assert refusal(lambda: gate.sign_in(call(body={"code": book.code()}, **headers), "10.0.0.1")) == 403
    assert refusal(lambda: gate.sign_out(call(**headers))) == 403


def test_attempts_are_limited_by_address_and_shut_nobody_out(book: Book) -> None:
    gate = book.gate()

    def attempt(client: str, code: str = "wrong") -> int:
        try:
            answer: Response = gate.sign_in(call(body={"code": code}), client)
        except Problem as problem:
            return problem.status
        return answer.status

    assert [attempt("10.0.0.1") for _ in range(limits.SIGN_IN_ATTEMPTS)] == [403] * limits.SIGN_IN_ATTEMPTS
    assert attempt("10.0.0.1") == 429
    assert attempt("10.0.0.1", book.code()) == 200  # behind a proxy, all have one address
    assert attempt("10.0.0.2") == 403
    book.clock.advance(limits.SIGN_IN_SPAN_S)
    assert attempt("10.0.0.1") == 403
    for number in range(limits.MAX_SIGN_IN_ADDRESSES + 10):
        attempt(f"client {number}")
    assert len(gate._attempts._failed) == limits.MAX_SIGN_IN_ADDRESSES


@pytest.mark.parametrize("body", [b"", b"[]", b'{"code": 1}', b'{"cod": "x"}', b"\xff"])
def test_what_is_no_sign_in_is_told_so(book: Book, body: bytes) -> None:
    asked = msgspec.structs.replace(call(), body=body)
    assert refusal(lambda: book.gate().sign_in(asked, "10.0.0.1")) == 422
