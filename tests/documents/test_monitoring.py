"""The Grafana dashboard, Prometheus' alert rules and the documents name the metrics that there are, as they are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from decoupled.core import limits
from decoupled.core.metrics import METRICS, Metric
from decoupled.core.overview import CHARTED, Sample
from decoupled.engines.sqlite.history import HistoryFile

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs" / "operations.md"
DASHBOARD = ROOT / "templates" / "grafana-dashboard.json"
ALERTS = ROOT / "templates" / "prometheus-alerts.yml"

NOT_SHOWN: dict[str, str] = {  # metrics that have no panel, and why
    "backup_age_seconds": "a chart of it is a saw",
    "replica_lag_seconds": "there is an alert",
    "replica_lag_bytes": "it says how much that would be",
    "audited": "it only grows",
    "audit_faults": "there is an alert",
    "upkeep_trouble": "there are alerts",
}
OF_PROMETHEUS = {"instance", "job"}  # labels that it gives to what it scrapes
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
EXPOSED = {
    f"decoupled_{metric.name}{suffix}": metric for metric in METRICS.values() for suffix in SUFFIXES[metric.kind]
}

NAME = re.compile(r"\bdecoupled_\w+")
BY = re.compile(r"\bby \(([^)]*)\)")
SELECTED = re.compile(r"\{([^}]*)\}")
LEGEND = re.compile(r"\{\{ ?(\w+) ?\}\}")
OF_ALERT = re.compile(r"\$labels\.(\w+)")

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's prometheus")


def targets() -> list[tuple[str, str]]:
    """Each expression of the dashboard, and its legend."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [(it["expr"], it["legendFormat"]) for panel in panels for it in panel.get("targets", ())]


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> list[str]:
    return [expression for expression, _ in targets()] + [alert["expr"] for alert in alerts()]


def metrics_of(expression: str) -> list[Metric]:
    return [EXPOSED[name] for name in NAME.findall(expression)]


def labels_of(expression: str) -> set[str]:
    """What its metrics can be told apart by, each and every one."""
    found = [
        ({metric.label} - {""}) | ({"le"} if metric.kind == "histogram" else set()) for metric in metrics_of(expression)
    ]
    return set.intersection(*found) | OF_PROMETHEUS if found else OF_PROMETHEUS


def labels_in(expression: str) -> Iterator[str]:
    for names in BY.findall(expression):
        yield from (name.strip() for name in names.split(","))
    for matchers in SELECTED.findall(expression):
        yield from re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_has_metrics_and_labels_that_there_are(expression: str) -> None:
    assert [name for name in NAME.findall(expression) if name not in EXPOSED] == []
    assert set(labels_in(expression)) <= labels_of(expression)


@pytest.mark.parametrize(("expression", "legend"), targets())
def test_a_legend_names_what_is_left_of_the_labels(expression: str, legend: str) -> None:
    left = {name.strip() for names in BY.findall(expression) for name in names.split(",")} - {"le"}
    if not left and not re.match(r"(sum|max|histogram_quantile)\b", expression):
        left = labels_of(expression)
    assert set(LEGEND.findall(legend)) <= left


def test_every_metric_is_shown() -> None:
    shown = {metric.name for expression, _ in targets() for metric in metrics_of(expression)}
    assert shown | set(NOT_SHOWN) == set(METRICS)
    assert not shown & set(NOT_SHOWN)


def test_the_dashboard_asks_for_one_thing_its_source() -> None:
    board = json.loads(DASHBOARD.read_text())
    (variable,) = board["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    source = {"type": "prometheus", "uid": f"${{{variable['name']}}}"}
    charts = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert all(it["datasource"] == source for panel in charts for it in (panel, *panel["targets"]))
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert rows == ["Traffic", "Latency", "Queue", "Outages", "Machine"]


def test_no_two_panels_lie_over_each_other() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))


def test_an_alert_says_what_it_is_and_what_to_do() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in ("page", "ticket")
        for text in (alert["annotations"]["summary"], alert["annotations"]["description"]):
            assert set(OF_ALERT.findall(text)) <= labels_of(alert["expr"]) - {"le"}
    (long,) = [alert["expr"] for alert in alerts() if "wal_bytes" in alert["expr"]]
    assert long == f"decoupled_wal_bytes > {limits.WAL_LONG_BYTES}"


@needs_promtool
def test_prometheus_takes_the_alerts_and_every_expression(tmp_path: Path) -> None:
    assert promtool("check", "rules", str(ALERTS)).count("SUCCESS") == 1
    rules = [
        {"record": f"panel:{place}", "expr": expression.replace("$__rate_interval", "1m")}
        for place, (expression, _) in enumerate(targets())
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(tmp_path / "panels.yml"))


