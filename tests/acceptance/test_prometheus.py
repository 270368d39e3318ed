"""The rules and the dashboard for Prometheus and Grafana, and a real Prometheus that evaluates them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.prometheus.grafana import dashboard_document
from tests.acceptance.served import Served, served
from tests.support.monitoring_files import FILES
from tests.support.program import Program, client, stop_server
from tests.support.prometheus_server import Alerts, Prometheus

STALLED, FAILING, BACKLOG, UNSERVED = (
    "color-extraction",
    "moderation-review",
    "alert-fanout",
    "weather-ingestion",
)
HANDLERS = """
import asyncio
import os


async def work(ctx, fails=False, waits=False, seconds=0):
    await asyncio.sleep(seconds)
    if fails:
        raise ValueError("the CDN is down")
    while waits and not os.path.exists("released"):
        await asyncio.sleep(0.1)
"""
ENVIRONMENT = {
    "COUTURECAST_HANDLERS": ",".join(f"{queue}=watched:work" for queue in (STALLED, FAILING, BACKLOG)),
    "COUTURECAST_MODERATION_REVIEW_RETRY_DELAYS": "none",
    "COUTURECAST_COLOR_EXTRACTION_TIMEOUT": "600",
    "COUTURECAST_COLOR_EXTRACTION_BASELINE_RUN": "0.05",
    "COUTURECAST_COLOR_EXTRACTION_BASELINE_WAIT": "60",
    "COUTURECAST_ALERT_FANOUT_ALERT_BACKLOG": "70",
}
EXPECTED = {
    ("stalled", STALLED),
    ("slow", STALLED),
    ("failing", FAILING),
    ("backlog", BACKLOG),
    ("no_worker", UNSERVED),
}
LONGEST_FOR_SECONDS = 120
PATIENCE_SECONDS = 240.0


def ours(program: Program) -> Alerts:
    """The alerts that fire, by ``status --json``."""
    done = program.run("status", "--json", **ENVIRONMENT)
    assert done.code == 0, done.err
    return {
        (alert["name"], alert["queue"] or "")
        for alert in done.json["alerts"]
        if alert["state"] == "firing" and alert["severity"] != "information"
    }


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[Served]]:
    """Two processes of one cluster that serve all queues but one."""
    program = Program(tmp_path)
    (program.directory / "watched.py").write_text(HANDLERS)
    started: list[Served] = []
    try:
        for _ in range(2):
            started.append(Served(program, "--queues", f"{STALLED},{FAILING},{BACKLOG}", **ENVIRONMENT))
        yield started
    finally:
        for process in started:
            process.close()
        stop_server(program.data_dir)


@pytest.fixture
def prometheus(tmp_path: Path, processes: list[Served]) -> Iterator[Prometheus]:
    """A Prometheus that has scraped both."""
    rules = processes[0].program.run("--data-dir", str(tmp_path), "rules").out
    targets = [process.url.removeprefix("http://") for process in processes]
    made = Prometheus(tmp_path / "prometheus", rules, targets)
    try:
        until(made.is_ready)
        yield made
    finally:
        made.close()


def until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.5)


def enqueue(http: httpx.Client, queue: str, count: int, **data: float) -> None:
    answer = http.post(f"/api/v1/queues/{queue}/jobs", json=[{"data": data}] * count)
    assert answer.status_code == 202, answer.text


def provoke(process: Served, http: httpx.Client) -> None:
    """Have one queue slow and stalled, one fail, one with a backlog; read the cache, limit Redis."""
    with client(process.program.data_dir) as valkey:
        valkey.config_set("maxmemory", "512mb")
    enqueue(http, STALLED, 25, seconds=0.3)
    assert http.post(f"/api/v1/admin/queues/{BACKLOG}/pause", json={}).status_code == 200
    enqueue(http, BACKLOG, 90)
    enqueue(http, FAILING, 40, fails=True)
    enqueue(http, STALLED, 8, waits=True)
    for _ in range(5):
        http.get("/api/v1/personalization/users/anna", params={"location": "lisboa"})


def repair(process: Served, http: httpx.Client) -> None:
    """End what was provoked, but for the queue without a worker."""
    (process.program.directory / "released").touch()
    assert http.post(f"/api/v1/admin/queues/{BACKLOG}/resume").status_code == 200
    for queue in (FAILING, FAILING, STALLED):
        enqueue(http, queue, 1000)


def first_seen(prometheus: Prometheus, program: Program, expected: Alerts) -> Mapping[str, dict[Any, float]]:
    """When each alert was first seen to fire, by us and by Prometheus; waits until both have them all."""
    seen: dict[str, dict[Any, float]] = {"ours": {}, "theirs": {}}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(set(found) >= expected for found in seen.values()):
        assert time.monotonic() < deadline, {who: expected - set(found) for who, found in seen.items()}
        for who, alerts in (("theirs", prometheus.firing()), ("ours", ours(program))):
            for alert in alerts:
                seen[who].setdefault(alert, time.monotonic())
    return seen


def shown_queries() -> list[str]:
    """The queries of all panels and of the annotations, of all that can be chosen."""
    document = dashboard_document()
    queries = [target["expr"] for panel in document["panels"] for target in panel.get("targets", [])]
    queries += [annotation["expr"] for annotation in document["annotations"]["list"]]
    return [re.sub(r"\$\w+", ".*", query.replace("$__rate_interval", "30s")) for query in queries]


def keep_missing(prometheus: Prometheus, queries: list[str]) -> list[str]:
    """Remove the queries that have, or had since the start, data from ``queries``."""
    queries[:] = [query for query in queries if not prometheus.query(f"last_over_time(({query})[10m:1s])")]
    return queries


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_prometheus_fires_what_status_fires_and_every_panel_has_data(
    processes: list[Served], prometheus: Prometheus
) -> None:
    process, program = processes[0], processes[0].program
    with process.client() as http:
        provoke(process, http)
        seen = first_seen(prometheus, program, EXPECTED)
        assert set(seen["ours"]) == set(seen["theirs"]) == EXPECTED
        for alert, at in seen["theirs"].items():
            assert abs(at - seen["ours"][alert]) < LONGEST_FOR_SECONDS, alert

        replay = {"filter": {"queue": FAILING}, "rate": 1}
        plan = http.post("/api/v1/admin/failed-jobs/retry", json=replay)
        assert plan.status_code == 202
        with processes[1].client() as other:
            assert other.post("/api/v1/admin/drain").status_code == 202  # its jobs hang
        missing = shown_queries()
        until(lambda: not keep_missing(prometheus, missing))
        cancelled = http.post(f"{plan.headers['location']}/cancel")  # its jobs die again: it would halt
        assert cancelled.status_code == 200, cancelled.text

        repair(process, http)
        until(lambda: prometheus.firing() == ours(program) == {("no_worker", UNSERVED)})
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}


def test_a_limit_of_the_settings_is_a_metric_that_the_rules_read(tmp_path: Path) -> None:
    with served(tmp_path, COUTURECAST_ALERT_FANOUT_ALERT_BACKLOG="70") as process, process.client() as http:
        lines = http.get("/metrics").text.splitlines()
    assert 'couturecast_alert_limit{alert="backlog",queue="alert-fanout"} 70.0' in lines
    assert 'couturecast_alert_end_limit{alert="backlog",queue="alert-fanout"} 56.0' in lines
    assert 'couturecast_alert_limit{alert="backlog",queue="color-extraction"} 100.0' in lines


def test_the_commands_print_the_files_and_start_no_server(tmp_path: Path) -> None:
    program = Program(tmp_path)
    for command, file in (("rules", "rules.yml"), ("grafana", "dashboard.json")):
        done = program.run("--data-dir", str(program.data_dir), command)
        assert (done.code, done.err) == (0, "")
        assert FILES[file]().endswith(done.out)
    assert not program.data_dir.exists()


def test_links_and_labels_of_the_rules_are_options(tmp_path: Path) -> None:
    program, own = Program(tmp_path), ("--data-dir", str(tmp_path / "data"))
    links = ("--runbook-url", "https://wiki/queues", "--dashboard-url", "https://grafana/d/q")
    printed = program.run(*own, "rules", *links, "--by", "environment").out
    assert "https://wiki/queues#backlog" in printed
    assert "https://grafana/d/q?var-queue={{ $labels.queue }}" in printed
    assert "max by (queue, environment) (couturecast_queue_depth)" in printed
    refused = program.run(*own, "rules", "--by", "a b")
    assert refused.code == 2
    assert refused.errors == ["error: --by: is not the name of a label: use letters, digits and _"]
