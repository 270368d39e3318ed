"""The status as the command line prints it: all that the overview shows."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from app.cli.render.status import Overview, status_document, status_parts
from app.cli.render.tables import plain
from storage.dead_letters.records import FailureGroup
from tests.support.alerts import overview
from tests.support.fake_busy import BUSY, EVENTS
from tests.support.fake_letters import letter
from tests.support.fake_moments import AWAY, BREACHED, HEALTHY, IDLE, NASTY, NOW, PARTLY_AWAY
from tests.unit.app.cli.conftest import STATES, control_characters
from workers.engine.history import History
from workers.engine.policy import DEFAULT_POLICIES
from workers.monitoring.overview import queue_snapshot
from workers.monitoring.snapshot import Pause, Snapshot

MOMENTS = {"healthy": HEALTHY, "idle": IDLE, "breached": BREACHED, "busy": BUSY, "away": AWAY}
AT = datetime.fromtimestamp(NOW, UTC)


def group(count: int = 298, **fields: Any) -> FailureGroup:
    first, last = AT - timedelta(hours=2), AT - timedelta(minutes=3)
    sample = letter(1, **fields)
    return FailureGroup(
        fingerprint="f" * 16,
        count=count,
        first_at=first,
        last_at=last,
        sample=sample,
        trend=(*[0] * 22, 1, 7),
    )


def shown(snapshot: Snapshot, width: int | None = None, **fields: Any) -> str:
    return plain(*status_parts(Overview(snapshot, **fields), width=width), width=width)


def section(text: str, title: str) -> list[str]:
    lines = text.split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith(title))
    return lines[start + 1 : lines.index("", start) if "" in lines[start:] else None]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 149, 150, 200])
@pytest.mark.parametrize("moment", MOMENTS)
def test_status_fits_the_terminal(moment: str, width: int) -> None:
    groups, events = [group(), group(7, error_message="x" * 500)], EVENTS
    lines = shown(MOMENTS[moment], width, groups=groups, events=events).split("\n")
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("width", [80, 160, None])
def test_status_has_every_figure_of_the_overview_at_any_width(width: int | None) -> None:
    (weather, *others) = BREACHED.queues
    weather = replace(weather, succeeded_age=77.0, throughput=3.3, failure_rate=0.123)
    text = " ".join(shown(replace(BREACHED, queues=(weather, *others)), width).split())
    for figure in ("132", "1m 58s", "10/10", "60/60 3", "4 ms", "11 ms", "84 ms", "310 ms"):
        assert figure in text, figure
    assert "12.3 %" in text
    assert "3.3" in text
    assert "1m 17s" in text
    assert "waits for its rate limit" in text
    assert "paused 12 min ago by ops@box-2: model rollout" in text


def test_a_row_a_queue_below_its_headings() -> None:
    head, *rows = section(shown(HEALTHY), "Queues")
    assert head.split()[:3] == ["queue", "depth", "oldest"]
    assert [row.split()[1] for row in rows] == [queue.name for queue in HEALTHY.queues]
    right = head.index("depth") + len("depth")
    assert all(row[right - 1].isdigit() and row[right] == " " for row in rows)


def test_the_first_line_is_the_verdict() -> None:
    first = shown(BREACHED).split("\n")[0]
    assert first == " ▲ moderation-review  7.1 % of attempts failed, limit 5 % · 1 more"
    assert shown(HEALTHY).startswith(" ✔ all well\n")
    since = replace(BREACHED, alerts=(replace(BREACHED.alerts[1], since=NOW - 130),))
    assert shown(since).startswith(
        " ▲ weather-ingestion  132 queued, limit 100, for 2 min · waits for its rate"
    )


def test_figures_of_a_redis_that_does_not_answer_are_marked_with_their_age() -> None:
    first, _, servers, *_ = shown(HEALTHY, error="no answer for 5 s", age=12.0).split("\n")
    assert first == " ▲ Redis does not answer, figures are 12 s old: no answer for 5 s"
    assert "redis ok" not in servers
    away = shown(AWAY).split("\n")
    assert away[0] == " ▲ Redis does not answer: ConnectionError: connection refused"
    assert "redis ConnectionError: connection refused" in away[2]
    assert "database connection refused" in away[2]


def test_a_queue_whose_redis_is_down_has_dashes_and_the_others_their_figures() -> None:
    text = shown(PARTLY_AWAY)
    assert "redis of color-extraction ConnectionError: connection refused" in text
    (row,) = [line for line in section(text, "Queues")[1:] if "color-extraction" in line]
    assert not any(character.isdecimal() for character in row)
    (other,) = [line for line in section(text, "Queues")[1:] if "alert-fanout" in line]
    assert "2/20" in other
    assert text.startswith(" ▲ Redis of color-extraction does not answer: ")
    document = status_document(PARTLY_AWAY)
    assert [redis["queues"] for redis in document["other_redises"]] == [("color-extraction",)]
    (queue,) = [queue for queue in document["queues"] if queue["name"] == "color-extraction"]
    assert set(queue) == {"name", "function", "redis_error"}


def test_alerts_have_since_when_and_what_was_decided_by_whom() -> None:
    lines = section(shown(replace(HEALTHY, alerts=STATES)), "Alerts")
    assert lines == [
        " ▲ color-extraction  132 queued, limit 100",
        "   backlog · warning · firing · for 2 min",
        " ▲ alert-fanout  7% \\x1b[31mof attempts failed",
        "   failing · warning · acknowledged · for 2 h 2 min · by anna",
        " ◐ cluster  Redis does not answer",
        "   redis · critical · pending",
        " ▲ color-extraction  wait p95 4.1 s",
        "   slow · warning · silenced · for 3 d · by bo until 03-01 14:42: CDN is down",
    ]


def test_dead_letters_are_counted_and_grouped() -> None:
    text = shown(replace(HEALTHY, dead_letters=312, letters_waiting=3), groups=[group(), group(14)])
    assert "Dead letters · 312 dead · 312 in 24 h, 2 groups · 3 wait for the database\n" in text
    _, first, second = section(text, "Dead letters")
    assert first.split()[0] == "298"
    assert "3 min ago" in first
    assert first.endswith("█")
    assert second.split()[0] == "14"
    assert "Dead letters · 2 dead · none in 24 h\n" in shown(HEALTHY, groups=[])
    assert "Dead letters · – \n" not in shown(AWAY)
    assert "Dead letters · –\n" in shown(AWAY)


def test_workers_and_the_newest_events_have_a_row_each() -> None:
    text = shown(HEALTHY, events=EVENTS)
    _, *rows = section(text, "Workers")
    assert [row.split()[:3] for row in rows] == [["●", f"box-2:400{n}", "runs"] for n in (1, 2, 3)]
    assert len(section(text, "Events")) == len(EVENTS)
    assert "Events" not in shown(HEALTHY)
    assert "Workers · none" in shown(replace(HEALTHY, workers=()))


def test_living_and_dead_workers_and_the_jobs_of_the_dead_are_shown() -> None:
    first, second, third = HEALTHY.workers
    workers = (first, replace(second, state="dead"), replace(third, state="blocked"))
    held = replace(HEALTHY.queues[0], in_flight=10, held_by_dead=10, workers=0)
    text = shown(replace(HEALTHY, queues=(held,), workers=workers))
    assert "1 worker · 1 blocked · 1 dead" in text
    assert "no worker serves it; 10 held by a dead worker, run again when a worker starts" in text


def test_what_was_not_measured_is_a_dash_and_never_zero() -> None:
    _, row, *_ = section(shown(IDLE), "Queues")
    assert row.split()[3] == "–"
    assert row.split()[7:13] == ["–"] * 6


@pytest.mark.parametrize("width", [80, None])
def test_text_of_jobs_and_operators_cannot_reach_the_terminal(width: int | None) -> None:
    queues = tuple(replace(queue, paused=Pause(NASTY, f"a\nb{NASTY}", 0.0)) for queue in HEALTHY.queues)
    alerts = tuple(
        replace(alert, message=NASTY, acknowledged_by=NASTY, silenced_by=NASTY, silence_reason=NASTY)
        for alert in STATES
    )
    workers = tuple(
        replace(worker, host=NASTY, release=NASTY, unready=(NASTY,)) for worker in HEALTHY.workers
    )
    hostile = replace(HEALTHY, environment=NASTY, queues=queues, alerts=alerts, workers=workers)
    groups = [group(error_message=NASTY, function=NASTY, error_type=NASTY)]
    events = [replace(EVENTS[0], message=NASTY, kind=NASTY)]
    text = shown(hostile, width, groups=groups, events=events, error=NASTY)
    assert control_characters(text) == []
    assert "[red]not markup[/]" in text


def test_a_status_with_durations_is_a_document() -> None:
    (queue, *others) = HEALTHY.queues
    reply = overview(queue, totals={"w3": 2, "r10": 1, "wait_us": 4_000})
    measured = queue_snapshot(DEFAULT_POLICIES[queue.name], reply, History.build([], reply.point))
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
