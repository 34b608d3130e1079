"""What functions know of a stack's secret: when they read it, what if they cannot, and from when on a new key signs."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping

import pytest

import functions.processor
import functions.receiver
import functions.status
from decoupled.core import stack_limits
from decoupled.core.identifiers import new_id
from decoupled.core.signed_ids import keys_of, new_key, rotated
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.aws.secret import PROCESSORS, RECEIVERS, Secret, members
from tests.support import events

NOW = 1_795_000_000_123
FIRST = new_key(NOW - 86_400_000, b"f" * 32)


class Store:
    """A secret whose reader can be told to fail; counts how often it was read."""

    def __init__(self, **says: str) -> None:
        self.says: Mapping[str, str] = {"IdKeys": FIRST, **says}
        self.read_at: list[int] = []
        self.sick = False
        self.now = NOW

    @property
    def readings(self) -> int:
        return len(self.read_at)

    def read(self) -> Mapping[str, str]:
        self.read_at.append(self.now)
        if self.sick:
            raise Unavailable("Secrets Manager does not tell: Timeout")
        return self.says

    def passes(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


def secret(store: Store, environ: dict[str, str] | None = None) -> Secret:
    return Secret(store.read, {} if environ is None else environ, PROCESSORS, lambda: store.now)


def message(at: int) -> Message:
    return Message(new_id(at, 0, "e" * 18), "orders", "{}", "iam:1:ana", at)


def test_it_is_read_once_and_again_when_it_is_five_minutes_old() -> None:
    store = Store()
    known = secret(store)
    for _ in range(1000):
        known.renew()
    assert store.readings == 1
    store.passes(stack_limits.SECRET_LOOK_S)
    known.renew()
    assert store.readings == 2


def test_never_read_it_is_unavailable_each_time_until_it_can_be() -> None:
    store = Store()
    known, store.sick = secret(store), True
    for _ in range(2):
        with pytest.raises(Unavailable):
            known.shown(message(NOW))
    store.sick = False
    assert known.shown(message(NOW)) == keys_of(FIRST).shown(message(NOW))


def test_read_before_what_is_known_counts_on_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    store, environ = Store(WebhookSecret="whsec_one"), dict[str, str]()
    known = secret(store, environ)
    known.renew()
    store.sick = True
    store.passes(stack_limits.SECRET_LOOK_S)
    with caplog.at_level(logging.WARNING):
        shown = known.shown(message(NOW))
    assert (shown, environ["WEBHOOK_SECRET"]) == (keys_of(FIRST).shown(message(NOW)), "whsec_one")
    assert [record.message for record in caplog.records] == ["the secret cannot be read again"]
    known.renew()
    assert store.readings == 2  # not at each request
    store.passes(stack_limits.SECRET_AGAIN_S)
    known.renew()
    assert store.readings == 3


@pytest.mark.parametrize("broken", ["", "[]", "whsec_secret", '"whsec_secret"'])
def test_what_is_no_json_object_is_refused_without_repeating_it(broken: str) -> None:
    with pytest.raises(ValueError, match="no JSON object") as refused:
        members(broken)
    assert "whsec" not in f"{refused.value!r}{refused.value.__context__!r}"


def test_a_secret_that_somebody_breaks_counts_on_as_it_was() -> None:
    store = Store()
    known = secret(store)
    known.renew()
    store.says = {"IdKeys": "nonsense"}
    store.passes(stack_limits.SECRET_LOOK_S)
    assert known.shown(message(NOW)) == keys_of(FIRST).shown(message(NOW))


def test_its_members_are_in_the_environment_as_long_as_they_are_there() -> None:
    store = Store(WebhookSecret="whsec_one", SmtpUrl="smtp://m", STRIPE_KEY="sk", TABLE_NAME="another", lower="x")
    environ = {"TABLE_NAME": "table"}
    known = secret(store, environ)
    known.renew()
    given = {"TABLE_NAME": "table", "WEBHOOK_SECRET": "whsec_one", "SMTP_URL": "smtp://m", "STRIPE_KEY": "sk"}
    assert environ == given
    store.says = {"IdKeys": FIRST, "WebhookSecret": "whsec_two"}
    store.passes(stack_limits.SECRET_LOOK_S)
    known.renew()
    assert environ == {"TABLE_NAME": "table", "WEBHOOK_SECRET": "whsec_two"}


def test_the_receiver_has_none_of_the_processor_s_secrets_in_its_environment() -> None:
    store, environ = Store(WebhookSecret="whsec_one", STRIPE_KEY="sk", TracesHeaders="api-key=one"), dict[str, str]()
    Secret(store.read, environ, RECEIVERS, lambda: NOW).renew()
    assert environ == {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=one"}


# --- keys -----------------------------------------------------------------------


def test_every_function_knows_a_new_key_before_any_signs_with_it() -> None:
    """However far apart they read it: the one that signs as early as it can, the other just before the rotation, and
    then not before its time."""
    keys = rotated(FIRST, NOW + 1000, b"n" * 32)
    new, signed_with_new = keys_of(keys.partition(",")[0]), 0
    signing, late = Store(), Store()
    late.says = {"IdKeys": FIRST}
    receiver, status = secret(signing), secret(late)
    status.renew()
    signing.says = late.says = {"IdKeys": keys}
    for _ in range(300):
        for store in (signing, late):
            store.passes(5)
        receiver.renew(missed=True)
        shown = receiver.shown(message(signing.now))
        opened = status.open(shown, "orders", "iam:1:ana")
        assert opened is not None
        assert opened.issued
        signed_with_new += new.knows(shown)
    assert 0 < signed_with_new < 300
    assert min(b - a for a, b in itertools.pairwise(late.read_at)) >= stack_limits.SECRET_LOOK_S * 1000


def test_a_key_signs_a_quarter_of_an_hour_after_it_was_made_and_there_is_no_newer_one_until_then() -> None:
    keys = rotated(FIRST, NOW, b"n" * 32)
    begins = NOW + stack_limits.ID_KEY_LEAD_S * 1000
    old, new = keys_of(FIRST), keys_of(keys.partition(",")[0])
    assert keys_of(keys).shown(message(begins - 1000)) == old.shown(message(begins - 1000))
    assert keys_of(keys).shown(message(begins)) == new.shown(message(begins))
    with pytest.raises(ValueError, match="until then") as refused:
        rotated(keys, begins - 1000, b"m" * 32)
    assert keys.partition(",")[0] not in str(refused.value)
    assert rotated(keys, begins, b"m" * 32).split(",")[1:] == keys.split(",")[:1]


def test_the_first_key_signs_at_once() -> None:
    assert keys_of(rotated("", NOW, b"n" * 32)).shown(message(NOW)) != message(NOW).id


def test_an_id_with_an_unknown_key_has_it_read_again_but_not_more_often_than_every_ten_seconds() -> None:
    store = Store()
    known = secret(store)
    known.renew()
    later = new_key(NOW, b"l" * 32)
    shown = keys_of(later).shown(message(NOW))
    store.passes(stack_limits.SECRET_AGAIN_S)
    store.says = {"IdKeys": f"{later},{FIRST}"}
    opened = known.open(shown, "orders", "iam:1:ana")
    assert opened is not None
    assert opened.issued
    forged = keys_of(new_key(NOW, b"x" * 32)).shown(message(NOW))
    for _ in range(100):
        assert known.open(forged, "orders", None) is not None
    assert store.readings == 2


def test_an_id_with_an_unknown_key_is_no_404_while_that_cannot_be_looked_up() -> None:
    store = Store()
    known = secret(store)
    known.renew()
    store.passes(stack_limits.SECRET_AGAIN_S)
    store.sick = True
    with pytest.raises(Unavailable):
        known.open(keys_of(new_key(NOW, b"l" * 32)).shown(message(NOW)), "orders", None)
    assert known.open(keys_of(FIRST).shown(message(NOW)), "orders", None) is not None


def test_a_callback_says_the_id_of_the_202_though_the_key_was_rotated_meanwhile() -> None:
    keys = rotated(FIRST, NOW + 1000, b"n" * 32)
    assert keys_of(keys).shown(message(NOW)) == keys_of(FIRST).shown(message(NOW))


# --- functions that start without it ------------------------------------------------


def unavailable() -> None:
    raise Unavailable("Secrets Manager does not tell: AccessDeniedException")


def test_a_front_that_cannot_start_says_503_and_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for function, event in (
        (functions.receiver, events.post(events.ORDER)),
        (functions.status, events.get("orders", "m-1")),
    ):
        monkeypatch.setattr(function, "connect", unavailable)
        answer = function.handler(event, None)
        assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "2")
        assert json.loads(answer["body"])["resend"] == "safe"
        assert "Secrets" not in answer["body"]


def test_a_processor_that_cannot_start_gives_its_whole_batch_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda delivers all of a batch again for which the function raises."""
    monkeypatch.setattr(functions.processor, "connect", unavailable)
    with pytest.raises(Unavailable):
        functions.processor.settled([], lambda: 10.0)
