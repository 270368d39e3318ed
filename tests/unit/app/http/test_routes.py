"""The routes, their description, and what health and metrics make of a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import ConnectionError as RedisConnectionError
from starlette.requests import ClientDisconnect
from starlette.types import Message
from structlog.testing import capture_logs

from app.http.application import CLOSED_ROUTERS, OPEN_ROUTERS, make_application
from app.http.authentication import CLOSED_PREFIX
from app.http.problems import ProblemError, problem_of
from app.http.routers.dead_letter_export import ExportResponse
from app.http.routers.health import health_of
from app.http.routers.metrics import exposition
from app.http.routing import StrictRequest
from storage.errors import ApplianceError, DatabaseUnavailableError, InvalidCursorError, InvalidFilterError
from tests.support.fake_operations import AWAY, HEALTHY
from workers.engine.policy import COLOR, WEATHER
from workers.errors import ConflictError, InvalidJobError, NotFoundError, ReadOnlyError, UnknownQueueError
from workers.monitoring.snapshot import Alert, DatabaseSnapshot, Durations

TOO_DEEP = Alert(COLOR, "backlog", "132 queued, limit 100")


def figures(text: bytes) -> dict[tuple[str, ...], float]:
    """The figures, by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


# the routes


class _State:
    version = "1"


def described() -> dict[str, Any]:
    """The description that the application serves."""
    return make_application(_State(), "t" * 16).openapi()  # type: ignore[arg-type]


def operations() -> list[tuple[str, dict[str, Any]]]:
    return [(path, operation) for path, item in described()["paths"].items() for operation in item.values()]


def routes(routers: Sequence[APIRouter]) -> list[APIRoute]:
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]


def test_closed_routes_lie_below_the_prefix_that_needs_the_token() -> None:
    assert all(route.path.startswith(CLOSED_PREFIX) for route in routes(CLOSED_ROUTERS))


def test_each_path_and_method_is_served_once() -> None:
    served = routes((*OPEN_ROUTERS, *CLOSED_ROUTERS))
    assert len({(*route.methods, route.path) for route in served}) == len(served)


def test_each_operation_has_a_name_of_its_own_a_summary_and_a_tag() -> None:
    names = [operation["operationId"] for _, operation in operations()]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    assert all(operation["summary"] and operation["tags"] for _, operation in operations())


def test_problems_of_each_route_are_described() -> None:
    open_paths = {route.path for route in routes(OPEN_ROUTERS)}
    for path, operation in operations():
        expected = {"500"}
        if path not in open_paths:
            expected |= {"401", "422"}
            assert operation["security"] == [{"token": []}]
        if "{" in path:
            expected.add("404")
        if "requestBody" in operation:
            expected |= {"400", "408", "413", "415"}
        assert expected <= set(operation["responses"])
        assert ("401" in operation["responses"]) is (path not in open_paths)
        for status, response in operation["responses"].items():
            if status[0] in "45" and path not in open_paths:
                assert set(response["content"]) == {"application/problem+json"}


def test_parameters_are_described_at_their_operation() -> None:
    drain = described()["paths"]["/api/v1/admin/drain"]["post"]
    wait, operator = drain["parameters"]
    assert (wait["name"], wait["in"], wait["required"]) == ("wait", "query", False)
    limits = {"type": "number", "minimum": 0, "maximum": 86_400, "default": 0.0}
    assert limits.items() <= wait["schema"].items()
    assert (operator["name"], operator["in"]) == ("X-Operator", "header")


def test_no_parameter_is_null() -> None:
    for _, operation in operations():
        assert all(
            "anyOf" not in parameter["schema"] and parameter["schema"].get("type") != "null"
            for parameter in operation.get("parameters", ())
        )


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
    assert found.status_code == found.problem.status == status
    assert found.problem.detail


def test_a_defect_is_not_explained() -> None:
    assert problem_of(KeyError("x")) is None


