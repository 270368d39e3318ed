"""Made-up rows of the alerts' history."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from storage.repositories.alert_history import AlertRecord

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

BACKLOG = AlertRecord(
    id=1,
    alert="backlog",
    queue="color-extraction",
    subject="",
    state="firing",
    fired_at=NOON,
    resolved_at=None,
    value=132.0,
    peak=132.0,
    message="132 queued, limit 100",
    acknowledged_by=None,
    acknowledged_at=None,
    acknowledge_reason=None,
    silenced_by=None,
    silenced_until=None,
    silence_reason=None,
    notified={},
)
"""It fires since noon."""


def later(minutes: float) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=minutes)


def record(**fields: Any) -> AlertRecord:
    """`BACKLOG` with some other fields."""
    return replace(BACKLOG, **fields)
