"""Payloads of users, read through the cache."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from storage.cache.cache import Cache
from storage.cache.entries import CacheKey
from storage.cache.tags import location_tag
from storage.cache.values import Cached
from storage.repositories.preferences import PreferenceRepository
from storage.repositories.weather import BLOCK_HOURS, WeatherRepository, time_block


class BlockWeather(BaseModel):
    """The newest weather of a location that is not of a later block."""

    time_block: datetime
    provider: str
    """``offline``: computed, not measured."""
    fetched_at: datetime
    current: dict[str, Any]
    hours: list[dict[str, Any]]
    """Hours of the forecast that lie in the block."""


class Payload(BaseModel):
    """Preferences and weather, from which a client chooses clothes for a user."""

    user_id: str
    location_id: str
    time_block: datetime
    preferences: dict[str, Any]
    weather: BlockWeather | None
    """None if there is no weather of the location."""
    built_at: datetime


class PersonalizationService:
    """Returns payloads by user, location and time block."""

    def __init__(
        self, cache: Cache[Payload], preferences: PreferenceRepository, weather: WeatherRepository
    ) -> None:
        self._cache = cache
        self._preferences = preferences
        self._weather = weather

    async def payload(self, user_id: str, location_id: str, when: datetime | None = None) -> Cached[Payload]:
        """Return the payload for the block that contains ``when``, or now.

        Raises DatabaseUnavailableError or CacheLoadError if neither cache nor database has it.
        """
        block = time_block(when or datetime.now(UTC))
        return await self._cache.get_or_load(
            payload_key(user_id, location_id, block), lambda: self._load(user_id, location_id, block)
        )

    async def _load(self, user_id: str, location_id: str, block: datetime) -> Payload:
        return Payload(
            user_id=user_id,
            location_id=location_id,
            time_block=block,
            preferences=await self._preferences.get(user_id),
            weather=await self._block_weather(location_id, block),
            built_at=datetime.now(UTC),
        )

    async def _block_weather(self, location_id: str, block: datetime) -> BlockWeather | None:
        weather = await self._weather.latest(location_id, block)
        if weather is None:
            return None
        return BlockWeather(
            time_block=weather.time_block,
            provider=weather.provider,
            fetched_at=weather.fetched_at,
            current=weather.current,
            hours=_hours(weather.forecast, block),
        )


def payload_key(user_id: str, location_id: str, block: datetime) -> CacheKey:
    """Return the key of the entry for a payload."""
    return CacheKey(user_id, f"{location_id}:{block:%Y-%m-%dT%H}", (location_tag(location_id),))


def _hours(forecast: dict[str, Any], block: datetime) -> list[dict[str, Any]]:
    start, end = block.timestamp(), (block + timedelta(hours=BLOCK_HOURS)).timestamp()
    hours = forecast.get("hourly")
    return [
        hour
        for hour in (hours if isinstance(hours, list) else [])
        if isinstance(hour, dict) and isinstance(hour.get("dt"), int | float) and start <= hour["dt"] < end
    ]
