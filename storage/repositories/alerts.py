"""Stores the subscribers of severe-weather alerts, and deliveries to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import insert as plain_insert
from sqlalchemy import select

from storage.database.engine import Database
from storage.database.tables import DeliveryRow, SubscriberRow
from storage.sanitize import sanitize


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscriber of a location's alerts; ``channel`` is ``webhook`` (to ``url``) or ``log``."""

    id: int
    location_id: str
    channel: str
    url: str | None


class AlertRepository:
    """Every method raises DatabaseUnavailableError if the database is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_subscriber(self, location_id: str, channel: str, url: str | None = None) -> int:
        """Add a subscriber, and return its id."""
        values = {"location_id": location_id, "channel": channel, "url": url}
        statement = plain_insert(SubscriberRow).values(values).returning(SubscriberRow.id)
        async with self._database.begin() as connection:
            return int((await connection.execute(statement)).scalar_one())

    async def subscribers(self, location_id: str) -> list[Subscriber]:
        """Return the subscribers of a location, by id."""
        table = SubscriberRow.__table__
        query = select(table).where(table.c.location_id == location_id).order_by(table.c.id)
        async with self._database.connect() as connection:
            return [Subscriber(**row._mapping) for row in (await connection.execute(query)).all()]

    async def delivered_ids(self, alert_id: str) -> set[int]:
        """Return the ids of the subscribers to whom an alert was delivered."""
        query = select(DeliveryRow.subscriber_id).where(
            DeliveryRow.alert_id == alert_id, DeliveryRow.delivered_at.is_not(None)
        )
        async with self._database.connect() as connection:
            return set((await connection.execute(query)).scalars())

    async def record_delivery(self, alert_id: str, subscriber_id: int) -> bool:
        """Record that an alert was delivered; False if that was recorded before."""
        row = {"alert_id": alert_id, "subscriber_id": subscriber_id, "delivered_at": datetime.now(UTC)}
        insert = self._database.insert(DeliveryRow, [sanitize(row)])
        statement = insert.on_conflict_do_update(
            index_elements=["alert_id", "subscriber_id"],
            set_={"delivered_at": insert.excluded["delivered_at"]},
            where=DeliveryRow.delivered_at.is_(None),
        )
        async with self._database.begin() as connection:
            return (await connection.execute(statement)).rowcount == 1

    async def record_failure(self, alert_id: str, subscriber_id: int, error: str) -> None:
        """Record a failed delivery, and its error."""
        row = {"alert_id": alert_id, "subscriber_id": subscriber_id, "failures": 1, "last_error": error}
        insert = self._database.insert(DeliveryRow, [sanitize(row)])
        statement = insert.on_conflict_do_update(
            index_elements=["alert_id", "subscriber_id"],
            set_={"failures": DeliveryRow.failures + 1, "last_error": insert.excluded["last_error"]},
        )
        async with self._database.begin() as connection:
            await connection.execute(statement)
