"""The table of routes, its description, and what health and metrics make of a snapshot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import ConnectionError as RedisConnectionError

from app.http.authentication import CLOSED
from app.http.openapi import document
from app.http.problems import problem_of
from app.http.routers.health import health_of
from app.http.routers.metrics import exposition
from app.http.routes import ROUTES
from storage.errors import DatabaseUnavailableError, InvalidCursorError, InvalidFilterError
from tests.tui.canned import AWAY, HEALTHY
from workers.engine.policy import COLOR, WEATHER
from workers.errors import ConflictError, InvalidJobError, NotFoundError, ReadOnlyError, UnknownQueueError
from workers.monitoring.snapshot import Alert, DatabaseSnapshot

TOO_DEEP = Alert(COLOR, "depth", "132 queued, limit 100")


def figures(text: bytes) -> dict[tuple[str, ...], float]:
    """The figures, by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


# the table


def test_what_needs_the_token_lies_where_it_is_asked_for() -> None:
    assert all(route.path.startswith(CLOSED) for route in ROUTES if not route.open)


def test_a_path_and_a_method_stand_once() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_no_handler_answers_what_is_not_described() -> None:
    found = document(ROUTES, "1")
    for route in ROUTES:
        responses = found["paths"][route.path][route.method.lower()]["responses"]
        assert set(responses) == {str(status) for status in (*route.answers, *route.problem_statuses)}
        assert ("401" in responses) is not route.open


def test_parameters_are_described_where_they_are_taken() -> None:
    drain = document(ROUTES, "1")["paths"]["/api/v1/admin/drain"]["post"]
    wait, operator = drain["parameters"]
    assert (wait["name"], wait["in"], wait["required"]) == ("wait", "query", False)
    assert wait["schema"] == {"type": "number", "minimum": 0, "maximum": 86_400, "default": 0.0}
    assert (operator["name"], operator["in"]) == ("X-Operator", "header")


# errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownQueueError("x", ("a",)), 422),
        (InvalidFilterError("since: wrong"), 422),
        (NotFoundError("gone"), 404),
        (ConflictError("replayed already"), 409),
        (ReadOnlyError("drain"), 403),
        (InvalidJobError("lat: wrong"), 422),
        (InvalidCursorError("wrong"), 422),
        (DatabaseUnavailableError("away"), 503),
        (RedisConnectionError("refused"), 503),
        (TimeoutError(), 503),
    ],
)
def test_each_error_of_the_layers_below_has_a_status(error: Exception, status: int) -> None:
    found = problem_of(error)
    assert found is not None
    assert found.status == found.problem.status == status
    assert found.problem.detail


def test_a_defect_is_no_problem_that_is_told() -> None:
    assert problem_of(KeyError("x")) is None


# health


def test_a_queue_with_an_alert_is_unhealthy_and_a_server_with_one_is_not_a_queue() -> None:
    full = Alert(None, "redis_memory", "Redis memory 92% full, limit 80%")
    health = health_of(replace(HEALTHY, alerts=(full, TOO_DEEP)))
    assert not health.healthy
    assert [queue.name for queue in health.queues if not queue.healthy] == [COLOR]
    assert health.alerts == [full]
    assert health_of(replace(HEALTHY, alerts=(full,))).healthy


def test_while_redis_is_away_no_queue_passes_for_healthy() -> None:
    health = health_of(AWAY)
    assert not health.healthy
    assert not any(queue.healthy for queue in health.queues)


def test_the_health_names_no_address_of_a_server() -> None:
    alerts = [Alert(None, each, f"{each}: connecting to 10.0.0.7:6379") for each in ("redis", "database")]
    for error, says in (
        ("ConnectionError: 10.0.0.7", "refuses the connection"),
        ("TimeoutError: ", "silent"),
    ):
        redis = replace(HEALTHY.redis, error=error)
        health = health_of(replace(HEALTHY, redis=redis, alerts=tuple(alerts)))
        assert "10.0.0.7" not in health.model_dump_json()
        assert says in health.alerts[0].message


# metrics


def test_figures_of_a_snapshot() -> None:
    found = figures(exposition(replace(HEALTHY, alerts=(TOO_DEEP,)), "1.2.3"))
    assert found["couturecast_build_info", "1.2.3"] == 1
    assert found["couturecast_redis_memory_limit_bytes",] == 2**30
    assert found["couturecast_workers",] == 3
    assert found["couturecast_dead_letters",] == 2
    assert found["couturecast_event_loop_lag_seconds",] == 0.002
    assert found["couturecast_alert", "depth", COLOR] == 1
    assert found["couturecast_queue_utilisation_ratio", COLOR] == 2 / 5
    assert found["couturecast_queue_rate_used_starts", WEATHER] == 12
    assert found["couturecast_queue_rate_wait_seconds", WEATHER] == 0
    assert found["couturecast_queue_oldest_age_seconds", COLOR] == 0
    assert found["couturecast_queue_wait_seconds", "0.95", COLOR] == 0.011
    assert found["couturecast_queue_run_seconds", "0.5", COLOR] == 0.084
    assert found["couturecast_jobs_completed_total", COLOR] == 1200
    assert found["couturecast_attempts_failed_total", COLOR] == 5
    assert found["couturecast_jobs_retried_total", COLOR] == 4
    assert found["couturecast_jobs_dead_lettered_total", COLOR] == 1


def test_what_is_not_known_has_no_figure() -> None:
    away = DatabaseSnapshot("sqlite:///x", "no answer")
    found = figures(exposition(replace(HEALTHY, database=away, dead_letters=None, loop_lag=None), "1"))
    assert found["couturecast_database_up",] == 0
    assert ("couturecast_dead_letters",) not in found
    assert ("couturecast_event_loop_lag_seconds",) not in found
    assert ("couturecast_queue_rate_used_starts", COLOR) not in found


def test_while_redis_is_away_old_figures_do_not_pass_for_new() -> None:
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
            f"couturecast_{name}" for name in ("jobs", "attempts", "cache", "log_lines", "repairs")
        )
        assert (family.type == "counter") == family.name.startswith(counts)


def test_the_cache_is_counted_also_while_redis_is_away() -> None:
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


def test_a_path_whose_end_may_hold_slashes_is_described_as_any_other() -> None:
    deep = [route for route in ROUTES if route.slashes]
    assert {route.path for route in deep} == {
        "/api/v1/cache/users/{user_id}",
        "/api/v1/personalization/users/{user_id}",
    }
    assert all(route.pattern == route.path.replace("}", ":path}") for route in deep)
