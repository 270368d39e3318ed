"""The tables.  Times are timezone-aware UTC on both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import JSON, TypeDecorator

POISON_DEATHS = 3
"""Deaths of the same error in a row after which bulk replays exclude a letter."""
MAX_ID = 2**63 - 1
"""Largest id that both databases can compare."""

Json = JSON().with_variant(JSONB(), "postgresql")
_BigId = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers only INTEGER keys


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time.  SQLite stores no zone: it is added when a value is read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC.  Raises ValueError for a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone: {value}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Metadata with which the migrations are compared."""


class DeadLetterColumns:
    """Columns of a dead letter, for the table and for the archive."""

    id: Mapped[int] = mapped_column(_BigId, primary_key=True, autoincrement=True)
    uid: Mapped[str] = mapped_column(Text)
    queue_name: Mapped[str] = mapped_column(Text)
    job_id: Mapped[str] = mapped_column(Text)
    function: Mapped[str] = mapped_column(Text)
    job_data: Mapped[dict[str, Any]] = mapped_column(Json)
    error_type: Mapped[str] = mapped_column(Text)
    error_message: Mapped[str] = mapped_column(Text)
    traceback: Mapped[str | None] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    attempt_errors: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    worker: Mapped[str | None] = mapped_column(Text)
    release: Mapped[str | None] = mapped_column(Text)
    """The release of the last attempt's process; null for letters of versions without it."""
    enqueued_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    state: Mapped[str] = mapped_column(Text, server_default="dead")
    replay_count: Mapped[int] = mapped_column(Integer, server_default="0")
    replayed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    replay_of: Mapped[int | None] = mapped_column(BigInteger)
    root_id: Mapped[int | None] = mapped_column(BigInteger)
    """The first letter of the lineage; null if this is the first."""
    deaths: Mapped[int] = mapped_column(Integer, server_default="1")
    """Deaths in a row of the lineage by this error, including this one."""


def _letter_indexes(table: str) -> tuple[Any, ...]:
    """Return one index for each order of letters; with the filters' columns counts need no rows.

    The migration creates the search tables.
    """
    order = ("failed_at", "id")
    return (
        UniqueConstraint("uid", name=f"uq_{table}_uid"),
        Index(f"ix_{table}_newest", "state", *order, "fingerprint", "deaths"),
        Index(f"ix_{table}_queue", "state", "queue_name", *order, "fingerprint", "deaths", "function"),
        Index(f"ix_{table}_function", "state", "function", *order, "fingerprint", "deaths"),
        Index(f"ix_{table}_group", "state", "fingerprint", *order, "deaths"),
        Index(f"ix_{table}_all", "failed_at", "id"),
        Index(f"ix_{table}_root", "root_id"),
        Index(f"ix_{table}_release", "fingerprint", "release", "id"),
        Index(
            f"ix_{table}_poison",
            "state",
            "failed_at",
            "id",
            postgresql_where=text(f"deaths >= {POISON_DEATHS}"),
            sqlite_where=text(f"deaths >= {POISON_DEATHS}"),
        ),
        {"sqlite_autoincrement": True},  # so that the id of an archived letter is never used again
    )


class JobFailure(DeadLetterColumns, Base):
    """One dead letter."""

    __tablename__ = "job_failures"
    __table_args__ = _letter_indexes("job_failures")


class ArchivedFailure(DeadLetterColumns, Base):
    """One dead letter that is older than the retention."""

    __tablename__ = "job_failures_archive"
    __table_args__ = _letter_indexes("job_failures_archive")


LETTERS: Table = JobFailure.__table__  # type: ignore[assignment]
ARCHIVED_LETTERS: Table = ArchivedFailure.__table__  # type: ignore[assignment]


class PlanRow(Base):
    """A replay of many letters: its options and its state."""

    __tablename__ = "replay_plans"

    id: Mapped[int] = mapped_column(_BigId, primary_key=True, autoincrement=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    selection: Mapped[dict[str, Any]] = mapped_column(Json)
    total: Mapped[int] = mapped_column(Integer)
    canary: Mapped[int] = mapped_column(Integer)
    rate: Mapped[float | None] = mapped_column(Float)
    halt: Mapped[float] = mapped_column(Float)
    state: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ReplayRow(Base):
    """One letter of a plan, and the state of its job."""

    __tablename__ = "replays"
    __table_args__ = (
        Index("ix_replays_plan", "plan_id", "state", "id"),
        Index("ix_replays_letter", "letter_id", "state"),
    )

    id: Mapped[int] = mapped_column(_BigId, primary_key=True, autoincrement=True)
    plan_id: Mapped[int] = mapped_column(BigInteger)
    letter_id: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text, server_default="waiting")
    note: Mapped[str | None] = mapped_column(Text)
    kwargs: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """Edited arguments; the letter keeps the old ones."""
    enqueued_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class OperatorActionRow(Base):
    """One action of an operator."""

    __tablename__ = "operator_actions"
    __table_args__ = (Index("ix_operator_actions_newest", "at", "id"),)

    id: Mapped[int] = mapped_column(_BigId, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(Text)
    verb: Mapped[str] = mapped_column(Text)
    arguments: Mapped[dict[str, Any]] = mapped_column(Json)
    affected: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)


