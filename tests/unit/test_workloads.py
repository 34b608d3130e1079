"""Each workload as the pure function that it is, and on SQLite through the real functions."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoupled.core.effects import encode
from decoupled.core.identifiers import derived_id
from decoupled.core.outcomes import Commit, Record
from decoupled.core.validation import faults
from decoupled.core.workload import Message, Workload
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline import processor, settlement
from decoupled.pipeline.loading import load
from decoupled.workloads import notifications, readings, registrations, transactions
from tests.support.contract import result_of
from tests.support.engines import ReceivingSqliteQueue
from tests.support.events import read_event, receive_event
from tests.support.hostile import addresses
from tests.support.model_engine import ManualClock

NAMES = ("transactions", "registrations", "readings", "notifications")
WORKLOADS = load(NAMES)


class System:
    """The functions on SQLite, in one thread."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.database = Database(":memory:")
        self.queue = ReceivingSqliteQueue(self.database, self.clock)
        self.table = SqliteTable(self.database, clock_ms=self.clock)
        self._keys = iter(range(1_000_000))

    def post(self, workload: str, entries: Any) -> list[str]:
        """The ids of the entries, all accepted."""
        event = {
            "pathParameters": {"workload": workload},
            "headers": {"content-type": "application/json"},
            "requestContext": {},
            "body": json.dumps(entries),
        }
        response = receive_event(event, self.queue, WORKLOADS)
        body = json.loads(response["body"])
        assert response["statusCode"] == 202, body
        assert not body.get("rejected"), body
        return [entry["id"] for entry in body.get("accepted", [body])]

    def process_all(self) -> None:
        while deliveries := self.queue.receive(10, 30):
            decided = [(each, processor.decide(each.message, WORKLOADS, 30)) for each in deliveries]
            settlement.settle(decided, self.queue, self.table, settlement.Policy(3, self.clock))
            self.queue.delete(deliveries)

    def record(self, message_id: str) -> Record:
        record = self.table.get(message_id)
        assert record is not None
        return record

    def ended(self, workload: str, entry: Any) -> Record:
        (message_id,) = self.post(workload, entry)
        self.process_all()
        return self.record(message_id)

    def get(self, path: str) -> tuple[int, Any]:
        names = dict(zip(("workload", "collection", "key"), path.strip("/").split("/"), strict=True))
        response = read_event({"pathParameters": names}, self.table, WORKLOADS)
        return response["statusCode"], json.loads(response["body"], parse_float=Decimal)


@pytest.fixture
def system() -> Iterator[System]:
    running = System()
    yield running
    running.database.close()


def test_a_result_goes_out_as_it_is_stored(system: System) -> None:
    stored = '{"exact": 1.50, "large": 1e2, "text": "\\u00e9"}'
    system.table.commit([(Message("m-1", "readings", "{}", "", 0), Commit(stored))], 0)
    body = read_event({"pathParameters": {"workload": "readings", "id": "m-1"}}, system.table, WORKLOADS)["body"]
    assert f'"result":{stored},' in body


def pointers(entry: Any, workload: Workload) -> list[str]:
    return [fault["pointer"] for fault in faults(entry, workload.schema)]


# --- transactions ----------------------------------------------------------------


def account(name: str, currency: str = "EUR", overdraft: str = "0") -> dict[str, str]:
    return {"kind": "open", "account": name, "currency": currency, "overdraft": overdraft}


def transfer(payer: str, payee: str, amount: str, currency: str = "EUR") -> dict[str, str]:
    return {"kind": "transfer", "from_account": payer, "to_account": payee, "currency": currency, "amount": amount}


