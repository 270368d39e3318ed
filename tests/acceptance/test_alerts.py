"""Alerts by command line and HTTP: list, acknowledge, silence, history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from storage.database.engine import Database
from storage.repositories.alert_history import AlertHistoryRepository, FiringAlert
from tests.acceptance.conftest import Program
from tests.acceptance.served import Served, assert_problem, served

COLOR = "color-extraction"
ALERTS = "/api/v1/alerts"


def record_firing(data_dir: Path, *queues: str) -> None:
    """Have a backlog fire in the database, as the process that keeps the alerts does."""

    async def write() -> None:
        database = Database(f"sqlite:///{data_dir / 'couturecast.db'}")
        firing = [FiringAlert("backlog", queue, "", "132 queued, limit 100", 132) for queue in queues]
        await AlertHistoryRepository(database).record(firing, datetime.now(UTC))
        await database.close()

    asyncio.run(write())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("alerts")) as running:
        yield running


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_what_is_wrong_is_listed_and_silenced_by_command(program: Program) -> None:
    listed = program.run("alerts", "list", "--json")
    assert (listed.code, listed.err) == (0, "")
    assert listed.json["next"] is None
    first = listed.json["items"][0]
    assert (first["alert"], first["severity"], first["message"]) == ("no_worker", "critical", "no worker")
    assert first["state"] in ("pending", "firing")
    shown = program.run("alerts", "list")
    assert (shown.code, shown.out.split()[0]) == (0, "state")
    assert "no_worker" in shown.out

    silenced = program.run("alerts", "silence", "backlog", "--queue", COLOR, "--for", "1h", "--reason", "CDN")
    assert silenced.code == 0, silenced.err
    assert silenced.out.startswith(f"backlog of {COLOR}: silent until 20")
    ended = [program.run("alerts", "unsilence", "backlog", "--queue", COLOR) for _ in range(2)]
    assert [done.out for done in ended] == [
        f"backlog of {COLOR}: no longer silent\n",
        f"backlog of {COLOR}: there was no silence\n",
    ]
    assert program.run("alerts", "silence", "--all", "--for", "2d", "--reason", "move").code == 0
    kinds = [event["kind"] for event in program.run("events", "--json").json["items"]]
    assert kinds.count("alert-silenced") == 2


def test_an_alert_that_fires_is_acknowledged_once_and_stays_in_the_history(program: Program) -> None:
    refused = program.run("alerts", "ack", "backlog")
    assert (refused.code, refused.errors) == (1, ["error: no alert 'backlog' fires"])
    record_firing(program.data_dir, COLOR, "alert-fanout")
    one = program.run("alerts", "ack", "backlog", "--queue", COLOR, "--reason", "import")
    assert (one.code, one.out) == (0, f"acknowledged: backlog of {COLOR}\n")
    assert program.run("alerts", "ack", "backlog", "--queue", COLOR).out.endswith("acknowledged already\n")
    first = program.run("alerts", "history", "--json", "--limit", "1")
    rest = program.run("alerts", "history", "--json", "--cursor", first.json["next"])
    states = {record["queue"]: record["state"] for done in (first, rest) for record in done.json["items"]}
    assert states == {COLOR: "acknowledged", "alert-fanout": "firing"}
    assert rest.json["next"] is None
    shown = program.run("alerts", "history", "--limit", "1")
    assert shown.err.startswith("more: --cursor ")
    assert shown.out.split()[:3] == ["fired", "at", "for"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("ack", "backlogs"), "NAME: 'backlogs': use redis, database"),
        (("ack", "backlog", "--queue", "colors"), "unknown queue 'colors': use one of"),
        (("silence", "--for", "1h", "--reason", "x"), "name an alert, a queue by --queue, or --all"),
        (("silence", "slow", "--all", "--for", "1h", "--reason", "x"), "--all means every name and queue"),
        (("silence", "slow", "--reason", "x"), "--for: is missing: name a time, for instance --for 1h"),
        (("silence", "slow", "--for", "soon", "--reason", "x"), "--for: 'soon': use a time up to 30d"),
        (("silence", "slow", "--for", "31d", "--reason", "x"), "--for: '31d': use a time up to 30d"),
        (("silence", "slow", "--for", "1h"), "--reason: is missing: give the reason"),
        (("unsilence",), "name an alert, a queue by --queue, or --all"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_fix(
    program: Program, arguments: tuple[str, ...], problem: str
) -> None:
    done = program.run("alerts", *arguments)
    assert (done.code, done.out) == (2, "")
    (line,) = done.errors
    assert problem in line


def test_alerts_are_listed_without_the_database_and_say_so(program: Program) -> None:
    away = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "COUTURECAST_START_PATIENCE": "0"}
    listed = program.run("alerts", "list", "--json", **away)
    assert listed.code == 0, listed.err
    database = next(alert for alert in listed.json["items"] if alert["alert"] == "database")
    assert (database["state"], database["since"]) == ("firing", None)
    assert "what operators have decided is not shown" in listed.err
    history = program.run("alerts", "history", **away)
    assert (history.code, len(history.errors)) == (1, 1)


def test_alerts_by_http(server: Served, client: httpx.Client) -> None:
    assert client.get(ALERTS).json() == {"items": [], "next": None}
    assert_problem(client.post(f"{ALERTS}/ack", json={"alert": "backlog"}), 404)
    record_firing(server.program.data_dir, COLOR)
    body = {"alert": "backlog", "queue": COLOR}
    marked = client.post(f"{ALERTS}/ack", json=body, headers={"X-Operator": "anna"})
    assert (marked.status_code, marked.json()) == (200, {"count": 1, "by": "http:anna"})
    silenced = client.post(f"{ALERTS}/silence", json=body | {"seconds": 60, "reason": "CDN is down"})
    assert silenced.status_code == 200
    assert silenced.json()["until"] > datetime.now(UTC).isoformat()
    (item,) = client.get(f"{ALERTS}/history").json()["items"]
    assert (item["alert"], item["queue"], item["acknowledged_by"]) == ("backlog", COLOR, "http:anna")
    assert (item["state"], item["silence_reason"], item["value"]) == ("silenced", "CDN is down", 132)
    for count in (1, 0):
        assert client.post(f"{ALERTS}/unsilence", json=body).json() == {"count": count}


def test_wrong_requests_are_problems(server: Served, client: httpx.Client) -> None:
    silence = {"alert": "backlog", "seconds": 60, "reason": "x"}
    for change in ({"alert": "x"}, {"queue": "x"}, {"seconds": 0}, {"seconds": 1e9}, {"reason": ""}):
        assert_problem(client.post(f"{ALERTS}/silence", json=silence | change), 422)
    assert_problem(client.post(f"{ALERTS}/silence", json={"seconds": 60, "reason": "x"}), 422)
    assert_problem(client.get(f"{ALERTS}/history?limit=0"), 422)
    assert_problem(client.get(f"{ALERTS}/history?cursor=x"), 422)
    with httpx.Client(base_url=server.url, timeout=30) as stranger:
        for path in (ALERTS, f"{ALERTS}/history"):
            assert_problem(stranger.get(path), 401)
