"""Alerts by command line and HTTP: list, acknowledge, silence, history."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage.database.engine import Database
from storage.repositories.alert_history import AlertHistoryRepository, FiringAlert
from tests.acceptance.served import Served, assert_problem, served
from tests.support.program import Program
from tests.support.servers import free_port
from tests.support.waiting import eventually

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


@pytest.mark.slow
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
    assert ": move\n" in program.run("alerts", "list").out.partition("silenced: all alerts, until 20")[2]
    missed = program.run("alerts", "unsilence", "backlog")
    assert missed.out == "backlog: there was no silence; silenced: all alerts\n"
    kinds = [event["kind"] for event in program.run("events", "--json").json["items"]]
    assert (kinds.count("alert-silenced"), kinds.count("alert-unsilenced")) == (2, 1)


def test_an_alert_that_fires_is_acknowledged_once_and_stays_in_the_history(program: Program) -> None:
    refused = program.run("alerts", "ack", "backlog")
    assert refused.code == 1
    assert refused.errors[0].startswith("error: no alert 'backlog' fires: see alerts list")
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


@pytest.mark.slow
def test_without_redis_its_alert_is_acknowledged_and_silenced_and_the_history_is_read(
    program: Program,
) -> None:
    program.environment |= {
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "COUTURECAST_START_PATIENCE": "0",
    }
    assert program.run("alerts", "list").code == 1
    for _ in range(2):  # no process has recorded it
        done = program.run("alerts", "ack", "redis", "--reason", "failover")
        assert (done.code, done.err) == (0, "")
    assert done.out == "redis is acknowledged already\n"
    assert program.run("alerts", "silence", "redis", "--for", "1h", "--reason", "failover").code == 0
    (record,) = program.run("alerts", "history", "--json").json["items"]
    assert (record["alert"], record["state"], bool(record["acknowledged_by"])) == ("redis", "silenced", True)
    assert record["message"].startswith("Redis does not answer: ")
    assert program.run("alerts", "unsilence", "redis").code == 0
    kinds = [event["kind"] for event in program.run("events", "--json", REDIS_URL="").json["items"]]
    assert kinds == ["alert-unsilenced", "alert-silenced", "alert-acknowledged", "alert-fired"]


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


INCIDENT_SECONDS = 100.0
"""An alert of a backlog is pending for a minute."""


class Backlog:
    """The alert of a backlog by command and by HTTP, from step to step."""

    def __init__(self, program: Program, client: httpx.Client) -> None:
        self.program = program
        self.client = client

    def alerts(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.program.run("alerts", "list", "--json").json["items"]
        return [alert for alert in items if alert["alert"] == "backlog"]

    def has_states(self, *states: str) -> bool:
        return [alert["state"] for alert in self.alerts()] == list(states)

    def health(self) -> int:
        return self.client.get("/api/v1/health/queues").status_code

    def in_history(self) -> dict[str, Any]:
        items: list[dict[str, Any]] = self.client.get(f"{ALERTS}/history").json()["items"]
        return next((item for item in items if item["alert"] == "backlog"), {})

    async def await_pending(self) -> None:
        await eventually(lambda: self.has_states("pending"), within=20, what="the alert is pending")
        (pending,) = self.alerts()
        assert (pending["queue"], pending["value"], pending["limit"]) == (COLOR, 150, 120)
        pending_words = f"◐ {COLOR}  150 queued, limit 120\n   backlog · warning · pending · for "
        assert pending_words in self.program.run("status").out
        assert self.health() == 200

    async def await_firing(self) -> None:
        await eventually(lambda: self.has_states("firing"), within=INCIDENT_SECONDS, what="the alert fires")
        firing_words = f"▲ {COLOR}  150 queued, limit 120\n   backlog · warning · firing · for "
        assert firing_words in self.program.run("status").out
        await eventually(lambda: self.health() == 503, within=10, what="the health is 503")
        (found,) = self.client.get(ALERTS).json()["items"]
        assert (found["state"], found["seconds"] >= 60) == ("firing", True)
        metrics = self.client.get("/metrics").text.splitlines()
        assert any('"backlog"' in line and f'"{COLOR}"' in line and line.endswith(" 1.0") for line in metrics)

    async def acknowledge(self) -> None:
        await eventually(lambda: bool(self.in_history()), within=30, what="the alert is recorded")
        command = ("alerts", "ack", "backlog", "--queue", COLOR, "--reason", "rollout")
        assert self.program.run(*command).code == 0
        await eventually(lambda: self.has_states("acknowledged"), within=20, what="it is acknowledged")
        assert self.alerts()[0]["acknowledged_by"]
        assert " · acknowledged · for " in self.program.run("status").out
        assert self.health() == 503

    async def silence(self) -> None:
        command = ("alerts", "silence", "backlog", "--queue", COLOR, "--for", "1h", "--reason", "rollout")
        assert self.program.run(*command).code == 0
        await eventually(lambda: self.health() == 200, within=30, what="a silenced alert leaves it healthy")
        (silenced,) = self.alerts()
        assert (silenced["state"], silenced["silence_reason"]) == ("silenced", "rollout")

    async def resume(self) -> None:
        assert self.program.run("resume", COLOR).code == 0
        await eventually(lambda: self.has_states(), within=30, what="nothing is wrong any more")
        await eventually(lambda: self.in_history()["state"] == "resolved", within=30, what="it is resolved")
        ended = self.in_history()
        assert (ended["peak"], ended["message"]) == (150, "150 queued, limit 120")
        assert ended["resolved_at"] > ended["fired_at"]
        assert " resolved " in self.program.run("alerts", "history").out.splitlines()[1]


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_backlog_from_pending_to_resolved(tmp_path: Path) -> None:
    limits = {"COUTURECAST_ALERT_BACKLOG": "500", "COUTURECAST_COLOR_EXTRACTION_ALERT_BACKLOG": "120"}
    with served(tmp_path, **limits) as running, running.client() as client:
        program = running.program
        program.environment |= limits
        assert program.run("pause", COLOR, "--reason", "model rollout").code == 0
        jobs = [{"data": {"number": number}} for number in range(150)]
        assert client.post(f"/api/v1/queues/{COLOR}/jobs", json=jobs).status_code == 202
        backlog = Backlog(program, client)
        await backlog.await_pending()
        await backlog.await_firing()
        await backlog.acknowledge()
        await backlog.silence()
        await backlog.resume()
        kinds = [event["kind"] for event in client.get("/api/v1/events").json()["items"]]
        happened = [kind for kind in reversed(kinds) if kind.startswith("alert-")]
        assert happened == ["alert-fired", "alert-acknowledged", "alert-silenced", "alert-resolved"]