class EventRow(Base):
    """Something that happened.  If several processes notice the same, ``dedupe`` has it written once."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("dedupe", name="uq_events_dedupe"),
        Index("ix_events_newest", "at", "id"),
        Index("ix_events_kind", "kind", "at", "id"),
        Index("ix_events_queue", "queue", "at", "id"),
        {"sqlite_autoincrement": True},  # so that a follower never gets an id again
    )

    id: Mapped[int] = mapped_column(_BigId, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    kind: Mapped[str] = mapped_column(Text)
    queue: Mapped[str | None] = mapped_column(Text)
    subject: Mapped[str | None] = mapped_column(Text)
    actor: Mapped[str | None] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    detail: Mapped[dict[str, Any]] = mapped_column(Json)
    dedupe: Mapped[str | None] = mapped_column(Text)


_ALERT_IS_OPEN = text("resolved_at IS NULL")


class AlertRow(Base):
    """The life of one alert of a threshold, from when it fires until it is resolved.

    ``queue`` and ``subject`` are empty for an alert that has none.  At most one row of them is open.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        Index(
            "uq_alerts_open",
            "alert",
            "queue",
            "subject",
            unique=True,
            postgresql_where=_ALERT_IS_OPEN,
            sqlite_where=_ALERT_IS_OPEN,
        ),
        Index("ix_alerts_newest", "fired_at", "id"),
    )

    id: Mapped[int] = mapped_column(_BigId, primary_key=True, autoincrement=True)
    alert: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text, server_default="")
    subject: Mapped[str] = mapped_column(Text, server_default="")
    state: Mapped[str] = mapped_column(Text)
    """firing, acknowledged, silenced or resolved; a pending alert has no row."""
    fired_at: Mapped[datetime] = mapped_column(UtcDateTime)
    resolved_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    value: Mapped[float | None] = mapped_column(Float)
    peak: Mapped[float | None] = mapped_column(Float)
    message: Mapped[str] = mapped_column(Text)
    acknowledged_by: Mapped[str | None] = mapped_column(Text)
    acknowledged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    acknowledge_reason: Mapped[str | None] = mapped_column(Text)
    silenced_by: Mapped[str | None] = mapped_column(Text)
    silenced_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    silence_reason: Mapped[str | None] = mapped_column(Text)
    notified: Mapped[dict[str, Any]] = mapped_column(Json)
    """Notifications that were sent, and when."""


class SilenceRow(Base):
    """A time in which alerts send no notifications; null selects all alerts, and all queues."""

    __tablename__ = "silences"
    __table_args__ = (Index("ix_silences_until", "until"),)

    id: Mapped[int] = mapped_column(_BigId, primary_key=True, autoincrement=True)
    alert: Mapped[str | None] = mapped_column(Text)
    queue: Mapped[str | None] = mapped_column(Text)
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LocationRow(Base):
    """A place whose weather is fetched."""

    __tablename__ = "locations"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    lat: Mapped[float] = mapped_column(Float)
    lon: Mapped[float] = mapped_column(Float)


class WeatherRow(Base):
    """Weather of one location and three-hour block."""

    __tablename__ = "weather"

    location_id: Mapped[str] = mapped_column(Text, primary_key=True)
    time_block: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    provider: Mapped[str] = mapped_column(Text)
    current: Mapped[dict[str, Any]] = mapped_column(Json)
    forecast: Mapped[dict[str, Any]] = mapped_column(Json)
    fetched_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PreferencesRow(Base):
    """Preferences of one user; columns that other programs may leave out have a default."""

    __tablename__ = "user_preferences"

    user_id: Mapped[str] = mapped_column(Text, primary_key=True)
    preferences: Mapped[dict[str, Any]] = mapped_column(Json)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())


class SubscriberRow(Base):
    """A subscriber of a location's alerts, and how they are delivered."""

    __tablename__ = "alert_subscribers"
    __table_args__ = (Index("ix_alert_subscribers_location", "location_id"),)

    id: Mapped[int] = mapped_column(_BigId, primary_key=True, autoincrement=True)
    location_id: Mapped[str] = mapped_column(Text)
    channel: Mapped[str] = mapped_column(Text)
    url: Mapped[str | None] = mapped_column(Text)


class DeliveryRow(Base):
    """Delivery of one alert to one subscriber; ``delivered_at`` is null until it succeeded."""

    __tablename__ = "alert_deliveries"

    alert_id: Mapped[str] = mapped_column(Text, primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failures: Mapped[int] = mapped_column(Integer, server_default="0")
    last_error: Mapped[str | None] = mapped_column(Text)


class PaletteRow(Base):
    """The colours of one garment."""

    __tablename__ = "garment_palettes"

    item_id: Mapped[str] = mapped_column(Text, primary_key=True)
    palette: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    extracted_at: Mapped[datetime] = mapped_column(UtcDateTime)


class DecisionRow(Base):
    """The decision about one piece of user content."""

    __tablename__ = "moderation_decisions"

    content_id: Mapped[str] = mapped_column(Text, primary_key=True)
    decision: Mapped[str] = mapped_column(Text)
    reasons: Mapped[list[str]] = mapped_column(Json)
    decided_by: Mapped[str] = mapped_column(Text)
    decided_at: Mapped[datetime] = mapped_column(UtcDateTime)
