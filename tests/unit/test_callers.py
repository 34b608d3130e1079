"""Who is let in by an API key: the right ones, as long as they count, and nobody else."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping, Sequence

import pytest

from decoupled.core import api_keys, limits, senders
from decoupled.core.api_keys import Keys, KeysError
from decoupled.core.problem import Problem
from decoupled.core.senders import Senders
from decoupled.server.callers.api_keys import ApiKeys
from decoupled.server.callers.callers import Caller, Callers
from decoupled.server.callers.signatures import Signatures
from decoupled.server.health import Trouble
from decoupled.server.http.gateway import call_of
from decoupled.server.http.request import Request
from tests.support.forged import TRIES
from tests.support.model_engine import ManualClock
from tests.support.webhooks import STRIPE, by_stripe


class Book:
    """Keys that are read as those of a file are, and what may go wrong with that."""

    def __init__(self) -> None:
        self.keys: Keys = []
        self.clock = ManualClock(1_795_000_000_000)
        self.changed = True
        self.error: str | None = None

    def read(self) -> Keys | None:
        if self.error is not None:
            raise KeysError(self.error)
        changed, self.changed = self.changed, False
        return self.keys if changed else None

    def change(self, by: Callable[..., tuple[Keys, str]], name: str, **more: object) -> str:
        self.keys, key = by(self.keys, name, self.clock(), secrets.token_hex, **more)
        self.changed = True
        return key

    def revoke(self, name: str) -> None:
        self.keys, _ = api_keys.revoke(self.keys, name)
        self.changed = True

    def callers(self) -> Callers:
        self.changed = True
        self.proof = ApiKeys(self.read, self.clock)
        return Callers([self.proof])


@pytest.fixture
def book() -> Book:
    return Book()


def refused(callers: Callers, *headers: tuple[str, str]) -> tuple[int, str]:
    with pytest.raises(Problem) as refusal:
        proved(callers, dict(headers))
    assert refusal.value.status != 401 or refusal.value.headers == {"www-authenticate": "Bearer"}
    return refusal.value.status, refusal.value.detail


def proved(callers: Callers, headers: Mapping[str, str]) -> Caller:
    return callers.of(headers, ["orders"], b"")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_key_is_taken_in_either_header_and_tells_who_calls(book: Book) -> None:
    key = book.change(api_keys.add, "ana")
    callers = book.callers()
    for headers in (bearer(key), {"authorization": f"bearer {key}"}, {"x-api-key": key}):
        for _ in range(2):  # proved, and known
            assert proved(callers, headers).name == "key:ana"


def test_what_is_no_key_is_refused_and_told_how_to_send_one(book: Book) -> None:
    key = book.change(api_keys.add, "ana")
    callers = book.callers()
    assert refused(callers) == (401, "Send your API key: as Authorization: Bearer, or as x-api-key.")
    for given in ("", "Bearer", "Bearer ", f"Basic {key}", key, f"Bearer {key},Bearer {key}", f"Bearer Bearer {key}"):
        assert refused(callers, ("authorization", given)) == (401, "This is no API key of this server.")
    for given in ("", f"Bearer {key}", f"{key},{key}"):
        assert refused(callers, ("x-api-key", given))[0] == 401


def test_two_keys_in_one_request_are_none(book: Book) -> None:
    key = book.change(api_keys.add, "ana")
    status, detail = refused(book.callers(), ("authorization", f"Bearer {key}"), ("x-api-key", key))
    assert (status, detail.split(":")[0]) == (401, "Send one key")


def test_of_many_forged_keys_none_is_let_in(book: Book) -> None:
    """Those that an attacker could make who knows the form, all ids, and other keys that are right."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    real = [book.change(api_keys.add, f"caller-{number}") for number in range(20)]
    callers = book.callers()
    let_in: list[object] = []
    for number in range(TRIES):
        key = forged(chance, real)
        try:
            let_in.append((key, proved(callers, bearer(key) if number % 2 else {"x-api-key": key})))
        except Problem as problem:
            if problem.status != 401:
                let_in.append((key, problem))
        if number % 1000 == 0:
            proved(callers, bearer(chance.choice(real)))  # among those that are right
    assert let_in == [], f"seed {seed}"
    assert [proved(callers, bearer(key)).name for key in real] == [f"key:caller-{number}" for number in range(20)]


