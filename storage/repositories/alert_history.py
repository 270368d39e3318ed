"""Stores the life of threshold alerts in ``alerts``, and when they are to be silent in ``silences``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, literal, or_, select, tuple_, update

from storage.database.engine import Database
from storage.database.tables import AlertRow, SilenceRow
from storage.dead_letters.queries import decode_cursor, encode_cursor
from storage.dead_letters.records import Page
from storage.sanitize import sanitize

MAX_ALERTS = 1_000
"""Largest number of alerts on one page."""
_ORDER = "alerts"
"""Name of the order of pages, which their cursors carry."""
_MAX_MESSAGE_CHARS = 500
_SEEN = "seen_at"
"""Name in ``notified``."""

AlertKey = tuple[str, str, str]
"""Name, queue and subject; the last two are empty if an alert has none."""


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """An alert that fires, as its threshold was found to be breached."""

    alert: str
    queue: str
    subject: str
    message: str
    value: float | None
    is_local: bool = False
    """Whether each process finds out for itself, so that one may see it while another does not."""

    @property
    def key(self) -> AlertKey:
        """The subject of the alert."""
        return self.alert, self.queue, self.subject


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """The life of one alert; ``resolved_at`` is None while it fires.  ``peak`` is the greatest value."""

    id: int
    alert: str
    queue: str
    subject: str
    state: str
    """``firing``, ``acknowledged``, ``silenced`` or ``resolved``."""
    fired_at: datetime
    resolved_at: datetime | None
    value: float | None
    peak: float | None
    message: str
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    acknowledge_reason: str | None
    silenced_by: str | None
    silenced_until: datetime | None
    silence_reason: str | None
    notified: dict[str, Any]

    @property
    def key(self) -> AlertKey:
        """The subject of the alert."""
        return self.alert, self.queue, self.subject

    @property
    def seen_at(self) -> float | None:
        """Unix second at which a process last saw it, if each finds out for itself."""
        at = self.notified.get(_SEEN)
        return float(at) if isinstance(at, int | float) else None


@dataclass(frozen=True, slots=True)
class Silence:
    """A time in which alerts send no notifications; ``alert`` and ``queue`` None: all."""

    id: int
    alert: str | None
    queue: str | None
    until: datetime
    by: str
    reason: str
    created_at: datetime

    def covers(self, alert: str, queue: str) -> bool:
        """Return whether it is about an alert of that name and queue."""
        return self.alert in (None, alert) and self.queue in (None, queue)


@dataclass(frozen=True, slots=True)
class AlertDecisions:
    """Operators' decisions about the alerts that fire."""

    acknowledged: Mapping[AlertKey, AlertRecord]
    silences: Sequence[Silence]


@dataclass(frozen=True, slots=True)
class AlertChanges:
    """The changes of one pass over the alerts that fire, and all that fire after it."""

    fired: Sequence[AlertRecord] = ()
    resolved: Sequence[AlertRecord] = ()
    firing: Sequence[AlertRecord] = ()