def test_a_transfer_moves_money_and_books_both_legs(system: System) -> None:
    system.post("transactions", [account("bank", overdraft="1000"), account("ana")])
    system.process_all()
    record = system.ended("transactions", transfer("bank", "ana", "79.80"))
    assert record.status == "processed"
    result = result_of(record)
    assert result["amount"] == "79.80"
    assert system.get("/transactions/balances/ana.EUR")[1]["balance"] == Decimal("79.80")
    assert system.get("/transactions/balances/bank.EUR")[1]["available"] == Decimal("920.20")
    _, entry = system.get(result["entry_url"])
    assert entry["legs"] == [
        {"account": "bank.EUR", "amount": Decimal("-79.8")},
        {"account": "ana.EUR", "amount": Decimal("79.8")},
    ]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (transfer("ana", "bank", "0.01"), "insufficient funds in ana.EUR"),
        (transfer("bank", "ana", "1000.01"), "insufficient funds in bank.EUR"),
        (transfer("bank", "nobody", "1"), "there is no account nobody.EUR"),
        (transfer("bank", "ana", "1", "USD"), "there is no account bank.USD"),
        (account("ana", overdraft="5"), "account ana.EUR is open already"),
    ],
)
def test_a_transaction_that_cannot_be_is_rejected_and_changes_nothing(
    system: System, entry: dict[str, str], reason: str
) -> None:
    system.post("transactions", [account("bank", overdraft="1000"), account("ana")])
    system.process_all()
    before = system.database.execute("SELECT * FROM items ORDER BY key").fetchall()
    record = system.ended("transactions", entry)
    assert (record.status, record.reason) == ("rejected", reason)
    assert system.database.execute("SELECT * FROM items ORDER BY key").fetchall() == before


@pytest.mark.parametrize(
    ("entry", "pointer"),
    [
        ({}, "#/kind"),
        ({"kind": "close", "account": "ana"}, "#/kind"),
        (account("ana b"), "#/account"),
        (account("ana", "DOGE"), "#/currency"),
        (account("ana", overdraft="1.234"), "#/overdraft"),
        (transfer("a", "b", "0.001"), "#/amount"),
        (transfer("a", "b", "0.1", "JPY"), "#/amount"),
        (transfer("a", "b", "0.0001", "KWD"), "#/amount"),
        (transfer("a", "b", "0.00"), "#/amount"),
        (transfer("a", "b", "-1"), "#/amount"),
        (transfer("a", "b", "1e3"), "#/amount"),
        (transfer("a", "b", "1\n"), "#/amount"),
        (transfer("a", "a", "1"), "#/to_account"),
        (transfer("a", "b", "1") | {"amount": 0.1}, "#/amount"),
        (transfer("a", "b", "1") | {"overdraft": "1"}, "#/overdraft"),
    ],
)
def test_a_bad_transaction_is_refused_with_its_field(entry: dict[str, Any], pointer: str) -> None:
    assert pointers(entry, transactions.WORKLOAD) == [pointer]


def test_a_tagged_union_names_every_fault_of_the_kind_that_was_meant() -> None:
    entry = {"kind": "transfer", "from_account": "a b", "amount": 1, "memo": ""}
    expected = ["#/from_account", "#/to_account", "#/currency", "#/amount", "#/memo"]
    assert pointers(entry, transactions.WORKLOAD) == expected


def test_random_transfers_keep_every_currency_at_zero(system: System) -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")  # noqa: T201
    rng = random.Random(seed)
    names = ["bank", "ana", "ben", "cem"]
    opened = [account(name, currency, "500") for name in names for currency in ("EUR", "JPY", "KWD")]
    system.post("transactions", opened)
    digits = {"EUR": 2, "JPY": 0, "KWD": 3}
    entries = []
    for _ in range(400):
        currency = rng.choice(list(digits))
        amount = Decimal(rng.randint(1, 400_000)).scaleb(-digits[currency])
        if amount > 400:
            amount = (amount % 400 + 1).quantize(amount)
        payer, payee = rng.sample(names, 2)
        entries.append(transfer(payer, payee, str(amount), currency))
    ids = system.post("transactions", entries)
    system.process_all()
    assert {system.record(each).status for each in ids} == {"processed", "rejected"}
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for name in names:
        for currency in digits:
            _, item = system.get(f"/transactions/balances/{name}.{currency}")
            totals[currency] += item["balance"]
            assert item["available"] == item["balance"] + 500 >= 0
    assert totals == {"EUR": 0, "JPY": 0, "KWD": 0}


# --- registrations ------------------------------------------------------------------


def person(email: str) -> dict[str, str]:
    return {"email": email, "name": "Ana Ruiz"}