def forged(chance: random.Random, real: list[str]) -> str:
    one, other = chance.sample(real, 2)
    place = chance.randrange(len(one))
    match chance.randrange(8):
        case 0:  # any secret
            return f"{one[:16]}{chance.randrange(2**256):064x}"
        case 1:  # one digit wrong
            return one[:place] + chance.choice([c for c in "0123456789abcdef_" if c != one[place]]) + one[place + 1 :]
        case 2:  # the secret of another
            return one[:16] + other[16:]
        case 3:  # a part of it
            return one[:place]
        case 4:  # and more
            return one + chance.choice([" ", "\n", "\0", "0", ",", one])
        case 5:
            return one.upper()
        case 6:  # a digit of another script
            return one[:place] + chr(0xFF10 + chance.randrange(10)) + one[place + 1 :]
        case _:
            return "".join(chr(chance.randrange(256)) for _ in range(chance.randrange(90)))


def test_an_expired_key_is_refused_also_when_it_was_known(book: Book) -> None:
    key = book.change(api_keys.add, "ana", life_s=60)
    callers = book.callers()
    assert proved(callers, bearer(key)).name == "key:ana"
    book.clock.advance(60)
    assert refused(callers, *bearer(key).items()) == (401, "This API key has expired.")
    assert refused(book.callers(), *bearer(key).items())[0] == 401


def test_a_revoked_key_is_refused_from_the_next_look_on(book: Book) -> None:
    ana, ben = (book.change(api_keys.add, name) for name in ("ana", "ben"))
    callers = book.callers()
    assert proved(callers, bearer(ana)).name == "key:ana"
    book.revoke("ana")
    book.proof.look()
    assert refused(callers, *bearer(ana).items())[0] == 401
    assert proved(callers, bearer(ben)).name == "key:ben"


def test_while_one_key_takes_the_place_of_another_both_are_the_same_caller(book: Book) -> None:
    before = book.change(api_keys.add, "ana")
    callers = book.callers()
    after = book.change(api_keys.rotate, "ana", overlap_s=60)
    book.proof.look()
    assert {proved(callers, bearer(key)).name for key in (before, after)} == {"key:ana"}
    book.clock.advance(60)
    assert refused(callers, *bearer(before).items())[0] == 401
    assert proved(callers, bearer(after)).name == "key:ana"


def test_keys_that_cannot_be_read_any_more_count_as_they_were(book: Book) -> None:
    key = book.change(api_keys.add, "ana")
    callers = book.callers()
    assert callers.trouble() is None
    book.error = "keys is damaged"
    book.proof.look()
    trouble = callers.trouble()
    assert trouble is not None
    assert (trouble.detail, trouble.refuses) == ("API keys count as they were: keys is damaged", False)
    assert proved(callers, bearer(key)).name == "key:ana"
    assert refused(callers)[0] == 401
    book.error = None
    book.revoke("ana")
    book.proof.look()
    assert callers.trouble() is None
    assert refused(callers, *bearer(key).items())[0] == 401


def test_nobody_is_let_in_while_no_keys_could_be_read_yet(book: Book) -> None:
    key = book.change(api_keys.add, "ana")
    book.error = "there is no keys"
    callers = book.callers()
    assert refused(callers, *bearer(key).items())[0] == 503
    assert refused(callers)[0] == 401
    trouble = callers.trouble()
    assert trouble is not None
    assert trouble.refuses
    book.error = None
    book.proof.look()
    assert proved(callers, bearer(key)).name == "key:ana"


def test_looks_go_on_by_themselves(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "API_KEYS_LOOK_S", 0.01)
    callers = book.callers()

    async def until_known(key: str) -> None:
        async with asyncio.timeout(10):
            await callers.watch(asyncio.get_running_loop())
            while True:
                try:
                    proved(callers, bearer(key))
                except Problem:
                    await asyncio.sleep(0.01)
                else:
                    return

    asyncio.run(until_known(book.change(api_keys.add, "ana")))