# What is scraped once a minute, what has to sound after so many minutes, and what must not one minute before.
SOUND = {
    "DecoupledDown": ('up{job="decoupled"', "1 1 0x5", 3, "page"),
    "DecoupledRefusesRequests": ("decoupled_up{", "1 1 0x5", 3, "page"),
    "DecoupledOldestMessage": ("decoupled_oldest_age_seconds{", "301x10", 5, "page"),
    "DecoupledHeld": ('decoupled_held{workload="orders"', "0 1x10", 6, "page"),
    "DecoupledBackendSick": ('decoupled_breaker_open{workload="orders"', "0 1x20", 16, "page"),
    "DecoupledSickGroups": ('decoupled_sick_groups{workload="orders"', "0 2x70", 61, "ticket"),
    "DecoupledDeadLetters": ('decoupled_dead_total{workload="orders"', "0 0 0 1x5", 3, "ticket"),
    "DecoupledReplicaFails": ('decoupled_upkeep_trouble{piece="replica"', "0 1x10", 3, "page"),
    "DecoupledAuditFaults": ("decoupled_audit_faults{", "0 0 1x5", 2, "page"),
    "DecoupledDiskLow": ('decoupled_upkeep_trouble{piece="disk"', "0 1x10", 6, "page"),
    "DecoupledUpkeepFails": ('decoupled_upkeep_trouble{piece="backups"', "0 1x20", 16, "ticket"),
    "DecoupledLogUnfolded": ("decoupled_wal_bytes{", "0 70000000x20", 16, "ticket"),
    "DecoupledLogLinesDropped": ("decoupled_log_lines_dropped_total{", "5 5 5 7x5", 3, "ticket"),
}


@needs_promtool
@pytest.mark.parametrize("name", SOUND)
def test_an_alert_sounds_when_it_has_to_and_not_before(name: str, tmp_path: Path) -> None:
    series, values, minutes, severity = SOUND[name]
    labels = f'{series}{"" if series.endswith("{") else ","}instance="shop:8080"}}'
    where = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    (alert,) = [alert for alert in alerts() if alert["alert"] == name]

    def said(value: str) -> dict[str, str]:
        texts = {}
        for kind, text in alert["annotations"].items():
            filled = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: where[found[1]], text)
            texts[kind] = re.sub(r"\{\{ \$value[^}]*\}\}", value, filled)
        return texts

    value = {
        "DecoupledOldestMessage": "5m 1s",
        "DecoupledSickGroups": "2",
        "DecoupledLogUnfolded": "66.76Mi",
    }
    sounds = {"exp_labels": {**where, "severity": severity}, "exp_annotations": said(value.get(name, ""))}
    test = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": labels, "values": values}],
                "alert_rule_test": [
                    {"eval_time": f"{minutes - 1}m", "alertname": name, "exp_alerts": []},
                    {"eval_time": f"{minutes}m", "alertname": name, "exp_alerts": [sounds]},
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "test.yml"))


def test_every_alert_is_tried() -> None:
    assert {alert["alert"] for alert in alerts()} == set(SOUND)


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def section() -> str:
    return OPERATIONS.read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]


def in_words(metric: Metric) -> str:
    """Its line of the table in docs/operations.md."""
    suffix = "_total" if metric.kind == "counter" else ""
    label = f"`{metric.label}`" if metric.label else ""
    return f"| `decoupled_{metric.name}{suffix}` | {metric.kind} | {label} | {metric.help} |"


def test_the_documents_have_every_metric_as_it_is() -> None:
    told = [line for line in section().splitlines() if line.startswith("| `decoupled_")]
    assert told == [in_words(metric) for metric in METRICS.values()]


def test_the_documents_have_every_alert() -> None:
    told = re.findall(r"^\| `(Decoupled\w+)` \| (\w+) \|", section(), re.MULTILINE)
    assert told == [(alert["alert"], alert["labels"]["severity"]) for alert in alerts()]


@needs_promtool
def test_prometheus_takes_the_settings_that_the_documents_have(tmp_path: Path) -> None:
    settings = re.findall(r"^```yaml\n(.*?)^```", section(), re.MULTILINE | re.DOTALL)
    assert len(settings) == 2
    for text in settings:
        (tmp_path / "prometheus.yml").write_text(text)
        assert "SUCCESS" in promtool("check", "config", "--syntax-only", str(tmp_path / "prometheus.yml"))


def test_the_size_of_the_history_is_as_it_is_told(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path)
    file.add(Sample(0, 0, (None,) * len(CHARTED)))
    file.close()
    kib = round(file.path.stat().st_size / limits.KIB)
    assert f"{kib} KiB that never grow" in " ".join(section().split())
