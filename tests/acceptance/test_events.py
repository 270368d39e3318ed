"""Events on the command line and over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.served import QUEUE, Served, assert_problem
from tests.support.forwarder import Forwarder
from tests.support.program import RUN_SECONDS, Program
from tests.support.waiting import eventually

EVENTS = "/api/v1/events"


SERVER = {
    "handler": "picky",
    "COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "none",
    "COUTURECAST_RELEASE": "v1.2",
}


def _items(client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.get(EVENTS, params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def _wait_for(condition: Callable[[], Any]) -> Any:
    """The value of ``condition`` once it is true."""
    deadline = time.monotonic() + RUN_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def test_what_happens_is_read_over_http(server: Served, client: httpx.Client) -> None:
    pause = f"/api/v1/admin/queues/{QUEUE}/pause"
    client.post(pause, json={"reason": "deploy"}, headers={"X-Operator": "anna"})
    client.post(pause.replace("pause", "resume"))
    client.post(f"/api/v1/queues/{QUEUE}/jobs", json=[{"data": {"fails": "no such dress"}}] * 3)
    (group,) = _wait_for(lambda: _items(client, kind="new-group"))
    assert "picky" not in group["message"]  # the function's name is that of the queue
    assert group["message"].endswith("ValueError: no such dress")
    (paused,) = _items(client, kind="queue-paused", queue=QUEUE)
    assert (paused["actor"], paused["message"]) == ("http:anna", f"http:anna paused {QUEUE}: deploy")
    (started,) = _items(client, kind="worker-started")
    (release,) = _items(client, kind="new-release")
    assert (release["subject"], started["detail"]["release"]) == ("v1.2", "v1.2")
    everything = _items(client)
    assert [event["at"] for event in everything] == sorted((e["at"] for e in everything), reverse=True)
    first = client.get(EVENTS, params={"limit": 2}).json()
    rest = client.get(EVENTS, params={"cursor": first["next"]}).json()
    assert [*first["items"], *rest["items"]] == everything
    assert rest["next"] is None
    assert _items(client, since="1h") == everything
    assert _items(client, until="1h") == []


def test_a_release_is_on_letters_groups_workers_and_metrics(server: Served, client: httpx.Client) -> None:
    client.post(f"/api/v1/queues/{QUEUE}/jobs", json={"data": {"fails": "no thread"}})
    letters = "/api/v1/admin/failed-jobs"
    newest = _wait_for(lambda: client.get(letters, params={"error": "no thread"}).json()["items"])
    assert newest[0]["release"] == "v1.2"
    assert [attempt["release"] for attempt in newest[0]["attempt_errors"]] == ["v1.2"]
    groups = client.get(f"{letters}/groups").json()["items"]
    assert {release for group in groups for release in group["releases"]} == {"v1.2"}
    assert 'couturecast_build_info{release="v1.2",version="' in client.get("/metrics").text
    run = server.program.run
    assert run("status", "--json").json["workers"][0]["release"] == "v1.2"
    assert "release v1.2" in run("failed-jobs", "show", str(newest[0]["id"])).out
    assert "in v1.2" in run("failed-jobs", "groups").out


def test_wrong_parameters_and_a_missing_token_are_refused(server: Served, client: httpx.Client) -> None:
    assert_problem(client.get(EVENTS, params={"kind": "nonsense"}), 422)
    assert_problem(client.get(EVENTS, params={"queue": "nothing"}), 422)
    assert_problem(client.get(EVENTS, params={"since": "yesterday"}), 422)
    assert_problem(client.get(EVENTS, params={"limit": 1001}), 422)
    assert_problem(client.get(EVENTS, params={"cursor": "x"}), 422)
    assert_problem(client.get(EVENTS, params={"color": "red"}), 422)
    assert_problem(httpx.get(f"{server.url}{EVENTS}"), 401)


@pytest.mark.slow
def test_events_are_listed_by_command(program: Program) -> None:
    assert program.run("events").out == "no events\n"
    program.run("pause", QUEUE, "--reason", "new \x1b[31mmodel")
    program.run("resume", QUEUE)
    assert program.run("resume", QUEUE).code == 0  # nothing was paused: no event
    listed = program.run("events", "--queue", QUEUE, "--since", "1h").out.splitlines()
    assert len(listed) == 3
    assert "queue-resumed" in listed[1]
    assert listed[2].endswith(f"paused {QUEUE}: new \\x1b[31mmodel")
    document = program.run("events", "--limit", "1", "--json").json
    assert document["items"][0]["kind"] == "queue-resumed"
    following = program.run("events", "--json", "--cursor", document["next"]).json
    assert [event["kind"] for event in following["items"]] == ["queue-paused"]
    assert following["next"] is None
    assert program.run("events", "--until", "1h").out == "no events\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--kind", "nonsense"), "--kind: there is no such kind: use alert-"),
        (("--since", "yesterday"), "--since: use for instance 2h"),
        (("--queue", "nothing"), "unknown queue 'nothing': use one of weather-ingestion"),
        (("--follow", "--cursor", "x"), "--follow goes on from now: remove --cursor and --until"),
        (("--cursor", "x"), "the cursor was not made by this list"),
    ],
)
def test_wrong_options_are_one_line(program: Program, arguments: tuple[str, ...], says: str) -> None:
    done = program.run("events", *arguments)
    assert done.code == 2
    (error,) = done.errors
    assert says in error


class Follower:
    """A running ``events --follow --json``."""

    def __init__(self, program: Program, directory: Path, **environment: str) -> None:
        self._program = program
        self._environment = program.environment | environment
        self._out, self._err = directory / "follower-out", directory / "follower-err"

    @property
    def kinds(self) -> list[str]:
        """The kinds that it has printed."""
        return [json.loads(line)["kind"] for line in self._out.read_text().splitlines()]

    @property
    def notes(self) -> list[str]:
        """Return its standard error so far, without the log."""
        return [line for line in self._err.read_text().splitlines() if not line.startswith("{")]

    @asynccontextmanager
    async def run(self) -> AsyncIterator[asyncio.subprocess.Process]:
        with self._out.open("wb") as out, self._err.open("wb") as err:
            process = await asyncio.create_subprocess_exec(
                *self._program.command(("events", "--follow", "--json")),
                env=self._environment,
                cwd=self._program.directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.mark.slow
async def test_a_follower_prints_what_happens_and_ends_at_ctrl_c(program: Program, tmp_path: Path) -> None:
    program.run("pause", QUEUE, "--reason", "first")
    follower = Follower(program, tmp_path)
    async with follower.run() as process:
        await eventually(lambda: follower.kinds == ["queue-paused"])
        await asyncio.to_thread(program.run, "resume", QUEUE)
        await eventually(lambda: follower.kinds == ["queue-paused", "queue-resumed"])
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), RUN_SECONDS) == 0
    assert follower.notes == []


@pytest.mark.slow
async def test_a_follower_survives_an_outage_of_the_database(
    program: Program, migrated_postgres_url: str, tmp_path: Path
) -> None:
    forwarder = Forwarder(migrated_postgres_url)
    await forwarder.start()
    follower = Follower(program, tmp_path, DATABASE_URL=forwarder.url())
    database = {"DATABASE_URL": migrated_postgres_url}
    await asyncio.to_thread(program.run, "pause", QUEUE, **database)
    async with follower.run() as process:
        await eventually(lambda: follower.kinds == ["queue-paused"])
        await forwarder.stop()
        await eventually(lambda: len(follower.notes) == 1)
        await asyncio.to_thread(program.run, "resume", QUEUE, **database)
        await forwarder.start()
        await eventually(lambda: follower.kinds == ["queue-paused", "queue-resumed"])
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), RUN_SECONDS) == 0
    await forwarder.stop()
    waits, answers = follower.notes
    assert waits.startswith("events wait for the database: postgresql://")
    assert "hidden" not in waits
    assert answers == "the database answers again"