def test_a_registration_sends_a_welcome_that_its_result_points_to(system: System) -> None:
    (message_id,) = system.post("registrations", person("Ana@Example.com"))
    record = None
    while deliveries := system.queue.receive(1, 30):
        decision = processor.decide(deliveries[0].message, WORKLOADS, 30)
        if deliveries[0].message.workload == "notifications":
            break
        settlement.settle([(deliveries[0], decision)], system.queue, system.table, settlement.Policy(3, system.clock))
        system.queue.delete(deliveries)
    record = system.record(message_id)
    result = result_of(record)
    welcome = deliveries[0].message
    assert result["welcome_url"] == f"/notifications/{welcome.id}"
    assert json.loads(welcome.body)["to"] == [{"kind": "email", "address": "Ana@Example.com"}]


@pytest.mark.parametrize(
    "again",
    ["ana.josé@example.com", "ANA.JOSÉ@EXAMPLE.COM", "Ana.José@Example.com", "ana.jose\u0301@example.com"],
)
def test_another_spelling_of_a_registered_address_is_rejected(system: System, again: str) -> None:
    assert system.ended("registrations", person("ana.josé@example.com")).status == "processed"
    record = system.ended("registrations", person(again))
    assert (record.status, record.reason) == ("rejected", "this address is registered already")


@pytest.mark.parametrize("other", ["anajosé@example.com", "ana.jose@example.com", "ana.josé+shop@example.com"])
def test_another_address_is_another_account(system: System, other: str) -> None:
    assert system.ended("registrations", person("ana.josé@example.com")).status == "processed"
    assert system.ended("registrations", person(other)).status == "processed"


def test_whether_an_address_exists_cannot_be_read(system: System) -> None:
    system.ended("registrations", person("ana@example.com"))
    digest = derived_id("address", "ana@example.com")
    assert system.table.item(f"registrations/addresses/{digest}") is not None
    assert system.get(f"/registrations/addresses/{digest}")[0] == 404
    assert WORKLOADS["registrations"].natural_key is None


@pytest.mark.parametrize(("one", "other"), [("bücher.de", "xn--bcher-kva.de"), ("xn--bcher-kva.de", "BÜCHER.DE")])
def test_a_mailbox_has_one_account_however_its_domain_is_spelled(system: System, one: str, other: str) -> None:
    assert system.ended("registrations", person(f"ana@{one}")).status == "processed"
    assert system.ended("registrations", person(f"ana@{other}")).reason == "this address is registered already"


def test_two_domains_that_were_one_before_2008_are_two_accounts(system: System) -> None:
    assert system.ended("registrations", person("ana@straße.de")).status == "processed"
    assert system.ended("registrations", person("ana@strasse.de")).status == "processed"


@pytest.mark.parametrize(
    "address",
    ["", "ana", "ana@example", "@example.com", "ana@", "a b@example.com", "a@b@example.com", "ana@example.com\n",
     "<ana@example.com>", "ana@example..com", ".ana@example.com", "ana,ben@example.com", "a\x00b@example.com",
     "a" * 65 + "@example.com", "ana@" + "b" * 64 + ".com", "ana@-example.com", "ana@127.0.0.1",
     "a\u200bna@example.com", "ana@exam\u00adple.com", "=?utf-8?q?Bcc=3A_evil=40x.y?=@example.com",
     "ana@example.com\u2028", "ana@xn--a.com"],
)  # fmt: skip
def test_an_address_that_can_never_be_mailed_is_refused_at_either_door(address: str) -> None:
    assert pointers(person(address), registrations.WORKLOAD) == ["#/email"]
    to_it = [{"kind": "email", "address": address}]
    entry = {"to": to_it, "type": "a", "subject": "s", "text": "t"}
    assert pointers(entry, notifications.WORKLOAD) == ["#/to/0/address"]


@pytest.mark.parametrize("name", ["Ana\nRuiz", "Ana\u2028Ruiz", "Ana\u2029", "Ana\x85Ruiz", "Ana\x0bRuiz", ""])
def test_a_name_is_one_line(name: str) -> None:
    assert pointers(person("ana@example.com") | {"name": name}, registrations.WORKLOAD) == ["#/name"]


def welcome(name: str) -> str:
    registration = registrations.Registration(email="ana@example.com", name=name)
    message = Message("0123abcd", "registrations", "", "anonymous", 0)
    (emit,) = registrations.process(registration, message).emits
    return str(emit.entry["text"])


