"""The operator's verbs on alerts: list them, acknowledge one, silence some for a time, read their history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from storage.database.events import EventSink
from storage.dead_letters.records import Page
from storage.repositories.alert_history import AlertHistoryRepository, AlertRecord, FiringAlert, Silence
from workers.errors import InvalidAlertError, NotFoundError, UnknownQueueError
from workers.monitoring.alert_rules import BY_NAME, Severity
from workers.monitoring.snapshot import Alert, AlertState, Snapshot
from workers.operations.audit import Audit
from workers.process.alert_keeper import alert_event, firing_alerts

MAX_SILENCE_SECONDS = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class CurrentAlert:
    """An alert that is pending, fires, is acknowledged or silenced now, by the names of its table."""

    alert: str
    queue: str | None
    subject: str
    state: AlertState
    severity: Severity
    title: str
    message: str
    since: datetime | None
    seconds: float | None
    """How long the breach has lasted."""
    value: float | None
    limit: float | None
    unit: str
    """Unit of value and limit: ``jobs``, ``s``, ``share`` (0 to 1) or ``times``; empty without a unit."""
    acknowledged_by: str | None
    acknowledge_reason: str | None
    silenced_by: str | None
    silenced_until: datetime | None
    silence_reason: str | None


def current_alerts(snapshot: Snapshot) -> list[CurrentAlert]:
    """Return the alerts of a snapshot, the worst first.  Pure."""
    return [_current(alert, snapshot.taken_at) for alert in snapshot.alerts]


def _current(alert: Alert, now: float) -> CurrentAlert:
    rule = BY_NAME[alert.name]
    return CurrentAlert(
        alert=alert.name,
        queue=alert.queue,
        subject=alert.subject,
        state=alert.state,
        severity=alert.severity,
        title=rule.title,
        message=alert.message,
        since=_time(alert.since),
        seconds=None if alert.since is None else max(0.0, now - alert.since),
        value=alert.value,
        limit=alert.limit,
        unit=rule.unit,
        acknowledged_by=alert.acknowledged_by,
        acknowledge_reason=alert.acknowledge_reason,
        silenced_by=alert.silenced_by,
        silenced_until=_time(alert.silenced_until),
        silence_reason=alert.silence_reason,
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class AlertOperations:
    """Every method raises StorageError without the database.  ``changed`` has decisions read again.

    ``take_snapshot`` shows what fires now; ``emit`` takes the events of alerts that are recorded here.
    """

    def __init__(
        self,
        history: AlertHistoryRepository,
        audit: Audit,
        *,
        queues: Collection[str],
        changed: Callable[[], None],
        take_snapshot: Callable[[], Awaitable[Snapshot]],
        emit: EventSink,
    ) -> None:
        self._history = history
        self._audit = audit
        self._queues = queues
        self._changed = changed
        self._take_snapshot = take_snapshot
        self._emit = emit

    async def acknowledge(self, alert: str, queue: str | None = None, reason: str = "") -> list[AlertRecord]:
        """Acknowledge alerts that fire, until they are resolved; return those that were not acknowledged.

        Raises NotFoundError if none of that name and queue fires.
        """
        self._check(alert, queue)
        async with self._audit.record("acknowledge", {"alert": alert, "queue": queue}, reason) as action:
            now = datetime.now(UTC)
            firing = [item for item in await self._history.firing_alerts(now) if _matches(item, alert, queue)]
            if not firing and not await self._record_new(alert, queue):
                raise NotFoundError(
                    f"no alert {alert!r}{_of_queue(queue)} fires", fix="see alerts list for those that do"
                )
            records = await self._history.acknowledge(alert, queue, self._audit.actor, reason, now)
            action.affected = len(records)
            self._changed()
            return records

    async def silence(
        self, alert: str | None, queue: str | None, seconds: float, reason: str = ""
    ) -> datetime:
        """Silence alerts (None: of every name, of every queue) for a time; until when."""
        self._check(alert, queue)
        if not 0 < seconds <= MAX_SILENCE_SECONDS:
            raise InvalidAlertError(
                "is not a time for a silence", field="for", fix="use more than 0 s, at most 30 d"
            )
        now = datetime.now(UTC)
        until = now + timedelta(seconds=seconds)
        arguments = {"alert": alert, "queue": queue, "until": until.isoformat()}
        async with self._audit.record("silence", arguments, reason) as action:
            action.affected = await self._history.silence(alert, queue, until, self._audit.actor, reason, now)
            self._changed()
        return until

    async def end_silence(self, alert: str | None, queue: str | None) -> int:
        """End the silences of exactly this alert and queue; how many there were."""
        self._check(alert, queue)
        async with self._audit.record("end-silence", {"alert": alert, "queue": queue}) as action:
            action.affected = await self._history.end_silences(alert, queue, datetime.now(UTC))
            self._changed()
            return action.affected

    async def silences(self) -> Sequence[Silence]:
        """Return the silences that last, the longest first, whether or not an alert of theirs fires."""
        return (await self._history.decisions(datetime.now(UTC))).silences

    async def history(self, *, limit: int = 50, cursor: str | None = None) -> Page[AlertRecord]:
        """Return all alerts, the newest first.  Raises InvalidCursorError, ValueError (the limit)."""
        return await self._history.page(datetime.now(UTC), limit=limit, cursor=cursor)

    async def _record_new(self, alert: str, queue: str | None) -> bool:
        """Record those that fire now and that no worker process has recorded yet; whether there are any."""
        snapshot = await self._take_snapshot()
        firing = [candidate for candidate in firing_alerts(snapshot) if _matches(candidate, alert, queue)]
        if firing:
            changes = await self._history.record(firing, datetime.now(UTC), judged=lambda _: False)
            for record in changes.fired:
                self._emit(alert_event("alert-fired", record))
        return bool(firing)

    def _check(self, alert: str | None, queue: str | None) -> None:
        if alert is not None and alert not in BY_NAME:
            raise InvalidAlertError(
                f"there is no alert {alert!r}", field="alert", fix=f"use one of {', '.join(BY_NAME)}"
            )
        if queue is not None and queue not in self._queues:
            raise UnknownQueueError(queue, tuple(self._queues))


def _matches(record: AlertRecord | FiringAlert, alert: str, queue: str | None) -> bool:
    return record.alert == alert and queue in (None, record.queue)


def _of_queue(queue: str | None) -> str:
    return "" if queue is None else f" of {queue}"
