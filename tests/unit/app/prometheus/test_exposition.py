"""The metrics of a snapshot, in Prometheus' formats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from app.prometheus.definitions import Facts
from app.prometheus.exposition import METRICS, Encoder
from app.prometheus.exposition import exposition as write
from tests.support.fake_moments import AWAY, HEALTHY
from workers.engine.histogram import BOUNDS_SECONDS
from workers.engine.policy import COLOR, WEATHER
from workers.monitoring.alert_rules import Thresholds
from workers.monitoring.snapshot import Alert, DatabaseSnapshot, Durations, Snapshot

TOO_DEEP = Alert(COLOR, "backlog", "132 queued, limit 100")


def exposition(
    snapshot: Snapshot | None,
    version: str = "1",
    cache_counts: Mapping[str, int] | None = None,
    release: str = "",
    *,
    encode: Encoder = generate_latest,
    thresholds: Thresholds | None = None,
) -> bytes:
    facts = Facts(snapshot, {"version": version, "release": release}, cache_counts or {})
    return write(replace(facts, thresholds=thresholds or facts.thresholds), encode=encode)


def figures(text: bytes) -> dict[tuple[str, ...], float]:
    """The figures, by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_figures_of_a_snapshot() -> None:
    found = figures(exposition(replace(HEALTHY, alerts=(TOO_DEEP,)), "1.2.3", release="r42"))
    assert found["couturecast_build_info", "r42", "1.2.3"] == 1
    assert found["couturecast_redis_memory_limit_bytes",] == 2**30
    assert found["couturecast_workers",] == 3
    assert found["couturecast_dead_letters",] == 2
    assert found["couturecast_event_loop_lag_seconds",] == 0.002
    assert found["couturecast_alert", "backlog", COLOR, "warning"] == 1
    assert found["couturecast_queue_utilisation_ratio", COLOR] == 2 / 5
    assert found["couturecast_queue_rate_used_starts", WEATHER] == 12
    assert found["couturecast_queue_rate_wait_seconds", WEATHER] == 0
    assert found["couturecast_queue_oldest_age_seconds", COLOR] == 0
    assert found["couturecast_jobs_completed_total", COLOR] == 1200
    assert found["couturecast_attempts_failed_total", COLOR] == 5
    assert found["couturecast_jobs_retried_total", COLOR] == 4
    assert found["couturecast_jobs_dead_lettered_total", COLOR] == 1


def test_durations_are_histograms_that_can_be_aggregated() -> None:
    waits = Durations({0: 3, 3: 2, 10: 1, 79: 1}, 90_001.5)
    (queue, *others) = HEALTHY.queues
    snapshot = replace(HEALTHY, queues=(replace(queue, waits=waits), *others))
    for encode, parse in (
        (generate_latest, text_string_to_metric_families),
        (openmetrics.generate_latest, openmetrics_families),
    ):
        families = list(parse(exposition(snapshot, "1", encode=encode).decode()))
        (family,) = (family for family in families if family.name == "couturecast_queue_wait_seconds")
        assert family.type == "histogram"
        found = {
            (sample.name.rpartition("_")[2], sample.labels.get("le")): sample.value
            for sample in family.samples
            if sample.labels["queue"] == queue.name
        }
        assert (found["bucket", "0.001"], found["bucket", "0.002"], found["bucket", "0.01"]) == (3, 5, 6)
        assert (found["bucket", "1000.0"], found["bucket", "+Inf"]) == (6, 7)
        assert (found["count", None], found["sum", None]) == (7, 90_001.5)


def test_a_database_that_refuses_writes_is_up_and_not_writable() -> None:
    refuses, away = (DatabaseSnapshot("sqlite:///x", *words) for words in ((None, "locked"), ("no answer",)))
    for database, up, writable in ((HEALTHY.database, 1, 1), (refuses, 1, 0), (away, 0, 0)):
        found = figures(exposition(replace(HEALTHY, database=database)))
        assert (found["couturecast_database_up",], found["couturecast_database_writable",]) == (up, writable)


def test_unknown_figures_are_left_out() -> None:
    away = DatabaseSnapshot("sqlite:///x", "no answer")
    found = figures(exposition(replace(HEALTHY, database=away, dead_letters=None, loop_lag=None), "1"))
    assert found["couturecast_database_up",] == 0
    assert ("couturecast_dead_letters",) not in found
    assert ("couturecast_event_loop_lag_seconds",) not in found
    assert ("couturecast_queue_rate_used_starts", COLOR) not in found


def test_without_redis_no_old_figures_are_shown() -> None:
    for snapshot in (AWAY, None):
        found = figures(exposition(snapshot, "1"))
        assert found["couturecast_redis_up",] == 0
        assert not any(name.startswith(("couturecast_queue", "couturecast_jobs")) for name, *_ in found)


def test_names_end_in_their_unit() -> None:
    families = list(text_string_to_metric_families(exposition(HEALTHY, "1").decode()))
    assert all(family.documentation.endswith(".") for family in families)
    for family in families:
        assert not family.name.endswith(("_ms", "_percent", "_mb"))
        counts = tuple(
            f"couturecast_{name}"
            for name in ("jobs", "attempts", "cache", "log_lines", "notifications", "repairs")
        )
        assert (family.type == "counter") == family.name.startswith(counts)