@pytest.mark.parametrize(
    "name",
    ["https://evil.com", "Win at evil.com now", "www.evil.com", "evil.com/x", "evil.co", "Ana (evil.com)", "evil。com",
     "evil\u2024com", "evil.com.", "mailto:a@evil.com", "a@evil", "//evil", "+353 1 800 1000", "hxxp://evil[.]com",
     "evil.\u00a0com", "javascript:x", "ftp://evil", "evil\uff0ecom", "<a>", "Ana\u202emoc.live"],
)  # fmt: skip
def test_a_welcome_repeats_no_link_of_a_stranger(name: str) -> None:
    assert welcome(name) == "Hello,\n\nyour account is ready.\n"


@pytest.mark.parametrize(
    "name", ["Ana Ruiz", "José O'Neil-Müller", "Martin L. King Jr.", "王小明", "अनीता शर्मा", "Jose\u0301 D\u2019Arc"]
)
def test_a_welcome_greets_by_name(name: str) -> None:
    assert welcome(name).startswith(f"Hello {name},\n")


@given(addresses(), st.text(max_size=100))
def test_whatever_registrations_accepts_notifications_takes(email: str, name: str) -> None:
    entry = {"email": email, "name": name}
    if pointers(entry, registrations.WORKLOAD):
        return
    registration = msgspec.convert(entry, registrations.Registration)
    message = Message("0123abcd", "registrations", "", "anonymous", 0)
    encode(registrations.process(registration, message), message, WORKLOADS)


# --- readings -----------------------------------------------------------------------


def reading(at: str, value: Any, device: str = "pump-7") -> dict[str, Any]:
    return {"device": device, "at": at, "value": value}


def test_hundreds_of_readings_in_one_request_are_rolled_up_exactly(system: System) -> None:
    batch = [reading(f"2026-11-23T10:{i // 60:02}:{i % 60:02}Z", f"{i}.{i % 1000:03}") for i in range(700)]
    system.post("readings", batch)
    system.post("readings", batch[::-1])  # the whole batch again, backwards
    system.process_all()
    values = [Decimal(each["value"]) for each in batch]
    expected = {"count": 700, "sum": sum(values), "min": min(values), "max": max(values)}
    assert system.get("/readings/hourly/pump-7.2026-11-23T10") == (200, expected)


def test_a_reading_is_the_same_one_in_every_time_zone_and_only_the_first_counts(system: System) -> None:
    (first,) = system.post("readings", reading("2026-11-23T10:59:59.5Z", "1.5"))
    assert system.post("readings", reading("2026-11-23T11:59:59.5+01:00", "1.5")) == [first]
    assert system.post("readings", reading("2026-11-23T05:29:59.500-05:30", 99)) == [first]
    system.process_all()
    expected = {"count": 1, "sum": Decimal("1.5"), "min": Decimal("1.5"), "max": Decimal("1.5")}
    assert system.get("/readings/hourly/pump-7.2026-11-23T10") == (200, expected)


def test_numbers_are_exact_as_json_numbers_and_as_text(system: System) -> None:
    values = [0.1, 0.2, "0.3", -999_999_999_999.999999, "1e3", "999999999999.999999"]
    system.post("readings", [reading(f"2026-11-23T10:00:0{i}Z", value) for i, value in enumerate(values)])
    system.process_all()
    _, hour = system.get("/readings/hourly/pump-7.2026-11-23T10")
    # Python's own float cannot spell the fourth value: what json.dumps sent is what counts.
    sent = [Decimal(json.dumps(value).strip('"')) for value in values]
    assert (hour["sum"], hour["min"], hour["max"]) == (sum(sent), min(sent), max(sent))


@pytest.mark.parametrize("at", ["2000-01-01T00:00:00Z", "1999-12-31T23:59:59-00:30", "2100-01-01T00:30:00+01:00"])
def test_a_reading_is_of_this_century_in_utc(system: System, at: str) -> None:
    assert system.ended("readings", reading(at, 1)).status == "processed"


def test_a_reading_is_kept_to_the_microsecond_and_no_digit_is_lost(system: System) -> None:
    record = system.ended("readings", reading("2026-11-23T10:59:59.9999990000Z", "-999999999999.999999"))
    result = result_of(record)
    assert result["at"] == "2026-11-23T10:59:59.999999Z"
    assert result["value"] == "-999999999999.999999"
    assert result["hourly_url"].endswith("T10")


