"""What must hold at the end of a simulated history, each recomputed from the records alone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from decoupled.core.outcomes import Record
from tests.support.simulation import History
from tests.support.trial.workloads.seats import HOLD_S


def check(history: History) -> None:
    """Raises AssertionError naming what does not hold."""
    records = everything_accepted_has_ended(history)
    workloads_find_nothing_wrong(history)
    transfers_are_entered(history, records)
    accounts_are_registered(history, records)
    roll_ups_equal_the_readings(history, records)
    emitted_messages_have_one_effect(history, records)
    nothing_is_processed_before_its_time(history, records)
    seats_are_held_paid_or_free(history, records)
    items_are_as_in_the_model(history)


def everything_accepted_has_ended(history: History) -> dict[str, Record]:
    """accepted = processed + rejected + dead, by id; and nothing is there that nobody sent."""
    records = {message_id: history.engine.table.get(message_id) for message_id in history.known()}
    for message_id, workload in history.accepted.items():
        record = records[message_id]
        assert record is not None, f"lost: {workload} {message_id}"
        assert record.status in ("processed", "rejected", "dead"), f"not ended: {record}"
        assert record.workload == workload, record
        if record.status == "dead":
            assert record.body, f"a dead letter without its body: {record}"
            assert record.error_type in ("RuntimeError", "Crashed"), f"dead for no reason of this history: {record}"
            assert not history.repaired, f"dead, though redriven after the repair: {record}"
        history.counts[f"{workload} {record.status}"] += 1
    return {message_id: record for message_id, record in records.items() if record is not None}


def of(records: dict[str, Record], workload: str, status: str = "processed") -> list[Record]:
    return [record for record in records.values() if record.workload == workload and record.status == status]


def workloads_find_nothing_wrong(history: History) -> None:
    """By their own invariants, of the items that there are."""
    keys = sorted(history.oracle.items)
    for name, workload in history.workloads.items():
        if workload.invariant is not None:
            mine = [(key, item) for key in keys if key.startswith(f"{name}/") and (item := _there(history, key))]
            assert list(workload.invariant(iter(mine))) == []


def transfers_are_entered(history: History, records: dict[str, Record]) -> None:
    """Each that was processed, as its record says, and no other; what balances come to, the invariant has seen."""
    for record in of(records, "transactions"):
        result = _result(record)
        if "entry_url" not in result:
            continue
        entry = _item(history, f"transactions/entries/{record.id}")
        legs = {leg["account"]: leg["amount"] for leg in entry["legs"]}
        amount = Decimal(result["amount"])
        assert legs == {result["from"]: -amount, result["to"]: amount}, (record, entry)
    for record in of(records, "transactions", "rejected"):
        assert _there(history, f"transactions/entries/{record.id}") is None, record


def accounts_are_registered(history: History, records: dict[str, Record]) -> None:
    """Each that was processed, and no other; that no address has two, the invariant has seen."""
    registered = [_item(history, f"registrations/accounts/{record.id}") for record in of(records, "registrations")]
    for record in of(records, "registrations", "rejected"):
        assert record.reason == "this address is registered already", record
        assert registered, "an address was refused that nobody had"
        assert _there(history, f"registrations/accounts/{record.id}") is None, record


def roll_ups_equal_the_readings(history: History, records: dict[str, Record]) -> None:
    values: dict[str, list[Decimal]] = defaultdict(list)
    times = set()
    for record in of(records, "readings"):
        result = _result(record)
        assert (result["device"], result["at"]) not in times, f"counted twice: {record}"
        times.add((result["device"], result["at"]))
        values[result["hourly_url"].removeprefix("/")].append(Decimal(result["value"]))
    for key, seen in values.items():
        expected = {"count": len(seen), "sum": sum(seen), "min": min(seen), "max": max(seen)}
        assert _item(history, key) == expected, (key, expected)


def emitted_messages_have_one_effect(history: History, records: dict[str, Record]) -> None:
    """Each was sent, has its one record, and was delivered if and only if that says so."""
    to_redrive = {message.id for message in history.engine.dead_letters()}
    for record in of(records, "registrations") + of(records, "notifications") + of(records, "seats"):
        if record.id in to_redrive:
            continue  # buried by one processor, then processed by a late one: redriving it sends what it emits
        for emitted in history.emitted(record.id, record.workload):
            assert emitted in records, f"{record.id} emitted {emitted}, which was never sent"
            assert records[emitted].status in ("processed", "rejected", "dead"), f"not ended: {records[emitted]}"
    for record in of(records, "notifications"):
        if "deliveries" not in _result(record):
            assert history.delivered[record.id] >= 1, f"never delivered: {record}"
    for message_id in history.delivered:
        assert message_id in records, f"delivered, but nobody sent it: {message_id}"


def nothing_is_processed_before_its_time(history: History, records: dict[str, Record]) -> None:
    """Not what a client wanted later, and not what was emitted later."""
    for record in records.values():
        if record.status in ("processed", "rejected") and record.id in history.due:
            assert (record.finished_at or 0) >= history.due[record.id], f"too early: {record}"
    for record in of(records, "seats"):
        for emitted in history.emitted(record.id, "seats"):
            release = records.get(emitted)
            if release is not None and release.status in ("processed", "rejected"):
                assert (release.finished_at or 0) >= (record.finished_at or 0) + HOLD_S * 1000, (record, release)


def seats_are_held_paid_or_free(history: History, records: dict[str, Record]) -> None:
    """Each hold was paid or released, or its release is dead; and the seats and the totals say the same."""
    holds = [record for record in of(records, "seats") if "release" in _result(record)]
    paid = len(of(records, "seats")) - len(holds)
    counted = {"held": len(holds), "paid": paid, "released": len(of(records, "releases"))}
    assert (history.engine.table.item("seats/totals/all") or {}) == {k: n for k, n in counted.items() if n}
    states = [(history.engine.table.item(f"seats/taken/{seat}") or {"state": "free"})["state"] for seat in (1, 2)]
    unpaid = counted["held"] - paid - counted["released"]
    assert states.count("held") == unpaid, (states, counted)
    if not of(records, "releases", "dead"):
        assert states.count("held") == 0, (states, counted)
        assert len(of(records, "releases", "rejected")) == paid, counted


def items_are_as_in_the_model(history: History) -> None:
    for key, expected in history.oracle.items.items():
        assert history.engine.table.item(key) == expected, (key, expected)


def _result(record: Record) -> dict[str, Any]:
    assert record.result is not None, record
    return dict(json.loads(record.result))


def _there(history: History, key: str) -> Mapping[str, Any] | None:
    return history.engine.table.item(key)


def _item(history: History, key: str) -> dict[str, Any]:
    item = _there(history, key)
    assert item is not None, f"no item {key}"
    return dict(item)
