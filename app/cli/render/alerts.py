"""Alerts as plain text, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.cli.render.tables import table_text
from tui.text.format import MISSING, SHORT_TIME_CHARS, clock_time, local_time, long_duration
from tui.text.words import DATE_TIME

if TYPE_CHECKING:
    from storage.repositories.alert_history import AlertRecord, Silence
    from workers.operations.alerts import CurrentAlert


def alerts_text(alerts: Sequence[CurrentAlert], *, width: int | None = None) -> str:
    """Return a row for each alert, the worst first."""
    if not alerts:
        return "no alerts"
    rows = [
        (
            alert.state,
            alert.alert,
            alert.queue or MISSING,
            MISSING if alert.seconds is None else long_duration(alert.seconds),
            alert.message,
            _decision(alert),
        )
        for alert in alerts
    ]
    head = ("state", "alert", "queue", "for", "what is wrong", "")
    return table_text(head, rows, right=("for",), shrink=("what is wrong", ""), width=width)


def silences_text(silences: Sequence[Silence]) -> str:
    """Return a line for each silence that lasts."""
    return "\n".join(
        f"silenced: {describe_selection(silence.alert, silence.queue)}, "
        f"until {local_time(silence.until, DATE_TIME)}, by {silence.by}"
        + (f": {silence.reason}" if silence.reason else "")
        for silence in silences
    )


def describe_selection(alert: str | None, queue: str | None) -> str:
    """Return which alerts are meant; None: of every name, of every queue."""
    return f"{alert or 'all alerts'}{f' of {queue}' if queue else ''}"


def history_text(records: Sequence[AlertRecord], *, width: int | None = None) -> str:
    """Return a row for each alert, the newest first."""
    if not records:
        return "no alerts"
    rows = [
        (
            local_time(record.fired_at, DATE_TIME),
            _fired_for(record),
            record.state,
            record.alert,
            record.queue or MISSING,
            record.message,
            _acknowledgement(record.acknowledged_by, record.acknowledge_reason),
        )
        for record in records
    ]
    head = ("fired at", "for", "state", "alert", "queue", "what was wrong", "")
    return table_text(head, rows, right=("for",), shrink=("what was wrong", ""), width=width)


def _fired_for(record: AlertRecord) -> str:
    if record.resolved_at is None:
        return MISSING
    return long_duration(max(0.0, (record.resolved_at - record.fired_at).total_seconds()))


def _decision(alert: CurrentAlert) -> str:
    if alert.state == "silenced":
        reason = f": {alert.silence_reason}" if alert.silence_reason else ""
        until = clock_time(alert.silenced_until, max_chars=SHORT_TIME_CHARS)
        return f"silenced by {alert.silenced_by} until {until}{reason}"
    if alert.state == "acknowledged":
        return _acknowledgement(alert.acknowledged_by, alert.acknowledge_reason)
    return ""


def _acknowledgement(by: str | None, reason: str | None) -> str:
    if by is None:
        return ""
    return f"acknowledged by {by}: {reason}" if reason else f"acknowledged by {by}"
