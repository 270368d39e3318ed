"""The routes, their description, and what health makes of a snapshot."""

from __future__ import annotations

import asyncio
import json
import pkgutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel
from redis.exceptions import ConnectionError as RedisConnectionError
from starlette.requests import ClientDisconnect
from starlette.types import Message
from structlog.testing import capture_logs

from app.http import filters, routers
from app.http.application import CLOSED_ROUTERS, OPEN_ROUTERS, make_application
from app.http.authentication import CLOSED_PREFIX
from app.http.problems import Problem, ProblemError, problem_of
from app.http.routers.dead_letter_export import ExportResponse
from app.http.routers.health import health_of
from app.http.routing import StrictRequest
from storage.errors import ApplianceError, DatabaseUnavailableError, InvalidCursorError, InvalidFilterError
from tests.support.fake_moments import AWAY, HEALTHY, NOW
from workers.engine.policy import COLOR
from workers.errors import ConflictError, InvalidJobError, NotFoundError, ReadOnlyError, UnknownQueueError
from workers.monitoring.alert_rules import BY_NAME, Thresholds
from workers.monitoring.snapshot import Alert

ROUTER_MODULES = [module.name for module in pkgutil.iter_modules(routers.__path__, f"{routers.__name__}.")]
TOO_DEEP = Alert(COLOR, "backlog", "132 queued, limit 100")


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


@pytest.mark.slow
def test_each_operation_has_a_name_of_its_own_a_summary_and_a_tag() -> None:
    names = [operation["operationId"] for _, operation in operations()]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    assert all(operation["summary"] and operation["tags"] for _, operation in operations())


@pytest.mark.slow
def test_each_parameter_says_what_it_is() -> None:
    silent = [
        (path, parameter["name"])
        for path, operation in operations()
        for parameter in operation.get("parameters", ())
        if not (parameter.get("description") or parameter["schema"].get("description"))
    ]
    assert not silent


def test_each_parameter_that_may_be_any_text_or_an_id_has_an_example() -> None:
    without = {
        (path, parameter["name"])
        for path, operation in operations()
        for parameter in operation.get("parameters", ())
        if parameter["name"] != "cursor"  # `next` of the page before: no other text is one
        and (parameter["in"] == "path" or parameter["schema"]["type"] == "string")
        and {"enum", "examples"}.isdisjoint(parameter["schema"])
    }
    assert not without


@pytest.mark.slow
def test_each_body_and_each_answer_has_an_example() -> None:
    schemas = described()["components"]["schemas"]

    def has_example(part: Any) -> bool:
        if isinstance(part, list):
            return any(map(has_example, part))
        if not isinstance(part, dict):
            return False
        model = part.get("$ref", "").rpartition("/")[2]
        return not {"example", "examples"}.isdisjoint(part) or any(
            map(has_example, [*part.values(), schemas.get(model)])
        )

    for path, operation in operations():
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            for media_type, content in part.get("content", {}).items():
                assert has_example(content), (path, media_type)


def test_the_example_of_a_problem_has_its_status() -> None:
    for path, operation in operations():
        for status, answer in operation["responses"].items():
            problem = answer.get("content", {}).get("application/problem+json")
            if problem is not None:
                assert Problem.model_validate(problem["example"]).status == int(status), path


def test_each_example_is_what_its_model_takes() -> None:
    models = [
        model
        for module in (*map(import_module, ROUTER_MODULES), filters)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, BaseModel) and model.__module__ == module.__name__
    ]
    shown = 0
    for model in models:
        extra = model.model_config.get("json_schema_extra")
        for example in extra.get("examples", ()) if isinstance(extra, dict) else ():  # type: ignore[union-attr]
            model.model_validate_json(json.dumps(example))
            shown += 1
    assert shown > 40


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


def test_a_queue_with_an_alert_is_unhealthy_and_so_is_the_whole() -> None:
    full = Alert(None, "redis_memory", "Redis memory 92 % full, limit 80 %")
    health = health_of(replace(HEALTHY, alerts=(full, TOO_DEEP)))
    assert not health.healthy
    assert [queue.name for queue in health.queues if not queue.healthy] == [COLOR]
    assert [(alert.name, alert.message) for alert in health.alerts] == [("redis_memory", full.message)]
    of_a_server = health_of(replace(HEALTHY, alerts=(full,)))
    assert not of_a_server.healthy
    assert all(queue.healthy for queue in of_a_server.queues)


@pytest.mark.parametrize(
    ("fields", "healthy"),
    [
        ({"state": "pending"}, True),
        ({"state": "firing"}, False),
        ({"state": "acknowledged", "acknowledged_by": "anna@box-7"}, False),
        ({"state": "silenced", "silenced_by": "anna@box-7", "silence_reason": "box-7 moves"}, True),
        ({"severity": "information"}, True),
    ],
)
def test_alerts_that_are_pending_silenced_or_information_leave_a_queue_healthy(
    fields: dict[str, Any], healthy: bool
) -> None:
    alert = replace(TOO_DEEP, since=NOW - 90, value=132, limit=100, **fields)
    health = health_of(replace(HEALTHY, alerts=(alert,)))
    (shown,) = (queue for queue in health.queues if queue.name == COLOR)
    assert (health.healthy, shown.healthy) == (healthy, healthy)
    (found,) = shown.alerts
    assert (found.state, found.severity) == (alert.state, alert.severity)
    assert (found.since, found.value, found.limit) == (NOW - 90, 132, 100)
    assert "box-7" not in health.model_dump_json()


def test_a_queue_shows_its_latency_with_baselines_its_utilisation_and_its_own_limits() -> None:
    (first, *others) = HEALTHY.queues
    queue = replace(first, wait_baseline=0.5, run_baseline=None)
    thresholds = Thresholds({("backlog", None): 500, ("backlog", queue.name): 20, ("stalled", None): 30})
    health = health_of(replace(HEALTHY, queues=(queue, *others)), thresholds)
    shown, other = health.queues[:2]
    assert (shown.latency.p95, shown.latency.baseline) == (queue.wait.p95, 0.5)
    assert (shown.run.p95, shown.run.baseline) == (queue.run.p95, None)
    assert shown.utilisation == queue.in_flight / queue.concurrency
    assert shown.thresholds.model_dump() == {"depth": 20, "failure_rate": 0.05, "slow": 2, "stalled": 30}
    assert (other.thresholds.depth, health.thresholds.depth) == (500, 500)


@pytest.mark.parametrize("name", ["stalled", "plan_halted", "new_error", "schedule_missed"])
def test_what_names_a_process_or_quotes_an_error_is_only_named_in_the_health(name: str) -> None:
    alert = Alert(COLOR, name, "box-7:4001 takes nothing for 12 s, 3 ready", subject="box-7-4001")
    health = health_of(replace(HEALTHY, alerts=(alert,)))
    (shown,) = (queue.alerts[0] for queue in health.queues if queue.name == COLOR)
    assert shown.message == BY_NAME[name].title
    assert "box-7" not in health.model_dump_json()


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


def test_the_health_tells_a_server_that_refuses_writes_from_one_that_does_not_answer() -> None:
    alerts = tuple(Alert(None, name, "connecting to 10.0.0.7") for name in ("redis", "database"))
    redis = replace(HEALTHY.redis, refuses_writes="is a read-only replica (READONLY)")
    database = replace(HEALTHY.database, refuses_writes="it is read-only")
    health = health_of(replace(HEALTHY, redis=redis, database=database, alerts=alerts))
    said = ["Redis takes no writes", "the database refuses writes"]
    assert [alert.message for alert in health.alerts] == said


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
