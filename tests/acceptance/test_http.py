"""Routes of a running program: answers and refusals."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.routing import APIRoute
from prometheus_client.parser import text_string_to_metric_families

from app.http.application import CLOSED_ROUTERS, OPEN_ROUTERS
from tests.acceptance.served import QUEUE, Served, assert_problem, metrics
from tests.support.program import client as valkey
from workers.engine.policy import DEFAULT_POLICIES

JOBS = f"/api/v1/queues/{QUEUE}/jobs"
DRAIN = "/api/v1/admin/drain"
TIMEOUT_SECONDS = 60.0


@pytest.fixture
def stranger(server: Served) -> Iterator[httpx.Client]:
    """A client without the token."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


# what anybody may see


def test_probes_answer_without_a_token(stranger: httpx.Client) -> None:
    alive, ready = stranger.get("/livez"), stranger.get("/readyz")
    assert (alive.status_code, alive.json()) == (200, {"alive": True, "reasons": []})
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})
    assert ready.headers["cache-control"] == "no-store"
    assert stranger.head("/livez").status_code == 200
    assert "server" not in ready.headers


def test_a_probe_may_carry_a_query(stranger: httpx.Client) -> None:
    assert stranger.get("/livez?now=1").status_code == 200


def test_the_health_has_every_queue_and_the_limits(stranger: httpx.Client) -> None:
    answer = stranger.get("/api/v1/health/queues")
    assert answer.status_code == 200
    health = answer.json()
    assert health["healthy"] is True
    assert [queue["name"] for queue in health["queues"]] == list(DEFAULT_POLICIES)
    for queue in health["queues"]:
        assert (queue["healthy"], queue["workers"], queue["paused"], queue["alerts"]) == (True, 1, None, [])
        assert set(queue["latency"]) == set(queue["run"]) == {"p50", "p95", "p99", "baseline"}
        assert set(queue["thresholds"]) == {"depth", "failure_rate", "slow", "stalled"}
    assert health["thresholds"] == {
        "depth": 100,
        "failure_rate": 0.05,
        "redis_memory": 0.8,
        "letters_waiting": 60.0,
    }


def test_metrics_have_names_units_and_help(stranger: httpx.Client) -> None:
    answer = stranger.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.text))
    assert all(family.name.startswith("couturecast_") and family.documentation for family in families)
    found = metrics(stranger)
    assert found["couturecast_redis_up", ""] == found["couturecast_database_up", ""] == 1
    assert found["couturecast_queue_concurrency", QUEUE] == 5
    assert found["couturecast_queue_rate_limit_starts", "weather-ingestion"] == 60
    assert ("couturecast_queue_rate_limit_starts", QUEUE) not in found


def test_the_description_lists_what_is_served(stranger: httpx.Client) -> None:
    document = stranger.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    routers = (*OPEN_ROUTERS, *CLOSED_ROUTERS)
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    assert set(document["paths"]) == {route.path_format for route in routes}
    enqueue = document["paths"]["/api/v1/queues/{queue}/jobs"]["post"]
    assert enqueue["security"] == [{"token": []}]
    assert set(enqueue["responses"]) == {
        *("202", "400", "401", "403", "404", "408", "409", "413", "415", "422", "500", "503")
    }


# enqueue


def test_a_job_is_enqueued_and_its_key_answered(server: Served, client: httpx.Client) -> None:
    answer = client.post(JOBS, json={"data": {"text": "ä\u2028"}})
    assert answer.status_code == 202
    assert answer.json()["queue"] == QUEUE
    (key,) = answer.json()["keys"]
    with valkey(server.program.data_dir) as redis:
        job = json.loads(redis.get(f"saq:job:{QUEUE}:{key}"))  # type: ignore[arg-type]
    assert job["kwargs"] == {"text": "ä\u2028"}


def test_a_list_of_jobs_is_enqueued_in_order(client: httpx.Client) -> None:
    jobs = [{"data": {"n": n}, "key": f"listed-{n}", "delay": 600} for n in range(3)]
    answer = client.post(JOBS, json=jobs)
    assert (answer.status_code, answer.json()["keys"]) == (202, ["listed-0", "listed-1", "listed-2"])


def test_a_delayed_job_waits_and_holds_its_key(server: Served, client: httpx.Client) -> None:
    job = {"data": {}, "key": "later", "delay": 600}
    assert client.post(JOBS, json=job).status_code == 202
    with valkey(server.program.data_dir) as redis:
        due = redis.zscore(f"saq:{QUEUE}:incomplete", f"saq:job:{QUEUE}:later")
        now, _ = redis.time()  # type: ignore[misc]
    assert due is not None
    assert now + 500 < due < now + 601  # type: ignore[operator]
    assert_problem(client.post(JOBS, json=job), 409, "queued already: later")


def test_a_list_with_queued_keys_is_answered_with_the_keys_that_were_enqueued(client: httpx.Client) -> None:
    assert client.post(JOBS, json={"data": {}, "key": "taken", "delay": 600}).status_code == 202
    answer = client.post(JOBS, json=[{"data": {}, "key": key, "delay": 600} for key in ("free", "taken")])
    problem = assert_problem(answer, 409, "1 of 2 jobs enqueued")
    assert problem["keys"] == ["free", None]