def test_no_more_is_known_by_heart_than_may_be(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_KNOWN", 2)
    keys = [book.change(api_keys.add, f"caller-{number}") for number in range(4)]
    callers = book.callers()
    for _ in range(2):
        assert [proved(callers, bearer(key)).name for key in keys] == [f"key:caller-{number}" for number in range(4)]
        assert len(book.proof._known._callers) == 2


# --- several kinds of proof ---------------------------------------------------


class Password:
    """Proof by a word in a header; `why`: it cannot be checked."""

    kind, noun, asks, challenge = "word", "word", "your word, as x-word", "Bearer"

    def __init__(self, why: str | None = None) -> None:
        self.why = why

    def of(self, headers: Mapping[str, str], path: Sequence[str], body: bytes | bytearray) -> Caller | None:
        return Caller("word:eve", False, None, None) if headers.get("x-word") == "please" else None

    async def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        raise AssertionError("nobody looks here")

    def trouble(self) -> Trouble | None:
        return None if self.why is None else Trouble(self.why, refuses=True)


def test_the_first_kind_that_finds_its_own_in_a_request_says_who_calls(book: Book) -> None:
    key = book.change(api_keys.add, "ana")
    book.callers()
    callers = Callers([book.proof, Password()])
    assert proved(callers, bearer(key)).name == "key:ana"
    assert proved(callers, {"x-word": "please"}).name == "word:eve"
    assert proved(callers, {"authorization": "Basic eA==", "x-word": "please"}).name == "word:eve"
    assert refused(callers)[1] == (
        "Send your API key: as Authorization: Bearer, or as x-api-key; or your word, as x-word."
    )
    assert refused(callers, *bearer("x").items())[1] == "This is no API key and no word of this server."
    assert refused(callers, *bearer("dk_x").items())[1] == "This is no API key of this server."


def test_nobody_can_be_let_in_only_if_no_kind_of_proof_can_be_checked(book: Book) -> None:
    book.callers()
    assert Callers([book.proof, Password()]).trouble() is None
    told = Callers([book.proof, Password("no words")]).trouble()
    assert told is not None
    assert (told.detail, told.refuses) == ("no words", False)
    book.error = "no keys"
    book.callers()
    told = Callers([book.proof, Password("no words")]).trouble()
    assert told is not None
    assert (told.detail, told.refuses) == ("nobody can be let in: no keys; no words", True)


# --- what it may do -----------------------------------------------------------


def asked(callers: Callers, target: str, key: str | None = None, method: str = "POST") -> int | tuple[str, bool]:
    """The caller of the call that the request comes to, and whether an operator's; or the status of the refusal."""
    request = Request()
    request.method, request.target = method, target.encode()
    request.headers = {} if key is None else bearer(key)
    try:
        call = call_of(request, callers)
    except Problem as problem:
        return problem.status
    return call.caller, call.operator


def test_every_route_but_health_asks_for_a_key_and_tells_nothing_without(book: Book) -> None:
    key = book.change(api_keys.add, "ana")
    callers = book.callers()
    assert asked(callers, "/health", method="GET") == ("anonymous", False)
    for method, target in (
        ("POST", "/orders"),
        ("GET", "/orders/x"),
        ("GET", "/a/b/c"),
        ("PUT", "/"),
        ("GET", "/a/b/c/d"),
        ("GET", "/%68ealth/"),
        ("GET", "//health"),
    ):
        assert asked(callers, target, method=method) == 401, target
    assert asked(callers, "/orders", key) == ("key:ana", False)
    assert asked(callers, "/orders", key, "PUT") == 405
    assert asked(callers, "/", key) == 404


def test_a_key_for_some_workloads_opens_no_other(book: Book) -> None:
    key = book.change(api_keys.add, "ana", workloads=["orders", "returns"])
    operator = book.change(api_keys.add, "ops", operator=True)
    callers = book.callers()
    assert asked(callers, "/orders", key) == ("key:ana", False)
    assert asked(callers, "/returns/x", key, "GET") == ("key:ana", False)
    for target, method in (("/transactions", "POST"), ("/transactions/x", "GET"), ("/no/such/thing", "GET")):
        assert asked(callers, target, key, method) == 403
        assert asked(callers, target, operator, method) == ("key:ops", True)
    assert asked(callers, "/health", key, "GET") == ("anonymous", False)


def test_senders_of_webhooks_are_let_in_once_their_secrets_can_be_read() -> None:
    known = senders.add([], "till", "stripe", ["payments"], STRIPE, 0)
    error: KeysError | None = KeysError("there is no file")

    def read() -> Senders | None:
        if error is not None:
            raise error
        return known

    proof = Signatures(read, lambda: 60_000)
    headers, body = by_stripe(STRIPE, "", 60, '{"id":"evt_1"}'), b'{"id":"evt_1"}'
    with pytest.raises(Problem) as refusal:
        proof.of(headers, ["payments"], body)
    assert (refusal.value.status, refusal.value.resend) == (503, "safe")
    assert proof.trouble() == Trouble("nobody can be let in: there is no file", refuses=True)
    assert proof.of({"x-api-key": "dk_0"}, ["payments"], body) is None
    error = None
    proof.look()
    assert proof.trouble() is None
    assert proof.of(headers, ["payments"], body) == Caller(
        "webhook:till", False, frozenset(["payments"]), None, "evt_1"
    )
    assert Callers([proof]).of(headers, ["payments"], body).event == "evt_1"
