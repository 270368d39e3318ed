"""``GET /api/v1/scaling``: the figure that an autoscaler reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.served import QUEUE, Served, assert_problem, served
from tests.support.servers import ValkeyServer
from tests.support.waiting import until
from workers.engine.policy import DEFAULT_POLICIES, MAX_PROCESSES

SCALING = "/api/v1/scaling"


@contextlib.contextmanager
def stranger(running: Served) -> Iterator[httpx.Client]:
    """A client without the token."""
    with httpx.Client(base_url=running.url, timeout=30) as client:
        yield client


@pytest.mark.slow
def test_the_load_needs_no_token_and_a_paused_queue_has_none(tmp_path: Path) -> None:
    with served(tmp_path) as running, running.client() as client, stranger(running) as open_client:
        idle = open_client.get(SCALING).json()
        assert (idle["load"], idle["max_processes"]) == (0.0, MAX_PROCESSES)
        capacities = {name: queue["capacity"] for name, queue in idle["queues"].items()}
        assert capacities == {name: policy.concurrency for name, policy in DEFAULT_POLICIES.items()}

        assert client.post(f"/api/v1/admin/queues/{QUEUE}/pause", json={"reason": "CDN"}).status_code == 200
        jobs = [{"data": {}} for _ in range(10)]
        assert client.post(f"/api/v1/queues/{QUEUE}/jobs", json=jobs).status_code == 202
        until(lambda: open_client.get(SCALING).json()["queues"][QUEUE]["ready"] == 10)
        paused = open_client.get(SCALING).json()
        assert paused["load"] == 0.0
        assert paused["queues"][QUEUE] == {
            "load": 0.0, "in_flight": 0, "ready": 10, "due": 0, "capacity": 5, "paused": True,
        }  # fmt: skip


def test_the_highest_load_is_that_of_the_fullest_queue(tmp_path: Path) -> None:
    with served(tmp_path, handler="slow") as running, running.client() as client:
        jobs = [{"data": {"seconds": 60}} for _ in range(12)]
        assert client.post(f"/api/v1/queues/{QUEUE}/jobs", json=jobs).status_code == 202
        until(lambda: client.get(SCALING).json()["queues"][QUEUE]["in_flight"] == 5)
        answer = client.get(SCALING).json()
        assert (answer["load"], answer["queues"][QUEUE]["load"]) == (2.4, 2.4)
        running.process.kill()


def test_without_redis_it_is_a_problem_without_an_address(tmp_path: Path, valkey: ValkeyServer) -> None:
    with served(tmp_path, REDIS_URL=valkey.url) as running, stranger(running) as client:
        assert client.get(SCALING).status_code == 200
        valkey.kill()
        until(lambda: client.get(SCALING).status_code == 503)
        problem = assert_problem(client.get(SCALING), 503, "Redis")
        assert str(valkey.port) not in problem["detail"]
        assert client.get(SCALING).headers["retry-after"] == "5"