def test_a_list_with_a_bad_job_enqueues_nothing(server: Served, client: httpx.Client) -> None:
    good, bad = {"data": {}, "key": "good", "delay": 600}, {"data": {"text": "\0"}}
    problem = assert_problem(client.post(JOBS, json=[good, bad]), 422, "[1]")
    assert "NUL" in problem["errors"][0]["message"]
    with valkey(server.program.data_dir) as redis:
        assert not redis.exists(f"saq:job:{QUEUE}:good")


@pytest.mark.slow
def test_long_integers_arrive_as_they_were_sent(server: Served, client: httpx.Client) -> None:
    number = 2**80 + 1
    answer = client.post(JOBS, json={"data": {"n": number}, "key": "long", "delay": 600})
    assert answer.status_code == 202
    with valkey(server.program.data_dir) as redis:
        assert json.loads(redis.get(f"saq:job:{QUEUE}:long"))["kwargs"] == {"n": number}  # type: ignore[arg-type]


# the record


def test_actions_are_recorded_by_name_and_enqueueing_is_not(server: Served, client: httpx.Client) -> None:
    discard, none = "/api/v1/admin/failed-jobs/discard", {"filter": {"error": "never seen"}}
    for headers in ({}, {"X-Operator": "Anna (on call)"}):
        assert client.post(discard, json=none, headers=headers).status_code == 200
        assert client.post(JOBS, json={"data": {}, "delay": 600}, headers=headers).status_code == 202
    with contextlib.closing(sqlite3.connect(server.program.data_dir / "couturecast.db")) as database:
        rows = database.execute("SELECT actor, verb, affected FROM operator_actions ORDER BY id DESC LIMIT 2")
        assert rows.fetchall() == [("http:Anna (on call)", "discard", 0), ("http:127.0.0.1", "discard", 0)]


# refusals


@dataclass(frozen=True)
class Refused:
    status: int
    says: str = ""
    method: str = "POST"
    path: str = JOBS
    content: bytes = b'{"data": {}}'
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    field: str | None = None


