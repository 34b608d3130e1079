"""The text of /metrics: read back by the library's own parsers, and judged by Prometheus' own tool."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.samples import Sample

from decoupled.core.metrics import METRICS, Numbers
from decoupled.core.overview import Overview
from decoupled.dashboard.exposition import render
from decoupled.server.counting import Counting

OVERVIEW = Overview(
    taken_at=0,
    queued=3,
    in_flight=2,
    delayed=1,
    dead=4,
    oldest_age_s=7.5,
    queued_by_workload={"orders": 5, "gone": 1, "forgotten": 2},
)
HEALTH = {
    "status": "ok",
    "workloads": ["orders", "mails"],
    "fronts": 2,
    "workers": 4,
    "workers_replaced": {"memory": 1, "messages": 0, "stuck": 0},
    "breakers": {"orders": {"state": "open", "sick_groups": 3}, "mails": {"state": "held"}},
    "log_lines_dropped": 9,
}


GAUGES = {
    "wal_bytes": 100,
    "file_bytes": 200,
    "disk_free_bytes": 400,
    "backup_age_seconds": 300,
    "replica_lag_seconds": 3,
    "replica_lag_bytes": 400,
    "audited": 300,
    "audit_faults": 1,
}


def told() -> Numbers:
    counting = Counting(["orders", "mails"])
    counting.committed(["orders", "orders", "mails", "gone"], 0.0003)
    numbers = counting.told(HEALTH, GAUGES)
    numbers.gauges["upkeep_trouble"] = {"backups": 1, "disk": 0}
    numbers.count("refused", "422", 6)
    numbers.observe("accept_seconds", 0.003, "orders", 2)
    numbers.observe("accept_seconds", 60.0, "orders")
    return numbers


def samples(text: bytes, parse: Callable[[str], Iterable[object]]) -> dict[tuple[str, ...], float]:
    """By name and label."""
    found = {}
    for family in parse(text.decode()):
        sample: Sample
        for sample in family.samples:  # type: ignore[attr-defined]
            labels = [value for _, value in sorted(sample.labels.items(), reverse=True)]  # `workload` before `le`
            found[(sample.name, *labels)] = sample.value
    return found


@pytest.mark.parametrize(
    ("accept", "kind", "parse"),
    [
        ("", "text/plain; version=0.0.4", parser.text_string_to_metric_families),
        ("text/html, */*", "text/plain; version=0.0.4", parser.text_string_to_metric_families),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text; version=1.0.0",
            openmetrics.text_string_to_metric_families,
        ),
    ],
)
def test_what_was_counted_is_read_back(accept: str, kind: str, parse: Callable[[str], Iterable[object]]) -> None:
    response = render(told(), OVERVIEW, HEALTH, accept)
    assert response.status == 200
    assert response.headers["content-type"].startswith(kind)
    found = samples(response.body, parse)
    expected = {
        ("decoupled_accepted_total", "orders"): 2,
        ("decoupled_accepted_total", "mails"): 1,
        ("decoupled_accepted_total", "-"): 1,  # of a workload that is not served
        ("decoupled_processed_total", "mails"): 0,
        ("decoupled_refused_total", "422"): 6,
        ("decoupled_accept_seconds_bucket", "orders", "0.002"): 0,
        ("decoupled_accept_seconds_bucket", "orders", "0.005"): 2,
        ("decoupled_accept_seconds_bucket", "orders", "10.0"): 2,
        ("decoupled_accept_seconds_bucket", "orders", "+Inf"): 3,
        ("decoupled_accept_seconds_count", "orders"): 3,
        ("decoupled_accept_seconds_sum", "orders"): 60.006,
        ("decoupled_accept_seconds_count", "mails"): 0,
        ("decoupled_commit_messages_sum",): 4,
        ("decoupled_commit_seconds_bucket", "0.0005"): 1,
        ("decoupled_messages", "queued"): 3,
        ("decoupled_messages", "in_flight"): 2,
        ("decoupled_messages", "delayed"): 1,
        ("decoupled_messages", "dead"): 4,
        ("decoupled_unfinished", "orders"): 5,
        ("decoupled_unfinished", "mails"): 0,
        ("decoupled_unfinished", "-"): 3,
        ("decoupled_oldest_age_seconds",): 7.5,
        ("decoupled_breaker_open", "orders"): 1,
        ("decoupled_breaker_open", "mails"): 0,
        ("decoupled_held", "mails"): 1,
        ("decoupled_sick_groups", "orders"): 3,
        ("decoupled_sick_groups", "mails"): 0,
        ("decoupled_fronts",): 2,
        ("decoupled_workers",): 4,
        ("decoupled_workers_replaced_total", "memory"): 1,
        ("decoupled_wal_bytes",): 100,
        ("decoupled_file_bytes",): 200,
        ("decoupled_disk_free_bytes",): 400,
        ("decoupled_upkeep_trouble", "backups"): 1,
        ("decoupled_upkeep_trouble", "disk"): 0,
        ("decoupled_backup_age_seconds",): 300,
        ("decoupled_replica_lag_seconds",): 3,
        ("decoupled_replica_lag_bytes",): 400,
        ("decoupled_audited",): 300,
        ("decoupled_audit_faults",): 1,
        ("decoupled_log_lines_dropped_total",): 9,
        ("decoupled_up",): 1,
    }
    assert {name: found.get(name) for name in expected} == pytest.approx(expected)


def test_every_metric_is_there() -> None:
    families = {family.name for family in parser.text_string_to_metric_families(text(told()))}
    assert families == {f"decoupled_{name}" for name in METRICS}


def text(numbers: Numbers | None, overview: Overview | None = OVERVIEW) -> str:
    return render(numbers, overview, HEALTH if numbers else None).body.decode()


def test_without_a_server_the_file_is_still_told_of() -> None:
    found = samples(text(None).encode(), parser.text_string_to_metric_families)
    assert found[("decoupled_up",)] == 0
    assert found[("decoupled_messages", "dead")] == 4
    assert found[("decoupled_unfinished", "-")] == 8  # which workloads there are, nobody knows
    assert not [name for name in found if name[0].endswith(("_total", "_bucket"))]


def test_what_is_not_known_is_left_out_and_not_zero() -> None:
    found = samples(text(told(), None).encode(), parser.text_string_to_metric_families)
    assert found[("decoupled_accepted_total", "orders")] == 2
    assert not [name for name in found if name[0] in ("decoupled_messages", "decoupled_oldest_age_seconds")]


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt install prometheus)"
)
@pytest.mark.parametrize("numbers", [told(), None], ids=["served", "not served"])
def test_prometheus_finds_nothing_wrong_with_it(numbers: Numbers | None) -> None:
    """Also of names and units: what it would only advise is an error here."""
    checked = subprocess.run(
        ["promtool", "check", "metrics", "--extended"],
        input=text(numbers),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_library_is_loaded_when_somebody_asks() -> None:
    code = "import sys, decoupled.server.app, decoupled.dashboard.exposition; print('prometheus_client' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"


@pytest.mark.parametrize("version", ["abc", "1.0.x", "=1", "1.0.0-rc1"])
@pytest.mark.parametrize("kind", ["application/openmetrics-text", "text/plain"])
def test_a_version_that_is_no_number_gets_what_everybody_understands(kind: str, version: str) -> None:
    answer = render(told(), OVERVIEW, HEALTH, f"{kind};version={version}")
    assert answer.headers == render(told(), OVERVIEW, HEALTH).headers
    assert samples(answer.body, parser.text_string_to_metric_families)


def test_a_front_whose_writer_hangs_has_the_numbers_of_the_file() -> None:
    body = render(None, OVERVIEW, {"status": "unavailable", "detail": "the writer does not answer"}).body
    found = samples(body, parser.text_string_to_metric_families)
    assert (found[("decoupled_up",)], found[("decoupled_messages", "queued")]) == (0.0, 3.0)
