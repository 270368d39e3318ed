"""A Redis for a queue: what a start, the probes, the status and the doctor say of several."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import redis

from tests.acceptance.doctor.conftest import doctor
from tests.acceptance.served import QUEUE, served
from tests.support.program import Program
from tests.support.servers import ValkeyServer
from tests.support.waiting import until

pytestmark = pytest.mark.slow

VARIABLE = "COUTURECAST_COLOR_EXTRACTION_REDIS_URL"


@pytest.fixture
def valkey_options() -> tuple[str, ...]:
    """Return the options of the Redis of the colours."""
    return ("--appendonly", "yes")


def test_e12_probes_and_status_name_the_redis_that_is_down_and_the_others_are_served(
    tmp_path: Path, redis_url: str, valkey: ValkeyServer
) -> None:
    names = {"REDIS_URL": redis_url, VARIABLE: valkey.url}
    with served(tmp_path, **names) as running, running.client() as client:
        assert client.get("/readyz").json() == {"ready": True, "reasons": []}
        valkey.kill()
        until(lambda: client.get("/readyz").status_code == 503)
        reasons = client.get("/readyz").json()["reasons"]
        assert reasons == [f"Redis of {QUEUE} refuses the connection"]
        assert client.get("/livez").status_code == 200
        health = client.get("/api/v1/health/queues").json()
        assert [queue["name"] for queue in health["queues"] if not queue["healthy"]] == [QUEUE]
        done = running.program.run("status", "--json", **names)
        assert done.code == 1
        (down,) = done.json["other_redises"]
        assert (down["queues"], down["error"].partition(":")[0]) == ([QUEUE], "ConnectionError")
        (colors,) = (queue for queue in done.json["queues"] if queue["name"] == QUEUE)
        assert set(colors) == {"name", "function", "redis_error"}
        _enqueue(client, "alert-fanout")
        until(lambda: _completed(client, "alert-fanout") == 1)
        valkey.start()
        until(lambda: client.get("/readyz").status_code == 200)
        _enqueue(client, QUEUE)
        until(lambda: _completed(client, QUEUE) == 1)


def test_e12_a_process_that_starts_while_a_redis_is_down_serves_the_others(
    tmp_path: Path, redis_url: str, valkey: ValkeyServer
) -> None:
    valkey.kill()
    names = {"REDIS_URL": redis_url, VARIABLE: valkey.url}
    with served(tmp_path, **names) as running, running.client() as client:
        assert running.event("a Redis does not answer")["queues"] == [QUEUE]
        _enqueue(client, "alert-fanout")
        until(lambda: _completed(client, "alert-fanout") == 1)
        valkey.start()
        until(lambda: client.get("/readyz").status_code == 200)


def test_what_is_wrong_with_the_redises_of_queues_is_one_line(program: Program, valkey: ValkeyServer) -> None:
    other_name = valkey.url.replace("127.0.0.1", "localhost")
    done = program.run("--no-ui", REDIS_URL=valkey.url, **{VARIABLE: other_name})
    assert done.code == 2
    (line,) = done.errors
    assert line.startswith(
        f"error: {VARIABLE}: {other_name} is the same Redis as {valkey.url} of REDIS_URL: "
    )
    done = program.run("status", REDIS_URL=valkey.url, **{VARIABLE: "redis://user:secret/x@host:1/0"})
    assert done.code == 2
    assert [line.partition(" the ")[0] for line in done.errors] == [f"error: {VARIABLE}:"]


def test_the_doctor_names_the_queues_of_each_redis_and_jobs_that_were_left_behind(
    program: Program, redis_url: str, valkey: ValkeyServer
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(f"saq:{QUEUE}:incomplete", {f"saq:job:{QUEUE}:left": 0})
    found = doctor(program, REDIS_URL=redis_url, **{VARIABLE: valkey.url})
    assert found.says("Redis queues") == (
        "warning",
        f"jobs of queues whose Redis is another one: 1 of {QUEUE}",
    )
    assert found.says(f"Redis of {QUEUE} queues") == ("ok", f"holds {QUEUE}")
    same = doctor(program, REDIS_URL=redis_url, **{VARIABLE: redis_url.replace("127.0.0.1", "localhost")})
    assert same.named("wrong") == [f"Redis of {QUEUE} queues"]
    same_server = doctor(program, REDIS_URL=redis_url, **{VARIABLE: redis_url.removesuffix("/0") + "/1"})
    assert "another database of the server in REDIS_URL" in same_server.says(f"Redis of {QUEUE} queues")[1]


def _enqueue(client: httpx.Client, queue: str) -> None:
    assert client.post(f"/api/v1/queues/{queue}/jobs", json={"data": {}}).is_success


def _completed(client: httpx.Client, queue: str) -> int:
    page = client.get("/api/v1/jobs", params={"queue": queue, "state": "done"}).json()
    return len(page["items"])
