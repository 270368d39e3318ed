"""Stores locations and their weather."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from storage.database.engine import Database
from storage.database.tables import LocationRow, WeatherRow
from storage.sanitize import sanitize

BLOCK_HOURS = 3


def time_block(when: datetime) -> datetime:
    """Return the start of the three-hour block that contains a time, in UTC."""
    when = when.astimezone(UTC)
    return when.replace(hour=when.hour - when.hour % BLOCK_HOURS, minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class Location:
    """A place whose weather is fetched; coordinates are in degrees."""

    id: str
    name: str
    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class Weather:
    """Weather of one location and block.

    ``time_block`` is the start of a three-hour block in UTC; ``provider`` is ``openweather`` or ``offline``;
    ``current`` and ``forecast`` have the shapes of OpenWeather's One Call 3.0.
    """

    location_id: str
    time_block: datetime
    provider: str
    current: dict[str, Any]
    forecast: dict[str, Any]
    fetched_at: datetime


class WeatherRepository:
    """Every method raises DatabaseUnavailableError if the database is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def upsert(self, weather: Weather) -> None:
        """Store weather, in place of older weather for the location and block."""
        row = sanitize(asdict(weather))
        await self._database.upsert(WeatherRow, row, keys=["location_id", "time_block"])

    async def latest(self, location_id: str, until: datetime | None = None) -> Weather | None:
        """Return the newest weather of a location, of no block after ``until``; None if it has none."""
        table = WeatherRow.__table__
        query = select(table).where(table.c.location_id == location_id).order_by(table.c.time_block.desc())
        if until is not None:
            query = query.where(table.c.time_block <= until)
        async with self._database.connect() as connection:
            row = (await connection.execute(query.limit(1))).one_or_none()
        return None if row is None else Weather(**row._mapping)

    async def locations(self) -> list[Location]:
        """Return all known locations, by id."""
        table = LocationRow.__table__
        async with self._database.connect() as connection:
            rows = (await connection.execute(select(table).order_by(table.c.id))).all()
        return [Location(**row._mapping) for row in rows]

    async def add_location(self, location: Location) -> None:
        """Add a location, or replace the one that has its id."""
        await self._database.upsert(LocationRow, sanitize(asdict(location)), keys=["id"])
