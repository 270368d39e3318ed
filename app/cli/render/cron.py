"""Schedules as plain text, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.cli.render.tables import table_text
from tui.text.format import MISSING, duration, local_time
from tui.text.words import DATE_TIME, DATE_TIME_ZONE

if TYPE_CHECKING:
    from workers.operations.schedules import ScheduleView

_HEAD = ("schedule", "queue", "function", "every", "expression", "next", "last", "missed", "")


def schedules_text(schedules: Sequence[ScheduleView], *, width: int | None = None) -> str:
    """Return a row for each schedule; its expression is in UTC, times are in the zone of the terminal."""
    if not schedules:
        return "no schedules"
    rows = [
        (
            schedule.name,
            schedule.queue,
            schedule.function,
            duration(schedule.interval_seconds),
            schedule.expression,
            local_time(schedule.next_at, DATE_TIME),
            local_time(schedule.last_at, DATE_TIME),
            str(schedule.missed or MISSING),
            _disabled_note(schedule),
        )
        for schedule in schedules
    ]
    return table_text(_HEAD, rows, right=("every", "missed"), shrink=("",), width=width)


def _disabled_note(schedule: ScheduleView) -> str:
    if schedule.enabled:
        return ""
    reason = f": {schedule.disabled_reason}" if schedule.disabled_reason else ""
    since = local_time(schedule.disabled_at, DATE_TIME_ZONE)
    return f"disabled by {schedule.disabled_by} since {since}{reason}"