def test_notifications_are_counted_without_redis() -> None:
    facts = Facts(
        None, {"version": "1", "release": "1"}, notification_counts={"sent": 3, "failed": 1, "dropped": 0}
    )
    found = figures(write(facts))
    counted = [found["couturecast_notifications_total", name] for name in ("sent", "failed", "dropped")]
    assert counted == [3, 1, 0]


def test_the_cache_is_counted_without_redis() -> None:
    counts = {"hits": 7, "misses": 2, "errors": 1, "loads": 3}
    for snapshot in (HEALTHY, AWAY, None):
        found = figures(exposition(snapshot, "1", counts))
        reads = {
            outcome: found["couturecast_cache_reads_total", outcome]
            for outcome in ("hit", "miss", "stale", "error")
        }
        assert reads == {"hit": 7, "miss": 2, "stale": 0, "error": 1}
        assert found["couturecast_cache_loads_total",] == 3
        assert found["couturecast_cache_load_failures_total",] == 0


def test_metrics_count_processes_by_state_and_only_the_living_as_workers() -> None:
    first, second, third = HEALTHY.workers
    workers = (first, replace(second, state="dead"), replace(third, state="draining"))
    shown = exposition(replace(HEALTHY, workers=workers), "1").decode().splitlines()
    assert "couturecast_workers 2.0" in shown
    states = {"running": 1, "draining": 1, "standby": 0, "blocked": 0, "dead": 1}
    for state, count in states.items():
        assert f'couturecast_processes{{state="{state}"}} {count:.1f}' in shown


def test_every_metric_has_its_help_even_if_it_has_no_figure() -> None:
    for snapshot in (HEALTHY, AWAY, None):
        described = {
            family.name: family.documentation
            for family in text_string_to_metric_families(exposition(snapshot).decode())
        }
        assert described == {f"couturecast_{metric.name}": metric.help for metric in METRICS}


def test_a_histogram_has_the_buckets_of_our_own_percentiles() -> None:
    bounds = {
        float(sample.labels["le"])
        for family in text_string_to_metric_families(exposition(HEALTHY).decode())
        for sample in family.samples
        if sample.name == "couturecast_queue_wait_seconds_bucket"
    }
    assert bounds == {bound for bound in BOUNDS_SECONDS if bound <= 1000} | {math.inf}


def test_baselines_are_shown_once_they_are_known() -> None:
    (queue, *others) = HEALTHY.queues
    known = replace(queue, wait_baseline=0.05, run_baseline=0.31)
    found = figures(exposition(replace(HEALTHY, queues=(known, *others))))
    assert found["couturecast_queue_wait_baseline_seconds", queue.name] == 0.05
    assert found["couturecast_queue_run_baseline_seconds", queue.name] == 0.31
    assert ("couturecast_queue_wait_baseline_seconds", others[0].name) not in found


def test_limits_are_those_in_force() -> None:
    thresholds = Thresholds({("backlog", COLOR): 1000, ("redis_memory", None): 0.6})
    found = figures(exposition(HEALTHY, thresholds=thresholds))
    assert found["couturecast_alert_limit", "backlog", COLOR] == 1000
    assert found["couturecast_alert_end_limit", "backlog", COLOR] == 800
    assert found["couturecast_alert_limit", "backlog", WEATHER] == 100
    assert found["couturecast_alert_limit", "redis_memory", ""] == 0.6
    assert not any(labels[0] == "no_worker" for name, *labels in found if name == "couturecast_alert_limit")


def test_a_redis_that_refuses_writes_is_up_and_not_writable() -> None:
    refuses = Alert(None, "redis", "is read-only", "critical", "pending")
    for alerts, writable in (((), 1), ((refuses,), 0)):
        found = figures(exposition(replace(HEALTHY, alerts=alerts)))
        assert (found["couturecast_redis_up",], found["couturecast_redis_writable",]) == (1, writable)
    assert figures(exposition(None))["couturecast_redis_writable",] == 0


def test_whether_redis_evicts_jobs_is_shown_if_its_policy_is_known() -> None:
    for policy, shown in (("allkeys-lru", 1), ("volatile-lru", 0), (None, None)):
        redis = replace(HEALTHY.redis, eviction_policy=policy)
        found = figures(exposition(replace(HEALTHY, redis=redis)))
        assert found.get(("couturecast_redis_evicts_jobs",)) == shown


def test_an_alert_that_is_pending_or_information_is_not_shown() -> None:
    alerts = (
        replace(TOO_DEEP, state="pending"),
        Alert(COLOR, "new_error", "ValueError", "information"),
    )
    found = figures(exposition(replace(HEALTHY, alerts=alerts)))
    assert not any(name == "couturecast_alert" for name, *_ in found)


def test_no_label_grows_with_the_number_of_jobs_processes_or_errors() -> None:
    labels = {label for metric in METRICS for label in metric.labels}
    assert labels == {"queue", "kind", "state", "outcome", "alert", "severity", "version", "release"}


def test_plans_are_counted_by_state_while_the_database_answers() -> None:
    found = figures(exposition(replace(HEALTHY, plans={"done": 4, "interrupted": 1})))
    plans = {state: found["couturecast_replay_plans", state] for state in ("done", "running", "interrupted")}
    assert plans == {"done": 4, "running": 0, "interrupted": 1}
    assert ("couturecast_replay_plans", "done") not in figures(exposition(HEALTHY))