def test_a_reading_s_value_is_what_the_json_says_and_not_the_nearest_float(system: System) -> None:
    event = {
        "pathParameters": {"workload": "readings"},
        "headers": {"content-type": "application/json"},
        "requestContext": {},
        "body": '{"device": "pump-7", "at": "2026-11-23T10:00:00Z", "value": 123456789012.345678}',
    }
    assert receive_event(event, system.queue, WORKLOADS)["statusCode"] == 202
    system.process_all()
    assert system.get("/readings/hourly/pump-7.2026-11-23T10")[1]["sum"] == Decimal("123456789012.345678")


@pytest.mark.parametrize("value", ["-1", "+1", "007.50", "1e3", "1E-3", 0, -0.5, 1e3, "1000000000000"])
def test_a_reading_takes_a_number_in_json_or_as_text(system: System, value: Any) -> None:
    record = system.ended("readings", reading("2026-11-23T10:00:00Z", value))
    result = result_of(record)
    assert Decimal(result["value"]) == Decimal(str(value))


@pytest.mark.parametrize(
    ("entry", "pointer"),
    [
        (reading("2026-11-23T10:00:00", "1"), "#/at"),  # whose clock?
        (reading("1970-01-01T00:00:00Z", "1"), "#/at"),
        (reading("0001-01-01T00:00:00+14:00", "1"), "#/at"),
        (reading("2000-01-01T00:30:00+01:00", "1"), "#/at"),  # 1999 in UTC
        (reading("2099-12-31T23:30:00-01:00", "1"), "#/at"),  # 2100 in UTC
        (reading("2026-11-23T10:59:59.9999999Z", "1"), "#/at"),  # rounded, it would be in another hour
        (reading("2026-11-23T10:00:00.00000010Z", "1"), "#/at"),
        (reading("2026-11-23T1\u0660:00:00Z", "1"), "#/at"),
        (reading("yesterday", "1"), "#/at"),
        (reading("2026-11-23T10:00:00Z", "\u0661\u0662"), "#/value"),  # Arabic digits, which Decimal() takes
        (reading("2026-11-23T10:00:00Z", "\uff11"), "#/value"),
        (reading("2026-11-23T10:00:00Z", "1_000"), "#/value"),
        (reading("2026-11-23T10:00:00Z", " 1"), "#/value"),
        (reading("2026-11-23T10:00:00Z", "1\n"), "#/value"),
        (reading("2026-11-23T10:00:00Z", "1000000000000.000001"), "#/value"),
        (reading("2026-11-23T10:00:00Z", "0." + "0" * 50), "#/value"),
        (reading("2026-11-23T10:00:00Z", "9" * 50), "#/value"),
        (reading("2026-11-23T10:00:00Z", None), "#/value"),
        (reading("2026-11-23T10:00:00Z", [1]), "#/value"),
        (reading("2026-11-23T10:00:00Z", "NaN"), "#/value"),
        (reading("2026-11-23T10:00:00Z", "-Infinity"), "#/value"),
        (reading("2026-11-23T10:00:00Z", "1e13"), "#/value"),
        (reading("2026-11-23T10:00:00Z", "1E+999999"), "#/value"),
        (reading("2026-11-23T10:00:00Z", "0E+999999"), "#/value"),
        (reading("2026-11-23T10:00:00Z", "1e-7"), "#/value"),
        (reading("2026-11-23T10:00:00Z", "0.0000001"), "#/value"),
        (reading("2026-11-23T10:00:00Z", True), "#/value"),
        (reading("2026-11-23T10:00:00Z", "1", "pump/7"), "#/device"),
    ],
)
def test_a_bad_reading_is_refused_with_its_field(entry: dict[str, Any], pointer: str) -> None:
    assert pointers(entry, readings.WORKLOAD) == [pointer]


# --- selecting them ----------------------------------------------------------------


def test_a_workload_is_not_served_without_the_one_it_emits_to() -> None:
    with pytest.raises(ValueError, match="'registrations' emits to 'notifications': name that one too"):
        load(["registrations"])


def test_only_the_workloads_named_are_imported() -> None:
    import subprocess
    import sys

    script = (
        "import sys; from decoupled.pipeline.loading import load; load(['orders', 'readings']); print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in modules if name.startswith("decoupled.workloads.")} == {
        "decoupled.workloads.orders",
        "decoupled.workloads.readings",
    }
    assert "standardwebhooks" not in modules
