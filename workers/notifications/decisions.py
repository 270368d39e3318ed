"""Decides which messages about alerts are due.  Pure.

``AlertRecord.notified`` holds what was done.  Before a message is sent its alert is claimed, and when a
service has taken it, the claim is confirmed.  A claim that is not confirmed expires: its process has died, or
no service answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, cast, get_args

from storage.repositories.alert_history import AlertRecord, FiringAlert
from workers.monitoring.alert_rules import BY_NAME, RANK

UNRECORDED_ID = 0
"""Id of an alert that has no row, since the database is unavailable."""
Occasion = Literal["fired", "doubled", "resolved"]
"""Why a message is due; in the order of a message's lines."""

MAX_RESOLVED_SECONDS = 3600.0
"""How late a message about it may be after its end."""
_MAX_UNTOLD_SECONDS = 900.0
"""An alert that ended before any message about it is not worth one if it fired longer ago."""
_DOUBLED_SECONDS = 300.0
"""The least time between two messages about one alert, unless it is resolved."""
_CLAIM_SECONDS = 180.0
"""The first claim expires then: all tries have ended.  The time doubles with each further claim."""
_MAX_CLAIM_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Notified:
    """The messages about one alert; instants are Unix seconds."""

    claims: int = 0
    """How often this was replaced: see `AlertHistoryRepository.replace_notified`."""
    claim: Occasion | None = None
    """The occasion of the message that is being sent."""
    claimed_at: float = 0.0
    claimed_value: float | None = None
    tries: int = 0
    """Claims since the last that was confirmed."""
    fired: bool = False
    """Whether a service has taken the message that it fires."""
    resolved: bool = False
    sent_at: float = 0.0
    """When a service took the last message."""
    value: float | None = None
    """The figure in that message."""
    seen_at: float = 0.0
    """See `AlertRecord.seen_at`."""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Notified:
        """Read the document of a record; what another version wrote otherwise counts as missing."""
        values: dict[str, Any] = {}
        for name in ("claims", "tries"):
            values[name] = value if isinstance(value := document.get(name), int) and value > 0 else 0
        for name in ("claimed_at", "sent_at", "seen_at"):
            values[name] = _number(document.get(name)) or 0.0
        claim = document.get("claim")
        return cls(
            **values,
            claim=cast(Occasion, claim) if claim in get_args(Occasion) else None,
            claimed_value=_number(document.get("claimed_value")),
            fired=document.get("fired") is True,
            resolved=document.get("resolved") is True,
            value=_number(document.get("value")),
        )

    def document(self) -> dict[str, Any]:
        """Return its form in the database."""
        return asdict(self)

    def is_claimed(self, now: float) -> bool:
        """Return whether a message about it is being sent, perhaps by another process."""
        lasts = min(_CLAIM_SECONDS * 2 ** min(self.tries - 1, 10), _MAX_CLAIM_SECONDS)
        return self.claim is not None and abs(now - self.claimed_at) < lasts  # clocks differ

    def with_claim(self, occasion: Occasion, value: float | None, now: float) -> Notified:
        """Return the state after a process has claimed the message."""
        return replace(
            self,
            claims=self.claims + 1,
            claim=occasion,
            claimed_at=now,
            claimed_value=value,
            tries=self.tries + 1,
        )

    def confirm(self, now: float) -> Notified:
        """Return the state after a service has taken the claimed message."""
        return replace(
            self,
            claims=self.claims + 1,
            claim=None,
            claimed_value=None,
            tries=0,
            fired=True,
            resolved=self.claim == "resolved",
            sent_at=now,
            value=self.claimed_value,
        )


@dataclass(frozen=True, slots=True)
class DueLine:
    """An alert, and the occasion to write of it."""

    record: AlertRecord
    occasion: Occasion

    def claim(self, now: datetime) -> DueLine:
        """Return the line after a process has claimed it."""
        notified = Notified.parse(self.record.notified)
        claimed = notified.with_claim(self.occasion, self.record.value, now.timestamp())
        return replace(self, record=replace(self.record, notified=claimed.document()))

    def confirm(self, now: datetime) -> dict[str, Any]:
        """Return the record's ``notified`` after a service has taken the message of this claimed line."""
        return Notified.parse(self.record.notified).confirm(now.timestamp()).document()


def due_lines(records: Iterable[AlertRecord], now: datetime) -> list[DueLine]:
    """Return all that is due now, the most important first."""
    lines = [DueLine(record, occasion) for record in records if (occasion := due_occasion(record, now))]
    order = get_args(Occasion)
    return sorted(
        lines, key=lambda line: (order.index(line.occasion), RANK.get(line.record.alert, 0), line.record.id)
    )


def due_occasion(record: AlertRecord, now: datetime) -> Occasion | None:
    """Return the message about an alert that is due now, if one is."""
    notified = Notified.parse(record.notified)
    rule = BY_NAME.get(record.alert)
    if (rule is not None and rule.severity == "information") or _is_silenced(record, now):
        return None
    if notified.is_claimed(now.timestamp()):
        return None
    if record.resolved_at is not None:
        return "resolved" if _resolution_is_due(record, notified, now) else None
    if not notified.fired:
        return "fired" if record.acknowledged_at is None else None
    return "doubled" if _has_doubled(record, notified, now.timestamp()) else None


def awaits_message(record: AlertRecord, now: datetime) -> bool:
    """Return whether a message about an alert that is over is due, or may be once a claim expires."""
    if record.resolved_at is None:
        return False
    notified = Notified.parse(record.notified)
    return notified.is_claimed(now.timestamp()) or due_occasion(record, now) is not None


def unrecorded_alert(alert: FiringAlert, now: datetime) -> AlertRecord:
    """Return the record that a firing alert would have now."""
    return AlertRecord(
        id=UNRECORDED_ID,
        alert=alert.alert,
        queue=alert.queue,
        subject=alert.subject,
        state="firing",
        fired_at=now,
        resolved_at=None,
        value=alert.value,
        peak=alert.value,
        message=alert.message,
        acknowledged_by=None,
        acknowledged_at=None,
        acknowledge_reason=None,
        silenced_by=None,
        silenced_until=None,
        silence_reason=None,
        notified={},
    )


def _is_silenced(record: AlertRecord, now: datetime) -> bool:
    moment = record.resolved_at or now
    return record.silenced_until is not None and record.silenced_until > moment


def _resolution_is_due(record: AlertRecord, notified: Notified, now: datetime) -> bool:
    assert record.resolved_at is not None  # noqa: S101 - the caller has seen it
    if notified.resolved or now - record.resolved_at > timedelta(seconds=MAX_RESOLVED_SECONDS):
        return False
    if notified.fired or notified.claim is not None:
        return True
    # No message that it fires was sent.
    is_recent = now - record.fired_at < timedelta(seconds=_MAX_UNTOLD_SECONDS)
    return is_recent and record.acknowledged_at is None


def _has_doubled(record: AlertRecord, notified: Notified, now: float) -> bool:
    if record.value is None or notified.value is None or now - notified.sent_at < _DOUBLED_SECONDS:
        return False
    return record.value >= 2 * notified.value > 0


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
