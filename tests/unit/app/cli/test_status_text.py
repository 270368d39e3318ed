"""Snapshots and alerts as commands print them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from app.cli.render.alerts import alerts_text, history_text
from app.cli.render.status import status_document, status_text
from storage.repositories.alert_history import AlertRecord
from tests.support.alerts import overview
from tests.support.fake_operations import AWAY, BREACHED, HEALTHY, IDLE, NOW
from tests.unit.app.cli.conftest import AT, control_characters
from workers.engine.history import History
from workers.engine.policy import DEFAULT_POLICIES
from workers.monitoring.overview import queue_snapshot
from workers.monitoring.snapshot import Alert, Pause, Snapshot
from workers.operations.alerts import current_alerts


def test_status_has_a_row_for_each_queue_under_its_headings() -> None:
    head, *rows = status_text(HEALTHY).split("\n")[:5]
    assert head.split("  ")[0] == "queue"
    assert [row.split()[0] for row in rows] == [queue.name for queue in HEALTHY.queues]
    assert rows[2].split()[1:4] == ["0", "–", "2/5"]
    right = head.index("in flight") + len("in flight")
    assert all(row[right - 1].isdigit() and row[right] == " " for row in rows)


def test_status_begins_with_what_is_wrong() -> None:
    shown = status_text(BREACHED).split("\n")
    assert shown[0].startswith("! moderation-review: 7.1")
    assert shown[1] == "! weather-ingestion: 132 queued, limit 100"


STATES = (
    Alert("color-extraction", "backlog", "132 queued, limit 100", since=NOW - 150),
    Alert(
        "alert-fanout",
        "failing",
        "7% \x1b[31mof attempts failed",
        state="acknowledged",
        since=NOW - 7_300,
        acknowledged_by="anna",
    ),
    Alert(None, "redis", "Redis does not answer", "critical", state="pending"),
    Alert(
        "color-extraction",
        "slow",
        "wait p95 4.1 s",
        state="silenced",
        since=NOW - 3 * 86_400,
        silenced_by="bo",
        silenced_until=NOW + 600,
        silence_reason="CDN is down",
    ),
)


def test_status_shows_since_when_an_alert_is_there_and_what_was_decided_by_whom() -> None:
    assert status_text(replace(HEALTHY, alerts=STATES)).split("\n")[:4] == [
        "! color-extraction: 132 queued, limit 100 · for 2 min",
        "! alert-fanout: 7% \\x1b[31mof attempts failed · for 2 h · acknowledged by anna",
        "~ Redis does not answer",
        "- color-extraction: wait p95 4.1 s · for 3 d · silenced by bo until 03-01 14:42 UTC: CDN is down",
    ]


def test_a_list_of_alerts_has_a_row_for_each() -> None:
    shown = alerts_text(current_alerts(replace(HEALTHY, alerts=STATES)))
    head, first, second, third, last = shown.split("\n")
    assert head.split("  ")[0] == "state"
    assert first.split()[:5] == ["firing", "backlog", "color-extraction", "2", "min"]
    assert second.endswith("acknowledged by anna")
    assert third.split()[:4] == ["pending", "redis", "–", "–"]
    assert last.endswith("silenced by bo until 03-01 14:42 UTC: CDN is down")
    assert control_characters(shown) == []
    assert alerts_text([]) == "no alerts"


def test_the_history_shows_when_an_alert_fired_and_how_long_it_lasted() -> None:
    record = AlertRecord(
        id=1,
        alert="backlog",
        queue="color-extraction",
        subject="",
        state="resolved",
        fired_at=AT,
        resolved_at=AT + timedelta(minutes=4),
        value=90.0,
        peak=132.0,
        message="132 queued\x1b[31m",
        acknowledged_by="anna",
        acknowledged_at=AT,
        silenced_by=None,
        silenced_until=None,
        silence_reason=None,
        notified={},
    )
    shown = history_text([record, replace(record, queue="", state="firing", resolved_at=None)])
    _, ended, open_ = shown.split("\n")
    assert ended.split()[:6] == ["2026-03-01", "14:32:07", "4", "min", "resolved", "backlog"]
    assert ended.endswith("acknowledged by anna")
    assert open_.split()[2:6] == ["–", "firing", "backlog", "–"]
    assert control_characters(shown) == []
    assert history_text([]) == "no alerts"


def test_status_shows_who_paused_a_queue_and_why() -> None:
    assert "paused by ops@box-2: model rollout" in status_text(BREACHED)
    assert "paused" not in status_text(HEALTHY)


def test_what_was_not_measured_is_a_dash_and_never_zero() -> None:
    row = status_text(IDLE).split("\n")[1].split()
    assert row[2] == "–"
    assert row[4:7] == ["–", "–", "–"]


def test_status_names_unavailable_servers() -> None:
    last = status_text(AWAY).split("\n")[-1]
    assert "redis ConnectionError: connection refused" in last
    assert "database connection refused" in last
    assert "wait for the database" not in status_text(HEALTHY)
    waiting = status_text(replace(HEALTHY, letters_waiting=3)).split("\n")[-1]
    assert waiting.endswith("3 wait for the database")


def test_status_shows_living_and_dead_workers_and_the_jobs_of_the_dead() -> None:
    first, second, third = HEALTHY.workers
    workers = (first, replace(second, state="dead"), replace(third, state="blocked"))
    held = replace(HEALTHY.queues[0], in_flight=10, held_by_dead=10, workers=0)
    shown = status_text(replace(HEALTHY, queues=(held,), workers=workers))
    assert "workers 1 · 1 blocked · 1 dead · redis" in shown
    assert "10 held by a dead worker, run again when a worker starts · no worker" in shown


def test_a_reason_cannot_add_lines_to_the_status() -> None:
    queue = replace(HEALTHY.queues[0], paused=Pause("ops", "a\nb\x1b[31m", 0.0))
    shown = status_text(replace(HEALTHY, queues=(queue,)))
    assert "paused by ops: a\\x0ab\\x1b[31m" in shown


def test_a_status_with_durations_is_a_document() -> None:
    (queue, *others) = HEALTHY.queues
    reply = overview(queue, totals={"w3": 2, "r10": 1, "wait_us": 4_000})
    measured = queue_snapshot(DEFAULT_POLICIES[queue.name], reply, History.of([], reply.point))
    document = status_document(replace(HEALTHY, queues=(measured, *others)))
    assert json.loads(json.dumps(document))["queues"][0]["waits"] == {
        "counts": {"3": 2},
        "total_seconds": 0.004,
    }


@pytest.mark.parametrize("snapshot", [HEALTHY, AWAY])
def test_status_in_json_has_the_text_of_redis_error_and_not_its_parts(snapshot: Snapshot) -> None:
    redis = status_document(snapshot)["redis"]
    assert list(redis) == ["url", "error", "version", "memory_used", "memory_limit", "eviction_policy"]
    assert redis["error"] == snapshot.redis.error
