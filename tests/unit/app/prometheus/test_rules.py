"""The Prometheus rules: made from the table of alerts, on our metrics, as their file has them."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from app.prometheus.exposition import METRICS
from app.prometheus.expressions import alert_name
from app.prometheus.rules import rules_document
from app.prometheus.yaml_text import to_yaml
from tests.support.monitoring_files import FILES, MONITORING, PAGE, check_metrics_exist, page_with_tables
from tests.support.prometheus import need_program
from workers.monitoring.alert_rules import RULES, Thresholds

FIRING = [rule for rule in RULES if rule.severity != "information"]
RECORDED = re.compile(r"\bqueue:couturecast_\w+:\w+\b")


def all_rules(document: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    groups = (document or rules_document())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts(document: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in all_rules(document) if "alert" in rule}


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_what_the_code_makes(name: str) -> None:
    assert (MONITORING / name).read_text() == FILES[name](), "run `make monitoring`"


def test_the_tables_of_the_page_are_what_the_code_makes() -> None:
    page = PAGE.read_text()
    assert page_with_tables(page) == page, "run `make monitoring`"
    assert all(f"`{metric.full_name}" in page for metric in METRICS)


def test_every_alert_that_may_fire_has_a_rule_with_its_duration_and_severity() -> None:
    found = alerts()
    assert set(found) == {*(alert_name(rule.name) for rule in FIRING), "CoutureCastAbsent"}
    for rule in FIRING:
        alert = found[alert_name(rule.name)]
        assert float(alert.get("for", "0s").removesuffix("s")) == rule.for_seconds
        assert alert["labels"] == {"severity": rule.severity, "alert": rule.name}


def test_a_duration_of_the_settings_is_that_of_the_rule() -> None:
    found = alerts(rules_document(thresholds=Thresholds(durations={"backlog": 7.5, "failing": 0})))
    assert found["CoutureCastBacklog"]["for"] == "7s500ms"
    assert "for" not in found["CoutureCastFailing"]
    assert found["CoutureCastSlow"]["for"] == "120s"


def test_every_alert_names_its_runbook_its_dashboard_and_its_queue() -> None:
    document = rules_document(runbook_url="https://wiki/run", dashboard_url="https://grafana/d/x")
    by_name = {rule["labels"]["alert"]: rule for rule in all_rules(document) if "alert" in rule}
    for rule in FIRING:
        annotations = by_name[rule.name]["annotations"]
        assert set(annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
        assert annotations["runbook_url"] == f"https://wiki/run#{rule.name}"
        assert annotations["dashboard_url"].startswith("https://grafana/d/x")
        assert ("$labels.queue" in annotations["summary"]) == rule.of_queue
        assert "{limit}" not in annotations["description"]


def test_expressions_read_metrics_that_exist_and_figures_that_are_recorded() -> None:
    recorded = {rule["record"] for rule in all_rules() if "record" in rule}
    for rule in all_rules():
        check_metrics_exist(rule["expr"])
        assert set(RECORDED.findall(rule["expr"])) <= recorded
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_figures_of_the_cluster_are_not_added_up_over_processes() -> None:
    for rule in all_rules():
        assert "sum" not in rule["expr"]
        aggregated = re.findall(r"(\w+)(?: by \([^)]*\) )?\((?:increase\()?couturecast_", rule["expr"])
        assert set(aggregated) <= {"max", "min", "absent"}


def test_a_label_of_the_targets_distinguishes_clusters_everywhere() -> None:
    for rule in all_rules(rules_document(labels=["environment"])):
        grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"])
        assert all("environment" in labels for labels in grouped)
        assert grouped or rule["expr"].startswith("absent")


def test_every_alert_is_tested_to_fire_and_to_end() -> None:
    document = yaml.safe_load((MONITORING / "rules_test.yml").read_text())
    ended: set[str] = set()
    for test in document["tests"]:
        fires: set[str] = set()
        for query in test["promql_expr_test"]:
            now = set(re.findall(r'alertname="(\w+)"', str(query["exp_samples"])))
            ended |= fires - now
            fires |= now
    assert ended == set(alerts())


def test_yaml_reads_as_what_was_written() -> None:
    document = rules_document()
    assert yaml.safe_load(to_yaml(document)) == document
    odd = {
        "a": ["no", "1m", "x: y", "#", "", 'q"', "q'\"", " x", "0x1", "1e3"],
        "b": {"c": "x\n  y\nz"},
        "d": 1.5,
    }
    assert yaml.safe_load(to_yaml(odd)) == odd


@pytest.mark.parametrize("arguments", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")])
def test_promtool_takes_the_rules_and_their_tests(arguments: tuple[str, ...]) -> None:
    command = [need_program("promtool"), *arguments]
    done = subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