DEEP = b'{"data": {"x": ' + b"[" * 101 + b"]" * 101 + b"}}"
CASES = {
    "unknown path": Refused(404, "/openapi.json", path="/api/v1/nothing"),
    "trailing slash": Refused(404, path=f"{JOBS}/"),
    "unknown queue": Refused(404, "use one of weather-ingestion", path="/api/v1/queues/colours/jobs"),
    "wrong method": Refused(405, "use POST", "DELETE"),
    "wrong method on a probe": Refused(405, "use GET, HEAD", "POST", "/livez"),
    "no content type": Refused(415, "application/json", headers={}),
    "other content type": Refused(415, headers={"Content-Type": "text/plain"}),
    "no body": Refused(400, "not JSON", content=b""),
    "no JSON": Refused(400, "line 1, column 2", content=b"{oops}"),
    "no UTF-8": Refused(400, "UTF-8", content=b'{"data": {"x": "\xff"}}'),
    "NaN": Refused(400, "NaN is not a number", content=b'{"data": {"x": NaN}}'),
    "infinity": Refused(400, "-1e400 is too large", content=b'{"data": {"x": [-1e400]}}'),
    "an endless number": Refused(400, content=b'{"data": {"x": ' + b"9" * 5000 + b"}}"),
    "nested without end": Refused(400, "deeply", content=b"[" * 100_000),
    "too deep": Refused(422, "deeper than 100", content=DEEP, field="data"),
    "no object": Refused(422, content=b'"data"', field="body"),
    "data missing": Refused(422, content=b"{}", field="data"),
    "data of another type": Refused(422, content=b'{"data": []}', field="data"),
    "unknown field": Refused(422, content=b'{"data": {}, "queue": "x"}', field="queue"),
    "empty key": Refused(422, content=b'{"data": {}, "key": ""}', field="key"),
    "delay as text": Refused(422, content=b'{"data": {}, "delay": "1"}', field="delay"),
    "negative delay": Refused(422, content=b'{"data": {}, "delay": -1}', field="delay"),
    "endless delay": Refused(400, "1e999 is too large", content=b'{"data": {}, "delay": 1e999}'),
    "half a character": Refused(422, "valid UTF-8", content=b'{"data": {"x": "\\ud800"}}', field="data"),
    "empty list": Refused(422, "1 to 1000", content=b"[]", field="body"),
    "long list": Refused(422, "not 1001", content=json.dumps([{"data": {}}] * 1001).encode(), field="body"),
    "bad job in a list": Refused(422, content=b'[{"data": {}}, {"data": 1}]', field="[1].data"),
    "unknown parameter": Refused(422, path=f"{JOBS}?wait=1", field="wait"),
    "bad parameter": Refused(422, content=b"", path=f"{DRAIN}?wait=long", field="wait"),
    "no finite wait": Refused(422, path=f"{DRAIN}?wait=inf", field="wait"),
    "negative wait": Refused(422, path=f"{DRAIN}?wait=-1", field="wait"),
    "parameter twice": Refused(422, "more than once", path=f"{DRAIN}?wait=1&wait=1", field="wait"),
    "parameter unknown to a drain": Refused(422, path=f"{DRAIN}?now=1", field="now"),
    "body where none is taken": Refused(422, "is not taken", path=DRAIN, field="body"),
    "operator without a name": Refused(
        422, headers={"Content-Type": "application/json", "X-Operator": ""}, field="X-Operator"
    ),
    "operator with too long a name": Refused(
        422, headers={"Content-Type": "application/json", "X-Operator": "x" * 65}, field="X-Operator"
    ),
    "operator with no printable name": Refused(
        422, headers={"Content-Type": "application/json", "X-Operator": "a\tb"}, field="X-Operator"
    ),
    "large job": Refused(413, content=b'{"data": {"x": "' + b"x" * 1_100_000 + b'"}}'),
    "job just too large": Refused(
        422, "1,000,000 are allowed", content=b'{"data": {"x": "' + b"x" * 1_000_001 + b'"}}'
    ),
    "large list": Refused(413, content=b" \n[" + b" " * 8_000_000 + b"]"),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_requests_are_problems_that_name_the_field(client: httpx.Client, name: str) -> None:
    case = CASES[name]
    answer = client.request(case.method, case.path, content=case.content, headers=case.headers)
    problem = assert_problem(answer, case.status, case.says)
    if case.field is not None:
        assert [error["field"] for error in problem["errors"]] == [case.field]
        assert all(error["message"] for error in problem["errors"])
    if case.status == 405:
        assert answer.headers["allow"] in ("POST", "GET, HEAD")


@pytest.mark.parametrize("beginning", [b'{"data": {"x": "', b"["])
def test_a_body_without_a_length_is_limited_as_it_arrives(client: httpx.Client, beginning: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        yield beginning
        for _ in range(200):
            yield b"x" * 50_000

    headers = {"Content-Type": "application/json"}
    assert_problem(client.post(JOBS, content=pieces(), headers=headers), 413)
    assert client.get("/livez").status_code == 200


def test_an_endless_body_is_refused_before_its_end(server: Served) -> None:
    place = urlsplit(server.url)
    head = f"POST {JOBS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n" % 1_000_000 + b"x" * 1_000_000 + b"\r\n"
    with socket.create_connection((place.hostname, place.port or 0), timeout=TIMEOUT_SECONDS) as line:
        line.sendall(head.encode() + chunk * 100)
        assert line.recv(100).startswith(b"HTTP/1.1 413")


def test_a_length_above_the_limit_is_refused_before_the_body_is_sent(server: Served) -> None:
    place = urlsplit(server.url)
    head = f"POST {JOBS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    with socket.create_connection((place.hostname, place.port or 0), timeout=TIMEOUT_SECONDS) as line:
        line.sendall(head.encode())
        assert line.recv(100).startswith(b"HTTP/1.1 413")


# the token


WRONG: dict[str, dict[str, str]] = {
    "none": {},
    "wrong": {"Authorization": "Bearer wrong"},
    "other scheme": {"Authorization": "Basic wrong"},
    "no scheme": {"Authorization": "wrong"},
    "empty": {"Authorization": "Bearer"},
    "no text": {"Authorization": "Bearer \xff"},
}
PATHS = [
    ("POST", JOBS),
    ("POST", DRAIN),
    ("GET", DRAIN),
    ("POST", f"{DRAIN}?wait=long"),
    ("GET", "/api/v1/admin"),
    ("GET", "/api/v1/admin/nothing"),
    ("POST", "/api/v1/queues/colours/jobs"),
    ("GET", "/api/v2"),
]


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_without_the_token_every_path_answers_401(
    stranger: httpx.Client, name: str, method: str, path: str
) -> None:
    headers: Any = {key: value.encode("latin-1") for key, value in WRONG[name].items()}
    answer = stranger.request(method, path, headers=headers)
    assert_problem(answer, 401, "Authorization: Bearer")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_token_needs_its_scheme_and_all_its_characters(server: Served, stranger: httpx.Client) -> None:
    token = server.token
    for given in (token, f"Basic {token}", f"Bearer {token[:-1]}", f"Bearer {token}x"):
        assert_problem(stranger.post(JOBS, headers={"Authorization": given}), 401)
    assert_problem(stranger.post(JOBS, headers={"Authorization": f"bearer {token}"}), 415)


def test_counters_follow_the_jobs(client: httpx.Client) -> None:
    queue = "moderation-review"
    answer = client.post(f"/api/v1/queues/{queue}/jobs", json=[{"data": {}}] * 20)
    assert answer.status_code == 202
    assert _reaches(client, ("couturecast_jobs_completed_total", queue), 20)


def _reaches(client: httpx.Client, figure: tuple[str, str], value: float) -> bool:
    import time

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if metrics(client)[figure] == value:
            return True
        time.sleep(0.1)
    return False
