"""Single jobs and schedules by command and over HTTP, on one running program."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.completing import complete, values
from tests.acceptance.served import QUEUE, Served, assert_problem
from tests.support.program import client as redis_of

LATER = ("one", "two/three", "four five", "sixü")


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    with server.client() as client:
        for key in LATER:
            client.post(f"/api/v1/jobs/{QUEUE}/{key}/remove")
        jobs = [{"data": {"number": 1}, "key": key, "delay": 600} for key in LATER]
        assert client.post(f"/api/v1/queues/{QUEUE}/jobs", json=jobs).status_code == 202
        yield client


def keys(client: httpx.Client, state: str) -> set[str]:
    page = client.get("/api/v1/jobs", params={"queue": QUEUE, "state": state, "limit": 200}).json()
    assert page["next"] is None
    return {item["key"] for item in page["items"]}


def run(server: Served, *arguments: str) -> Any:
    """The document that a command prints."""
    done = server.program.run(*arguments, "--json")
    assert done.code == 0, done.err
    return done.json


def test_jobs_are_listed_page_by_page(client: httpx.Client) -> None:
    found: list[str] = []
    parameters: dict[str, Any] = {"queue": QUEUE, "state": "scheduled", "limit": 3}
    while True:
        page = client.get("/api/v1/jobs", params=parameters).json()
        found += [item["key"] for item in page["items"]]
        if page["next"] is None:
            break
        parameters["cursor"] = page["next"]
    assert len(found) == len(set(found))
    assert set(LATER) <= set(found)
    assert_problem(client.get("/api/v1/jobs", params={"state": "asleep"}), 422)
    assert_problem(client.get("/api/v1/jobs", params={"cursor": "x"}), 422)


@pytest.mark.parametrize("key", LATER)
def test_any_key_can_be_named_in_a_path(client: httpx.Client, key: str) -> None:
    job = client.get(f"/api/v1/jobs/{QUEUE}/{key}").json()
    assert (job["key"], job["state"], job["payload"]) == (key, "scheduled", {"number": 1})
    assert job["why"]["cause"] == "scheduled"
    why = client.get(f"/api/v1/jobs/{QUEUE}/{key}/why").json()
    assert why["sentence"].startswith("delayed, due in ")
    aborted = client.post(
        f"/api/v1/jobs/{QUEUE}/{key}/abort", json={"version": job["version"], "reason": "no"}
    )
    assert aborted.json()["outcome"] == "done"
    assert key in keys(client, "failed")
    assert_problem(client.post(f"/api/v1/jobs/{QUEUE}/{key}/abort", json={"version": job["version"]}), 409)
    copy = client.post(f"/api/v1/jobs/{QUEUE}/{key}/duplicate").json()
    assert copy["new_key"] not in (None, key)
    assert client.post(f"/api/v1/jobs/{QUEUE}/{key}/remove").status_code == 200
    assert_problem(client.get(f"/api/v1/jobs/{QUEUE}/{key}"), 404)
    assert client.get(f"/api/v1/jobs/{QUEUE}/{key}/why").json()["cause"] == "unknown"


def test_many_jobs_are_changed_in_one_act(client: httpx.Client) -> None:
    named = [{"key": key} for key in LATER[:3]]
    body = {"queue": QUEUE, "jobs": [*named, {"key": "nothing"}], "reason": "wrong import"}
    done = client.post("/api/v1/jobs/abort", json=body).json()
    assert done["count"] == 3
    assert [item["outcome"] for item in done["items"]] == ["done", "done", "done", "gone"]
    assert_problem(client.post("/api/v1/jobs/abort", json={"queue": QUEUE, "jobs": []}), 422)
    events = client.get("/api/v1/events", params={"kind": "jobs-aborted"}).json()["items"]
    assert events[0]["message"].endswith(f"aborted 3 jobs of {QUEUE}: wrong import")


def test_a_job_that_is_to_run_now_does(client: httpx.Client) -> None:
    done = client.post(f"/api/v1/jobs/{QUEUE}/one/run-now").json()
    assert done["message"] == "one: at the head of its queue"
    deadline = time.monotonic() + 30
    while client.get(f"/api/v1/jobs/{QUEUE}/one").json()["state"] not in ("done", "failed"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert client.get(f"/api/v1/jobs/{QUEUE}/why").json()["cause"] in ("empty", "starts")


def test_jobs_without_a_token_are_nobodys_business(server: Served) -> None:
    for path in ("/api/v1/jobs", f"/api/v1/jobs/{QUEUE}/one", f"/api/v1/jobs/{QUEUE}/why", "/api/v1/cron"):
        assert httpx.get(server.url + path).status_code == 401


@pytest.mark.slow
def test_the_commands_show_what_http_shows(client: httpx.Client, server: Served) -> None:
    listed = run(server, "jobs", "list", "--queue", QUEUE, "--state", "scheduled")
    assert {item["key"] for item in listed["items"]} == keys(client, "scheduled")
    shown = run(server, "jobs", "show", QUEUE, "two/three")
    assert shown["payload"] == {"number": 1}
    assert run(server, "jobs", "why", QUEUE, "two/three")["cause"] == "scheduled"
    found = run(server, "jobs", "list", "--state", "scheduled", "--text", "TWO/")["items"]
    assert [item["key"] for item in found] == ["two/three"]
    query = {"state": "scheduled", "text": "TWO/"}
    assert client.get("/api/v1/jobs", params=query).json()["items"][0]["key"] == "two/three"
    assert (
        client.get("/api/v1/jobs/alike").json() == run(server, "jobs", "alike") == {"items": [], "next": None}
    )
    table = server.program.run("jobs", "list", "--queue", QUEUE)
    assert "due in" in table.out
    assert server.program.run("jobs", "show", QUEUE, "nothing").code == 1
    assert server.program.run("jobs", "why", "nowhere").code == 2
    assert server.program.run("jobs", "list", "--state", "asleep").code == 2


def test_a_change_of_jobs_is_previewed_confirmed_and_done(client: httpx.Client, server: Served) -> None:
    program = server.program
    assert program.run("jobs", "abort", QUEUE, "one").code == 2, "there is nobody to be asked"
    preview = run(server, "jobs", "abort", QUEUE, "one", "four five", "--dry-run")
    assert (preview["dry_run"], preview["total"]) == (True, 2)
    assert keys(client, "scheduled") >= {"one", "four five"}
    done = program.run("jobs", "abort", QUEUE, "one", "four five", "nothing", "--yes", "--json")
    assert (done.code, done.json["total"]) == (1, 2)
    assert program.run("jobs", "duplicate", QUEUE, "one").code == 0
    assert run(server, "jobs", "remove", QUEUE, "one", "--yes")["total"] == 1
    assert program.run("jobs", "run-now", QUEUE, "one").code == 1


def test_schedules_are_disabled_for_the_whole_cluster(client: httpx.Client, server: Served) -> None:
    (schedule,) = client.get("/api/v1/cron").json()["items"]
    assert (schedule["name"], schedule["enabled"]) == ("weather", True)
    disabled = client.post("/api/v1/cron/weather/disable", json={"reason": "maintenance"})
    assert disabled.json() == {"schedule": "weather", "enabled": False, "changed": True}
    (shown,) = run(server, "cron", "list")["items"]
    assert (shown["enabled"], shown["disabled_reason"], shown["next_at"]) == (False, "maintenance", None)
    assert "maintenance" in server.program.run("cron", "list").out
    assert run(server, "cron", "enable", "weather")["changed"]
    assert client.post("/api/v1/cron/weather/enable").json()["changed"] is False
    assert client.post("/api/v1/cron/weather/run").json()["queue"] == "weather-ingestion"
    assert_problem(client.post("/api/v1/cron/nothing/run"), 404)
    assert server.program.run("cron", "run", "nothing").code == 1


def test_keys_of_jobs_are_completed(client: httpx.Client, server: Served) -> None:
    program = server.program
    assert "one" in values(program, f"couturecast-tui jobs show {QUEUE} o")
    described = complete(program, f"couturecast-tui jobs abort {QUEUE} on", "fish").out
    assert "one\tscheduled" in described.splitlines()
    assert values(program, "couturecast-tui jobs list --state s") == ["scheduled"]
    assert values(program, "couturecast-tui cron run w") == ["weather"]
    assert values(program, "couturecast-tui jobs show c") == [QUEUE]


def test_what_is_not_a_job_is_shown_on_every_surface(client: httpx.Client, server: Served) -> None:
    client.post(f"/api/v1/admin/queues/{QUEUE}/pause")
    try:
        with redis_of(server.program.data_dir) as redis:
            redis.set(
                f"saq:job:{QUEUE}:odd", b'{"function": 7, "kwargs": {"x": NaN, "y": "\\ud800"}, "key": "odd"}'
            )
            redis.rpush(f"saq:{QUEUE}:queued", f"saq:job:{QUEUE}:odd", b"\xff\x1b[31m", "somebody:key")
        listed = client.get("/api/v1/jobs", params={"queue": QUEUE, "state": "ready"}).json()["items"]
        assert all(item["problem"] for item in listed if item["key"] != "one")
        job = client.get(f"/api/v1/jobs/{QUEUE}/odd").json()
        assert job["problem"] == "not a job: no function"
        out = server.program.run("jobs", "list", "--queue", QUEUE, "--state", "ready").out
        assert "\x1b" not in out
        assert "somebody:key" in out
        assert json.loads(server.program.run("jobs", "show", QUEUE, "odd", "--json").out)["problem"]
    finally:
        client.post(f"/api/v1/admin/queues/{QUEUE}/resume")