class AlertHistoryRepository:
    """Every method raises DatabaseUnavailableError if the database is unavailable.

    ``now`` decides which silences have ended, and so the states of the records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(
        self,
        firing: Sequence[FiringAlert],
        now: datetime,
        *,
        judged: Callable[[AlertRecord], bool] | None = None,
    ) -> AlertChanges:
        """Open a row for each alert that fires and has none, and close those of alerts that do not any more.

        ``judged``: whether an alert could be judged (None: all could); others stay as they are.
        If several processes do this at the same time, each change is reported once.
        """
        by_key = {alert.key: alert for alert in firing}
        c = AlertRow.__table__.c
        open_rows = select(AlertRow.__table__).where(c.resolved_at.is_(None))
        async with self._database.begin() as connection:
            before = await self._fetch(connection, open_rows, now)
            open_keys = {record.key for record in before}
            silences = await self._active_silences(connection, now)
            fired: list[AlertRecord] = []
            for key in sorted(by_key.keys() - open_keys):
                row = _new_row(by_key[key], now, silences)
                insert = self._database.insert(AlertRow, [row]).on_conflict_do_nothing()
                fired += await self._fetch(connection, insert.returning(AlertRow.__table__), now)
            resolved: list[AlertRecord] = []
            for record in before:
                if record.key in by_key:
                    await connection.execute(_refresh(record, by_key[record.key], now))
                elif judged is None or judged(record):
                    resolved += await self._fetch(connection, _resolve(record, now), now)
            return AlertChanges(fired, resolved, await self._fetch(connection, open_rows, now))

    async def record_past(self, alert: FiringAlert, fired_at: datetime, now: datetime) -> AlertRecord:
        """Write an alert that no process could write while it fired; its notifications were sent."""
        row = {
            **_new_row(alert, fired_at, ()),
            "state": "resolved",
            "resolved_at": now,
            "notified": {"fired": True, "resolved": True},
        }
        insert = self._database.insert(AlertRow, [row]).returning(AlertRow.__table__)
        async with self._database.begin() as connection:
            (record,) = await self._fetch(connection, insert, now)
            return record

    async def acknowledge(
        self, alert: str, queue: str | None, by: str, reason: str, now: datetime
    ) -> list[AlertRecord]:
        """Mark the alerts of a name that fire (``queue`` None: of all queues); those that were not before."""
        c = AlertRow.__table__.c
        values = sanitize(
            {"acknowledged_by": by, "acknowledged_at": now, "acknowledge_reason": reason or None}
        )
        statement = (
            update(AlertRow)
            .where(c.resolved_at.is_(None), c.acknowledged_at.is_(None), *_conditions(alert, queue))
            .values(state="acknowledged", **values)
        )
        async with self._database.begin() as connection:
            return await self._fetch(connection, statement.returning(AlertRow.__table__), now)

    async def silence(
        self, alert: str | None, queue: str | None, until: datetime, by: str, reason: str, now: datetime
    ) -> int:
        """Silence alerts until a time; how many that fire now are covered."""
        c = AlertRow.__table__.c
        row = {"alert": alert, "queue": queue, "until": until, "by": by, "reason": reason, "created_at": now}
        covered = (
            select(func.count())
            .select_from(AlertRow)
            .where(c.resolved_at.is_(None), *_conditions(alert, queue))
        )
        async with self._database.begin() as connection:
            await connection.execute(self._database.insert(SilenceRow, [sanitize(row)]))
            await self._apply_silences(connection, now)
            return int((await connection.execute(covered)).scalar_one())

    async def end_silences(self, alert: str | None, queue: str | None, now: datetime) -> int:
        """End the silences of exactly this alert and queue now; how many there were."""
        s = SilenceRow.__table__.c
        same = (s.alert.is_not_distinct_from(alert), s.queue.is_not_distinct_from(queue))
        statement = update(SilenceRow).where(s.until > now, *same).values(until=now)
        async with self._database.begin() as connection:
            count = (await connection.execute(statement)).rowcount
            await self._apply_silences(connection, now)
            return count

    async def _apply_silences(self, connection: Any, now: datetime) -> None:
        """Write into each alert that fires which silence covers it: of several that which lasts longest."""
        c = AlertRow.__table__.c
        silences = await self._active_silences(connection, now)
        firing = select(AlertRow.__table__).where(c.resolved_at.is_(None))
        for record in await self._fetch(connection, firing, now):
            columns = _silence_columns(record.alert, record.queue, silences)
            state = "silenced" if columns["silenced_until"] else "firing"
            statement = update(AlertRow).where(c.id == record.id, c.resolved_at.is_(None))
            await connection.execute(statement.values(state=state, **columns))

    async def decisions(self, now: datetime) -> AlertDecisions:
        """Return what operators have decided about the alerts that fire."""
        c = AlertRow.__table__.c
        query = select(AlertRow.__table__).where(c.resolved_at.is_(None), c.acknowledged_at.is_not(None))
        async with self._database.connect() as connection:
            rows = await self._fetch(connection, query, now)
            silences = await self._active_silences(connection, now)
        return AlertDecisions({record.key: record for record in rows}, silences)

    async def firing_alerts(self, now: datetime) -> list[AlertRecord]:
        """Return the alerts that fire, the newest first."""
        c = AlertRow.__table__.c
        query = (
            select(AlertRow.__table__).where(c.resolved_at.is_(None)).order_by(c.fired_at.desc(), c.id.desc())
        )
        async with self._database.connect() as connection:
            return await self._fetch(connection, query, now)

    async def notifiable(self, resolved_after: datetime, now: datetime) -> list[AlertRecord]:
        """Return the alerts that fire, and those that were resolved after a time, by id."""
        c = AlertRow.__table__.c
        is_recent = or_(c.resolved_at.is_(None), c.resolved_at > resolved_after)
        async with self._database.connect() as connection:
            recent = select(AlertRow.__table__).where(is_recent).order_by(c.id)
            return await self._fetch(connection, recent, now)

    async def replace_notified(self, changes: Iterable[tuple[AlertRecord, Mapping[str, Any]]]) -> set[int]:
        """Replace ``notified`` of records by another with a new ``claims``; the ids of those replaced.

        A record whose ``claims`` is no longer what was read keeps its own: of several processes that replace
        the same one, one does.
        """
        c = AlertRow.__table__.c
        replaced: set[int] = set()
        async with self._database.begin() as connection:
            for record, notified in sorted(changes, key=lambda change: change[0].id):
                statement = (
                    update(AlertRow)
                    .where(c.id == record.id, _claims() == record.notified.get("claims", 0))
                    .values(notified=sanitize(dict(notified)))
                )
                if (await connection.execute(statement)).rowcount:
                    replaced.add(record.id)
        return replaced

    async def page(self, now: datetime, *, limit: int = 50, cursor: str | None = None) -> Page[AlertRecord]:
        """Return all alerts, the newest first.

        ``limit``: 1 to 1,000.  Raises InvalidCursorError, ValueError.
        """
        if not 1 <= limit <= MAX_ALERTS:
            raise ValueError(f"limit: {limit} is not between 1 and {MAX_ALERTS}")
        c = AlertRow.__table__.c
        query = select(AlertRow.__table__).order_by(c.fired_at.desc(), c.id.desc()).limit(limit + 1)
        if cursor is not None:
            position = zip(decode_cursor(cursor, _ORDER), (c.fired_at, c.id), strict=True)
            last = tuple_(*(literal(value, column.type) for value, column in position))
            query = query.where(tuple_(c.fired_at, c.id) < last)
        async with self._database.connect() as connection:
            records = await self._fetch(connection, query, now)
        items = records[:limit]
        more = len(records) > limit
        return Page(items, encode_cursor(_ORDER, items[-1].fired_at, items[-1].id) if more else None)

    async def delete(self, before: datetime, *, limit: int = 500) -> int:
        """Delete resolved alerts that fired, and silences that ended, before a time; how many.

        At most ``limit`` of each.
        """
        c, s = AlertRow.__table__.c, SilenceRow.__table__.c
        resolved = c.resolved_at.is_not(None)
        alerts = select(c.id).where(c.fired_at < before, resolved).order_by(c.fired_at, c.id)
        silences = select(s.id).where(s.until < before).order_by(s.until)
        async with self._database.begin() as connection:
            deleted = await connection.execute(delete(AlertRow).where(c.id.in_(alerts.limit(limit))))
            ended = await connection.execute(delete(SilenceRow).where(s.id.in_(silences.limit(limit))))
        return int(deleted.rowcount + ended.rowcount)

    async def _active_silences(self, connection: Any, now: datetime) -> list[Silence]:
        table = SilenceRow.__table__
        query = select(table).where(table.c.until > now).order_by(table.c.until.desc())
        return [Silence(**row._mapping) for row in (await connection.execute(query)).all()]

    async def _fetch(self, connection: Any, statement: Any, now: datetime) -> list[AlertRecord]:
        rows = (await connection.execute(statement)).all()
        return [AlertRecord(**{**row._mapping, "state": _state(row, now)}) for row in rows]


def _state(row: Any, now: datetime) -> str:
    """Return the state by the other columns: that which is stored does not change when a silence expires."""
    if row.resolved_at is not None:
        return "resolved"
    if row.silenced_until is not None and row.silenced_until > now:
        return "silenced"
    return "firing" if row.acknowledged_at is None else "acknowledged"


def _conditions(alert: str | None, queue: str | None) -> list[ColumnElement[bool]]:
    c = AlertRow.__table__.c
    conditions = [] if alert is None else [c.alert == alert]
    return conditions if queue is None else [*conditions, c.queue == queue]


def _silence_columns(alert: str, queue: str, silences: Sequence[Silence]) -> dict[str, Any]:
    """Return the columns of the first of ``silences`` that covers an alert; all None if none does."""
    silence = next((silence for silence in silences if silence.covers(alert, queue)), None)
    return {
        "silenced_by": silence and silence.by,
        "silenced_until": silence and silence.until,
        "silence_reason": silence and silence.reason,
    }


def _new_row(alert: FiringAlert, now: datetime, silences: Sequence[Silence]) -> dict[str, Any]:
    silenced = _silence_columns(alert.alert, alert.queue, silences)
    row: dict[str, Any] = {
        "alert": alert.alert,
        "queue": alert.queue,
        "subject": alert.subject,
        "state": "silenced" if silenced["silenced_until"] else "firing",
        "fired_at": now,
        "value": alert.value,
        "peak": alert.value,
        "message": alert.message[:_MAX_MESSAGE_CHARS],
        **silenced,
        "notified": {_SEEN: now.timestamp()} if alert.is_local else {},
    }
    return dict(sanitize(row))


def _refresh(row: AlertRecord, alert: FiringAlert, now: datetime) -> Any:
    c = AlertRow.__table__.c
    peaks = [value for value in (row.peak, alert.value) if value is not None]
    values: dict[str, Any] = {
        "value": alert.value,
        "peak": max(peaks, default=None),
        "message": alert.message[:_MAX_MESSAGE_CHARS],
    }
    statement = update(AlertRow).where(c.id == row.id)
    if alert.is_local:  # if a notification was claimed since, the next pass notes it
        statement = statement.where(_claims() == row.notified.get("claims", 0))
        values["notified"] = {**row.notified, _SEEN: now.timestamp()}
    return statement.values(**sanitize(values))


def _claims() -> Any:
    return func.coalesce(AlertRow.__table__.c.notified["claims"].as_integer(), 0)


def _resolve(record: AlertRecord, now: datetime) -> Any:
    c = AlertRow.__table__.c
    statement = update(AlertRow).where(c.id == record.id, c.resolved_at.is_(None))
    return statement.values(resolved_at=now, state="resolved").returning(AlertRow.__table__)
