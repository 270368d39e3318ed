"""The dashboard: its shape is Grafana's, and its queries are on our metrics."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import yaml

from app.prometheus.grafana import UID, dashboard_document, dashboard_json
from app.prometheus.panels import ROWS, WIDTH
from tests.support.monitoring_files import check_metrics_exist
from tests.support.prometheus import PROJECT

MONITORING = PROJECT / "docs" / "monitoring"
VARIABLE = re.compile(r"\$\{?(\w+)")


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard_document()["panels"]
    return found


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", [])]


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    positions = [panel["gridPos"] for panel in panels()]
    assert all(place["x"] + place["w"] <= WIDTH for place in positions)
    for first, second in combinations(positions, 2):
        apart_across = first["x"] + first["w"] <= second["x"] or second["x"] + second["w"] <= first["x"]
        apart_down = first["y"] + first["h"] <= second["y"] or second["y"] + second["h"] <= first["y"]
        assert apart_across or apart_down


def test_every_row_fills_the_width() -> None:
    by_line: dict[int, int] = {}
    for panel in panels():
        by_line[panel["gridPos"]["y"]] = by_line.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert set(by_line.values()) == {WIDTH}


def test_every_panel_has_the_fields_that_grafana_needs() -> None:
    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["type"] in {"timeseries", "stat", "table"}
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in letters
        for target in panel["targets"]:
            assert target["instant"] != target["range"]


def test_queries_read_metrics_that_exist_and_follow_the_variables() -> None:
    variables = {variable["name"] for variable in dashboard_document()["templating"]["list"]}
    used: set[str] = set()
    for query in queries():
        check_metrics_exist(query.replace("environment=", ""))
        assert 'environment=~"$environment"' in query
        used |= set(VARIABLE.findall(query))
        assert query.count("(") == query.count(")")
    assert used - {"__rate_interval"} == variables - {"datasource"}


def test_figures_of_the_cluster_are_not_added_up_over_processes() -> None:
    for query in queries():
        if re.search(r"\b(sum|count)\b", query):
            assert "max by (" in query or "couturecast_cache_" in query


def test_the_rows_are_those_of_the_operators_questions() -> None:
    assert [row.title for row in ROWS] == [
        "Overview",
        "Latency",
        "Failures and dead letters",
        "Capacity",
        "Cache",
        "Redis and the database",
        "Processes",
    ]


def test_alerts_link_this_dashboard() -> None:
    rules = (MONITORING / "rules.yml").read_text()
    assert f"/d/{UID}?var-queue=" in rules
    assert json.loads(dashboard_json())["uid"] == UID


def test_compose_provisions_prometheus_and_grafana_with_these_files() -> None:
    services = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
    for name in ("prometheus", "grafana"):
        service = services[name]
        assert service["profiles"] == ["monitoring"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["healthcheck"]["test"]
        for volume in service["volumes"]:
            source, _, target = volume.partition(":")
            assert not source.startswith("./") or (PROJECT / source).exists()
            assert target
    scrape = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert scrape["rule_files"] == ["rules.yml"]
    (job,) = scrape["scrape_configs"]
    (workers,) = job["static_configs"]
    assert workers["targets"] == ["workers:8020"]
    assert set(workers["labels"]) == {"environment"}


def test_the_charts_mark_deploys_drains_pauses_and_replays() -> None:
    marks = {mark["name"]: mark["expr"] for mark in dashboard_document()["annotations"]["list"]}
    assert set(marks) == {"Alerts that fire", "Deploys", "Drains", "Pauses", "Replays"}
    for expression in marks.values():
        check_metrics_exist(expression.replace("environment=", ""))
