"""Alerts as commands print them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from app.cli.render.alerts import alerts_text, history_text
from storage.repositories.alert_history import AlertRecord
from tests.support.fake_moments import HEALTHY
from tests.unit.app.cli.conftest import AT, STATES, control_characters
from workers.operations.alerts import current_alerts


def test_a_list_of_alerts_has_a_row_for_each() -> None:
    shown = alerts_text(current_alerts(replace(HEALTHY, alerts=STATES)))
    head, first, second, third, last = shown.split("\n")
    assert head.split("  ")[0] == "state"
    assert first.split()[:5] == ["firing", "backlog", "color-extraction", "2", "min"]
    assert second.endswith("acknowledged by anna")
    assert third.split()[:4] == ["pending", "redis", "–", "–"]
    assert last.endswith("silenced by bo until 03-01 14:42: CDN is down")
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
        acknowledge_reason="a new season",
        silenced_by=None,
        silenced_until=None,
        silence_reason=None,
        notified={},
    )
    shown = history_text([record, replace(record, queue="", state="firing", resolved_at=None)])
    _, ended, open_ = shown.split("\n")
    assert ended.split()[:6] == ["2026-03-01", "14:32:07", "4", "min", "resolved", "backlog"]
    assert ended.endswith("acknowledged by anna: a new season")
    assert open_.split()[2:6] == ["–", "firing", "backlog", "–"]
    assert control_characters(shown) == []
    assert history_text([]) == "no alerts"