@pytest.mark.parametrize("defect", [KeyError("x"), ApplianceError("broken")])
async def test_a_defect_is_logged_once_and_answered_in_one_line(defect: Exception) -> None:
    class Broken(_State):
        async def snapshot(self) -> Any:
            raise defect

    transport = httpx.ASGITransport(make_application(Broken(), "t" * 16))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with capture_logs() as lines:
            answer = await client.get("/api/v1/health/queues")
    assert [(line["path"], line["exc_info"]) for line in lines] == [("/api/v1/health/queues", defect)]
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json() == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "a defect of this program: its log has the traceback",
    }


# health


def test_a_queue_with_an_alert_is_unhealthy_and_a_server_with_one_is_not_a_queue() -> None:
    full = Alert(None, "redis_memory", "Redis memory 92% full, limit 80%")
    health = health_of(replace(HEALTHY, alerts=(full, TOO_DEEP)))
    assert not health.healthy
    assert [queue.name for queue in health.queues if not queue.healthy] == [COLOR]
    assert health.alerts == [full]
    assert health_of(replace(HEALTHY, alerts=(full,))).healthy


def test_without_redis_no_queue_is_healthy() -> None:
    health = health_of(AWAY)
    assert not health.healthy
    assert not any(queue.healthy for queue in health.queues)


def test_the_health_names_no_address_of_a_server() -> None:
    alerts = [
        Alert(None, metric, f"{metric}: connecting to 10.0.0.7:6379") for metric in ("redis", "database")
    ]
    for error, refusal, timed_out, says in (
        ("ConnectionError: 10.0.0.7", None, False, "refuses the connection"),
        ("TimeoutError: ", None, True, "silent"),
        ("Redis refuses writes (NOREPLICAS 10.0.0.7)", "refuses writes", False, "Redis refuses writes"),
    ):
        redis = replace(HEALTHY.redis, error=error, refusal=refusal, timed_out=timed_out)
        health = health_of(replace(HEALTHY, redis=redis, alerts=tuple(alerts)))
        assert "10.0.0.7" not in health.model_dump_json()
        assert says in health.alerts[0].message


# metrics


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
            for name in ("jobs", "attempts", "cache", "log_lines", "repairs", "notifications")
        )
        assert (family.type == "counter") == family.name.startswith(counts)


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


def test_notifications_are_counted_without_redis() -> None:
    found = figures(exposition(None, "1", notification_counts={"sent": 3, "failed": 1, "dropped": 0}))
    counted = [found["couturecast_notifications_total", name] for name in ("sent", "failed", "dropped")]
    assert counted == [3, 1, 0]


def test_a_path_whose_end_may_hold_slashes_is_described_as_any_other() -> None:
    deep = [route for route in routes(CLOSED_ROUTERS) if route.path.endswith(":path}")]
    assert {route.path_format for route in deep} == {
        "/api/v1/cache/entries/{key}",
        "/api/v1/cache/users/{user_id}",
        "/api/v1/personalization/users/{user_id}",
    }
    assert {route.path_format for route in deep} <= set(described()["paths"])


# bodies


async def test_a_body_that_takes_too_long_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.http.routing._BODY_SECONDS", 0.05)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(ProblemError) as refusal:
        await StrictRequest({"type": "http", "headers": []}, receive).json()
    assert refusal.value.status_code == 408
    assert refusal.value.headers == {"Connection": "close"}


async def test_a_client_that_leaves_is_not_a_defect() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect) as left:
        await StrictRequest({"type": "http", "headers": []}, receive).json()
    problem = problem_of(left.value)
    assert problem is not None
    assert problem.status_code == 400


# exports


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_an_export_that_fails_half_way_is_not_completed(spec_version: str) -> None:
    sent: list[Message] = []
    disconnected = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "first\n"
        raise DatabaseUnavailableError("the database does not answer")

    async def receive() -> Message:
        await disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "asgi": {"spec_version": spec_version}}
    await ExportResponse(pieces())(scope, receive, send)
    assert [message.get("body") for message in sent] == [None, b"first\n"]
    assert sent[-1]["more_body"] is True
