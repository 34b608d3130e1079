"""Who is let in by a JWT: whose it is, what it must say, and none of what could be forged."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from joserfc.jwk import OctKey, RSAKey

from decoupled.core import limits
from decoupled.core.problem import Problem
from decoupled.pipeline.call import call_of
from decoupled.server.callers.callers import Caller, Callers
from decoupled.server.callers.token_keys import read_keys
from decoupled.server.callers.tokens import Tokens
from tests.support import virtual_time
from tests.support.events import http_event
from tests.support.forged import TRIES
from tests.support.issuer import URL, Keyset
from tests.support.model_engine import ManualClock

pytestmark = pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")

NOW_S = 1_795_000_000
KINDS = {"one": "RSA", "two": "P-256", "three": "P-384", "four": "P-521", "five": "Ed25519"}
ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "one"),
    "ES256": "two",
    "ES384": "three",
    "ES512": "four",
    "EdDSA": "five",
}


@pytest.fixture(scope="module")
def keyset() -> Keyset:
    return Keyset(**KINDS)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_S * 1000)


@pytest.fixture
def tokens(keyset: Keyset, clock: ManualClock) -> Tokens:
    return knows(keyset.text(), clock)


def knows(text: bytes, clock: ManualClock, audiences: tuple[str, ...] = ("shop", "till")) -> Tokens:
    """With the keys of this set; nobody looks for others."""

    async def fetch() -> bytes:
        return text

    tokens = Tokens(URL, audiences, {f"jwt:{URL}#ops"}, clock, fetch)

    async def watch() -> None:
        await tokens.watch(asyncio.get_running_loop())

    virtual_time.run(watch())
    return tokens


def good(keyset: Keyset, **more: Any) -> str:
    return keyset.token(now_s=NOW_S, **more)


def of(tokens: Tokens, token: str) -> Caller:
    return Callers([tokens]).of({"authorization": f"Bearer {token}"}, ["orders"], b"")


def refusal(tokens: Tokens, token: str) -> str:
    """Why it is refused, as a 401."""
    with pytest.raises(Problem) as refused:
        of(tokens, token)
    assert refused.value.status == 401, refused.value.detail
    why = refused.value.detail
    expected = f'Bearer error="invalid_token", error_description="{why.removesuffix(".")}"'
    assert refused.value.headers == {"www-authenticate": expected}
    return why


# --- good ones ----------------------------------------------------------------


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_token_that_another_library_signed_is_taken(alg: str, keyset: Keyset, tokens: Tokens) -> None:
    token = good(keyset, key=ALGORITHMS[alg], alg=alg)
    for _ in range(2):  # proved, and known
        assert of(tokens, token).name == "jwt:https://issuer.example#ana"
    assert refusal(tokens, token[:-8] + "AAAAAAAA") == "The token's signature is wrong."


def test_what_the_key_says_of_its_algorithm_counts(keyset: Keyset, clock: ManualClock) -> None:
    tokens = knows(keyset.text(alg="PS256"), clock)
    assert of(tokens, good(keyset, alg="PS256")).name == "jwt:https://issuer.example#ana"
    assert refusal(tokens, good(keyset, alg="RS256")) == "The key is for another algorithm."


@pytest.mark.parametrize("subject", ["ana", "Zoë with spaces", "auth0|5f7c8ec7", "a#b", "x" * 255])
def test_the_caller_is_the_one_that_api_gateway_makes_of_the_claims(
    subject: str, keyset: Keyset, tokens: Tokens
) -> None:
    token = good(keyset, sub=subject)
    claims = jwt.decode(token, options={"verify_signature": False})
    strings = {name: str(value) for name, value in claims.items()}
    event = http_event("POST", "/orders", {"workload": "orders"}, authorizer={"jwt": {"claims": strings}})
    assert of(tokens, token).name == call_of(event).caller == f"jwt:{URL}#{subject}"


@pytest.mark.parametrize("said", [{"aud": ["x", "till"]}, {"aud": None, "client_id": "shop"}, {"aud": "till"}])
def test_one_of_the_audiences_will_do_and_a_client_id_where_there_is_none(
    said: dict[str, Any], keyset: Keyset, tokens: Tokens
) -> None:
    assert of(tokens, good(keyset, **said)).name == "jwt:https://issuer.example#ana"


def test_clocks_may_differ_by_a_minute(keyset: Keyset, tokens: Tokens, clock: ManualClock) -> None:
    ahead = good(keyset, iat=NOW_S + 60, nbf=NOW_S + 60, exp=NOW_S + 61)
    behind = good(keyset, iat=NOW_S - 99, nbf=NOW_S - 99, exp=NOW_S - 59)
    assert of(tokens, ahead).name == of(tokens, behind).name
    clock.advance(1)
    assert refusal(tokens, behind) == "The token has expired."  # also when it was known
    assert refusal(tokens, good(keyset, exp=NOW_S - 59)) == "The token has expired."


def test_iat_and_nbf_may_be_left_out(keyset: Keyset, tokens: Tokens) -> None:
    assert of(tokens, good(keyset, iat=None, nbf=None)).name == "jwt:https://issuer.example#ana"


def test_an_operator_is_one_that_was_named(keyset: Keyset, tokens: Tokens) -> None:
    assert of(tokens, good(keyset, sub="ops")).operator
    assert not of(tokens, good(keyset)).operator
    assert not of(tokens, good(keyset, sub="op")).operator


# --- those that say something else --------------------------------------------

NO_CLAIMS = "The token's claims are no iss, sub, aud and exp, or one of them is none."


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"iss": "https://issuer.example/"}, "The token is another issuer's."),
        ({"iss": "http://issuer.example"}, "The token is another issuer's."),
        ({"iss": None}, NO_CLAIMS),
        ({"iss": ["https://issuer.example"]}, NO_CLAIMS),
        ({"aud": "shops"}, "The token is for another audience."),
        ({"aud": []}, "The token is for another audience."),
        ({"aud": None}, "The token is for another audience."),
        ({"aud": "x", "client_id": "shop"}, "The token is for another audience."),
        ({"aud": {"shop": 1}}, NO_CLAIMS),
        ({"sub": None}, NO_CLAIMS),
        ({"sub": ""}, NO_CLAIMS),
        ({"sub": 7}, NO_CLAIMS),
        ({"sub": "x" * 256}, NO_CLAIMS),
        ({"sub": "a\nb"}, "The token's sub is no text."),
        ({"exp": None}, NO_CLAIMS),
        ({"exp": str(NOW_S + 60)}, NO_CLAIMS),
        ({"exp": 1e300}, NO_CLAIMS),
        ({"exp": NOW_S - 60}, "The token has expired."),
        ({"nbf": NOW_S + 61}, "The token does not count yet."),
        ({"iat": NOW_S + 61}, "The token does not count yet."),
        ({"nbf": "now"}, NO_CLAIMS),
    ],
)
def test_a_token_that_says_something_else_is_refused(
    said: dict[str, Any], why: str, keyset: Keyset, tokens: Tokens
) -> None:
    assert refusal(tokens, good(keyset, **said)) == why


@pytest.mark.parametrize("payload", [b"[]", b"{", b"\xff", b"[" * 5_000, b'{"sub": "\\ud800"}', b""])
def test_signed_nonsense_is_refused(payload: bytes, keyset: Keyset, tokens: Tokens) -> None:
    pem = keyset.pem("one", private=True)
    assert refusal(tokens, jwt.PyJWS().encode(payload, pem, "RS256", {"kid": "one"}))


@pytest.mark.parametrize(
    "given", ["", "x", "x.y", "x.y.z", "a.b.c.d.e", "..", "é.é.é", "x.y.z,x.y.z", "x" * 9_000, "dk_0123456789ab_00"]
)
def test_what_is_no_token_is_refused(given: str, tokens: Tokens) -> None:
    assert refusal(tokens, given)


def test_another_scheme_is_no_token_and_nothing_is_a_word_to_send_one(tokens: Tokens) -> None:
    for headers, why in (
        ({"authorization": "Basic eDp5"}, "This is no token of this server."),
        ({}, "Send your token: as Authorization: Bearer."),
    ):
        with pytest.raises(Problem) as refused:
            Callers([tokens]).of(headers, ["orders"], b"")
        assert (refused.value.status, refused.value.detail) == (401, why)
        assert refused.value.headers == {"www-authenticate": "Bearer"}


@pytest.mark.parametrize(
    "header",
    [{"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"kid": None}, {"kid": 1}, {"kid": "k" * 256}],
)
def test_a_header_that_asks_for_more_than_is_known_is_refused(
    header: Mapping[str, Any], keyset: Keyset, tokens: Tokens
) -> None:
    assert refusal(tokens, signed(keyset, header))


def signed(keyset: Keyset, header: Mapping[str, Any], claims: Mapping[str, Any] | None = None) -> str:
    """A good token but for its header, which no library would write."""
    head = {name: value for name, value in {"alg": "RS256", "kid": "one", **header}.items() if value is not None}
    parts = (head, claims or keyset.claims(NOW_S))
    text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    algorithm = jwt.get_algorithm_by_name("RS256")
    return f"{text}.{encoded(algorithm.sign(text.encode(), algorithm.prepare_key(keyset.pem('one', private=True))))}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_good_one_is_good_in_the_opinion_of_this_test(keyset: Keyset, tokens: Tokens) -> None:
    assert of(tokens, signed(keyset, {})).name == "jwt:https://issuer.example#ana"


# --- forged -------------------------------------------------------------------


def test_of_many_forged_tokens_none_is_let_in(keyset: Keyset, tokens: Tokens, clock: ManualClock) -> None:
    seed = random.randrange(2**32)
    forger = Forger(random.Random(seed), keyset)
    let_in: list[object] = []
    for number in range(TRIES):
        token = forger.token()
        try:
            let_in.append((token, of(tokens, token)))
        except Problem as problem:
            if problem.status != 401 and "not known yet" not in problem.detail:
                let_in.append((token, problem))
        if number % 1_000 == 0:
            assert of(tokens, forger.chance.choice(forger.real)).name == "jwt:https://issuer.example#ana"
    assert let_in == [], f"seed {seed}"


class Forger:
    """Has good tokens of somebody else, the public keys, and keys of its own under their names."""

    def __init__(self, chance: random.Random, keyset: Keyset) -> None:
        self.chance = chance
        self.keyset = keyset
        quick = {alg: key for alg, key in ALGORITHMS.items() if alg not in ("ES384", "ES512")}  # to verify
        self.real = [good(keyset, key=key, alg=alg, jti=str(n)) for n in range(3) for alg, key in quick.items()]
        mine = Keyset(**KINDS)
        # Signatures take time, so some of each are made once; what they are put on is different each time.
        self.forged = [good(mine, key=key, alg=alg, jti=str(n)) for n in range(5) for alg, key in quick.items()]
        embedded = {"jwk": mine.keys["one"].as_dict(private=False), "jku": "https://evil.example/keys"}
        self.forged += [signed(mine, embedded), signed(mine, {"x5u": "https://evil.example", "kid": "two"})]
        pem = [keyset.pem(name) for name in keyset.keys]
        self.secrets = [*pem, *(text.strip() for text in pem), keyset.text(), b"", b"secret"]
        self.wrong = [
            good(keyset, key=key, alg=alg, **said)
            for alg, key in quick.items()
            for said in ({"iss": "https://evil.example"}, {"aud": "another"}, {"exp": NOW_S - 61}, {"sub": ""})
        ]

    def token(self) -> str:
        """Any one."""
        chance, real = self.chance, self.chance.choice(self.real)
        head, body, signature = real.split(".")
        place = chance.randrange(len(real))
        match chance.randrange(40):
            case 0:  # a good signature, on what is not for us
                return chance.choice(self.wrong)
            case 1 | 2 | 3 | 4:  # other claims under a good signature
                return f"{head}.{self.claims()}.{signature}"
            case 5 | 6 | 7 | 8:  # another header
                return f"{self.header()}.{body}.{signature}"
            case 9 | 10 | 11 | 12:  # unsigned
                alg = chance.choice(["none", "None", "NONE", "nOnE", "", "HS0"])
                return f"{self.header(alg=alg)}.{self.claims()}.{chance.choice(['', signature, 'e30'])}"
            case 13 | 14 | 15 | 16:  # the public key as a secret
                return self.hmac()
            case 17 | 18 | 19 | 20:  # signed by another with the same name
                return chance.choice(self.forged)
            case 21 | 22 | 23:  # the signature of another token
                return f"{head}.{body}.{chance.choice([t for t in self.real if t != real]).rpartition('.')[2]}"
            case 24 | 25 | 26:  # cut off
                return real[:place]
            case 27 | 28 | 29 | 30 | 31:  # a character wrong, in a way that a lenient decoder would not see too
                wrong = chance.choice([c for c in "ABCDEFwxyz019-_=+/. \n\0" if c != real[place]])
                return real[:place] + wrong + real[place + 1 :]
            case 32 | 33:  # and more
                return real + chance.choice(["=", "==", "A", ".", "\n", "\0", ",", f",{real}", "!"])
            case 34:  # less
                return real[:place] + real[place + 1 :]
            case 35:
                return chance.choice([real.upper(), real.swapcase(), f"{body}.{head}.{signature}"])
            case 36:  # a signature of nothing
                return f"{head}.{body}.{encoded(bytes(chance.choice([1, 32, 64, 96, 132, 256])))}"
            case _:
                return ".".join(encoded(chance.randbytes(chance.randrange(90))) for _ in range(chance.choice([3, 5])))

    def header(self, **more: Any) -> str:
        alg = self.chance.choice([*ALGORITHMS, "HS256", "ES256K", "none"])
        kid = self.chance.choice([*KINDS, "", "../../etc/passwd", "' OR 1=1 --", None, 1])
        return encoded(json.dumps({"alg": alg, "kid": kid, "typ": "JWT", "x": self.chance.random(), **more}).encode())

    def claims(self) -> str:
        said = {"sub": self.chance.choice(["ana", "ops", "eve"]), "jti": str(self.chance.random())}
        return encoded(json.dumps(self.keyset.claims(NOW_S, **said)).encode())

    def hmac(self) -> str:
        alg = self.chance.choice(["HS256", "HS384", "HS512"])
        kid = self.chance.choice(list(KINDS))
        text = f"{self.header(alg=alg, kid=kid)}.{self.claims()}"
        algorithm = jwt.get_algorithm_by_name(alg)
        return f"{text}.{encoded(algorithm.sign(text.encode(), self.chance.choice(self.secrets)))}"


# --- the key set --------------------------------------------------------------


def test_keys_that_are_for_other_things_are_passed_over(keyset: Keyset) -> None:
    (public,) = [key.as_dict(private=False) for name, key in keyset.keys.items() if name == "one"]
    private = keyset.keys["one"].as_dict(private=True)
    small = RSAKey.generate_key(1024, {"kid": "small"}, auto_kid=False).as_dict(private=False)
    others: list[Any] = [
        OctKey.generate_key(256, {"kid": "oct"}).as_dict(private=True),
        {**public, "kid": "enc", "use": "enc"},
        {**public, "kid": "ops", "key_ops": ["encrypt"]},
        {**public, "kid": "alg", "alg": "HS256"},
        {**public, "kid": ""},
        {**public, "kid": 1},
        {name: value for name, value in public.items() if name != "kid"},
        {**private, "kid": "private"},
        {**public, "kid": "n", "n": "AQ"},
        {**public, "kid": "type", "kty": ["RSA"]},
        {"kid": "curve", "kty": "EC", "crv": "secp256k1", "x": "AQ", "y": "AQ"},
        {"kid": "point", "kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43},
        {"kid": "none", "kty": "none"},
        {},
        small,
    ]
    assert read_keys(json.dumps({"keys": [*others, public]}).encode()).ids == {"one"}
    assert read_keys(json.dumps({"keys": others}).encode()).ids == set()


def test_what_a_key_does_not_say_may_be_written_as_null(keyset: Keyset) -> None:
    (public,) = [key.as_dict(private=False) for name, key in keyset.keys.items() if name == "one"]
    nulls = dict.fromkeys(["alg", "use", "key_ops", "crv", "x5c", "d"])
    assert read_keys(json.dumps({"keys": [{**public, **nulls}]}).encode()).ids == {"one"}


@pytest.mark.parametrize("member", ["kid", "kty", "crv", "alg", "use", "key_ops", "n", "e", "x", "y"])
def test_a_key_with_something_of_another_type_is_passed_over_and_no_others(keyset: Keyset, member: str) -> None:
    keys = [key.as_dict(private=False) for key in keyset.keys.values()]
    for wrong in (None, True, 0, -1, 1.5, "", "A", [], [1], {}, {"verify": 1}):
        strange = [{**key, "kid": "strange", member: wrong} for key in keys]
        assert read_keys(json.dumps({"keys": [*strange, *keys]}).encode()).ids >= set(KINDS)


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b'{"keys": {}}', b'{"keys": [1]}', b"<html>", b"\xff", b'{"keys": ' + b"[" * 9_000]
)
def test_what_is_no_key_set_is_told(text: bytes) -> None:
    with pytest.raises(ValueError, match="no JWK Set"):
        read_keys(text)


def test_a_key_set_has_a_bounded_number_of_keys(keyset: Keyset) -> None:
    one = keyset.keys["five"].as_dict(private=False)
    with pytest.raises(ValueError, match="no JWK Set"):
        read_keys(json.dumps({"keys": [one] * (limits.MAX_TOKEN_KEYS + 1)}).encode())
