"""Locations and their weather."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from storage.database.engine import Database
from storage.database.tables import LocationRow, WeatherRow
from storage.sanitize import sanitize

BLOCK_HOURS = 3


def time_block(at: datetime) -> datetime:
    """The start of the three-hour block, UTC, that holds ``at``."""
    at = at.astimezone(UTC)
    return at.replace(hour=at.hour - at.hour % BLOCK_HOURS, minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class Location:
    """A place whose weather is fetched; degrees."""

    id: str
    name: str
    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class Weather:
    """Weather of one location and block.

    ``time_block`` is the start of a three-hour block, UTC; ``provider`` is ``openweather`` or ``offline``;
    ``current`` and ``forecast`` have the shapes of OpenWeather's One Call 3.0.
    """

    location_id: str
    time_block: datetime
    provider: str
    current: dict[str, Any]
    forecast: dict[str, Any]
    fetched_at: datetime


class WeatherRepository:
    """Every method raises DatabaseUnavailableError while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def upsert(self, weather: Weather) -> None:
        """Store it, in place of what was there for this location and block."""
        insert = self._database.insert(WeatherRow, [sanitize(asdict(weather))])
        new = {name: insert.excluded[name] for name in ("provider", "current", "forecast", "fetched_at")}
        async with self._database.begin() as connection:
            await connection.execute(
                insert.on_conflict_do_update(index_elements=["location_id", "time_block"], set_=new)
            )

    async def latest(self, location_id: str, until: datetime | None = None) -> Weather | None:
        """The newest block of a location, none later than ``until``; None where there is none."""
        table = WeatherRow.__table__
        query = select(table).where(table.c.location_id == location_id).order_by(table.c.time_block.desc())
        if until is not None:
            query = query.where(table.c.time_block <= until)
        async with self._database.connect() as connection:
            row = (await connection.execute(query.limit(1))).one_or_none()
        return None if row is None else Weather(**row._mapping)

    async def locations(self) -> list[Location]:
        """All known locations, by id."""
        table = LocationRow.__table__
        async with self._database.connect() as connection:
            rows = (await connection.execute(select(table).order_by(table.c.id))).all()
        return [Location(**row._mapping) for row in rows]

    async def add_location(self, location: Location) -> None:
        """Add a location, or change the one of that id."""
        insert = self._database.insert(LocationRow, [sanitize(asdict(location))])
        new = {name: insert.excluded[name] for name in ("name", "lat", "lon")}
        async with self._database.begin() as connection:
            await connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=new))
