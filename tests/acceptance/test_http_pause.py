"""Pause and resume over HTTP, for the whole cluster, also while the database is unavailable."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.acceptance.served import QUEUE, Served, assert_problem, served

PAUSE, RESUME = (f"/api/v1/admin/queues/{QUEUE}/{verb}" for verb in ("pause", "resume"))


def test_a_queue_is_paused_and_resumed(server: Served, client: httpx.Client) -> None:
    paused = client.post(PAUSE, json={"reason": "CDN is down"}, headers={"X-Operator": "anna"})
    assert paused.status_code == 200
    assert (
        paused.json().items()
        >= {
            "queue": QUEUE,
            "paused": True,
            "by": "http:anna",
            "reason": "CDN is down",
        }.items()
    )
    shown = server.program.run("status", "--json").json["queues"]
    (seen,) = [queue["paused"] for queue in shown if queue["name"] == QUEUE]
    assert (seen["by"], seen["reason"]) == ("http:anna", "CDN is down")
    assert client.post(PAUSE).json()["reason"] == ""
    for was_paused in (True, False):
        resumed = client.post(RESUME)
        assert resumed.status_code == 200
        assert resumed.json() == {"queue": QUEUE, "paused": False, "was_paused": was_paused}
    with closing(sqlite3.connect(server.program.data_dir / "couturecast.db")) as database:
        acts = database.execute("SELECT verb, actor, affected FROM operator_actions ORDER BY id").fetchall()
    assert acts[0] == ("pause", "http:anna", 1)
    assert [verb for verb, *_ in acts] == ["pause", "pause", "resume", "resume"]


def test_unknown_queues_and_invalid_reasons_are_refused(server: Served, client: httpx.Client) -> None:
    assert_problem(client.post("/api/v1/admin/queues/nothing/pause"), 404)
    assert_problem(client.post(PAUSE, json={"reason": 7}), 422)
    assert_problem(client.post(PAUSE, json={"why": "x"}), 422)
    assert_problem(client.post(PAUSE, json={"reason": "x" * 501}), 422)
    with httpx.Client(base_url=server.url, timeout=30) as stranger:
        assert_problem(stranger.post(PAUSE), 401)
        assert_problem(stranger.post(RESUME), 401)


@pytest.mark.slow
def test_a_locked_database_does_not_prevent_a_pause(server: Served, client: httpx.Client) -> None:
    with closing(sqlite3.connect(server.program.data_dir / "couturecast.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert client.post(PAUSE, json={"reason": "outage"}).status_code == 200
        assert client.post(RESUME).json()["was_paused"]
    assert "an action is recorded in this log only" in server.log


def test_nothing_is_paused_in_read_only_mode(tmp_path: Path) -> None:
    with served(tmp_path, COUTURECAST_READ_ONLY="1") as running, running.client() as client:
        assert_problem(client.post(PAUSE), 403)
        assert_problem(client.post(RESUME), 403)
