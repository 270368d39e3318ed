"""Payloads on real servers: what changes is seen at once, by whichever way it was changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError
from storage.repositories.weather import Location, WeatherRepository
from tests.support.databases import open_database
from tests.support.operations import BuiltOperations, build_operations
from workers.engine.policy import DEFAULT_POLICIES
from workers.handlers.weather.handler import OfflineWeather, WeatherHandler, WeatherPayload

LISBON = WeatherPayload(location_id="lisboa", lat=38.72, lon=-9.14)
CASUAL: dict[str, Any] = {"style": "casual", "cold": 2, "palette": ["#334455"]}


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    async with open_database(migrated_database_url) as database:
        yield database


@pytest.fixture
async def operations(redis_url: str, database: Database) -> AsyncIterator[BuiltOperations]:
    operations = build_operations(
        redis_url,
        policies=list(DEFAULT_POLICIES.values()),
        schemas={},
        database=database,
        letters=DeadLetterRepository(database),
    )
    yield operations
    await operations.close()


async def ingest(operations: BuiltOperations, database: Database) -> None:
    async def nothing(*_: Any, **__: Any) -> bool:
        return True

    await WeatherRepository(database).add_location(Location("lisboa", "Lisboa", LISBON.lat, LISBON.lon))
    handler = WeatherHandler(
        WeatherRepository(database), OfflineWeather(), nothing, operations.cache.invalidate
    )
    await handler.run(LISBON, None)  # type: ignore[arg-type]  # it needs no context


@pytest.mark.slow
async def test_a_payload_is_of_preferences_and_weather(
    operations: BuiltOperations, database: Database
) -> None:
    await operations.preferences.put("u1", CASUAL)
    await ingest(operations, database)
    first = await operations.personalization.payload("u1", "lisboa")
    assert first.source == "loaded"
    assert first.value.preferences == CASUAL
    weather = first.value.weather
    assert weather is not None
    assert weather.provider == "offline"
    assert 0 < len(weather.hours) <= 3
    assert all(
        first.value.time_block.timestamp()
        <= hour["dt"]
        < (first.value.time_block + timedelta(hours=3)).timestamp()
        for hour in weather.hours
    )
    second = await operations.personalization.payload("u1", "lisboa")
    assert second.source == "fresh"
    assert second.value == first.value


async def test_an_unknown_user_at_an_unknown_location_has_an_empty_payload(
    operations: BuiltOperations,
) -> None:
    answer = await operations.personalization.payload("nobody", "nowhere")
    assert answer.value.preferences == {}
    assert answer.value.weather is None


async def test_blocks_have_entries_of_their_own(operations: BuiltOperations) -> None:
    at = datetime(2026, 11, 25, 4, 30, tzinfo=UTC)
    await operations.personalization.payload("u1", "lisboa", at)
    await operations.personalization.payload("u1", "lisboa", at + timedelta(hours=3))
    assert (
        await operations.personalization.payload("u1", "lisboa", at + timedelta(hours=1))
    ).source == "fresh"
    keys = [row.key for row in (await operations.cache.page()).items]
    assert sorted(keys) == ["u1:lisboa:2026-11-25T03", "u1:lisboa:2026-11-25T06"]


async def test_changed_preferences_are_seen_at_once(operations: BuiltOperations) -> None:
    await operations.preferences.put("u1", CASUAL)
    await operations.personalization.payload("u1", "lisboa")
    await operations.personalization.payload("u2", "lisboa")
    await operations.preferences.put("u1", {"style": "formal"})
    answer = await operations.personalization.payload("u1", "lisboa")
    assert answer.value.preferences == {"style": "formal"}
    assert (await operations.personalization.payload("u2", "lisboa")).source == "fresh"


async def test_the_cache_is_invalidated_after_the_commit(
    operations: BuiltOperations, database: Database
) -> None:
    """A reader that loads on the notification must find the new row."""
    seen: list[dict[str, Any]] = []

    async def hear(*subjects: str) -> None:
        seen.append(await operations.preferences.get("u1"))

    operations.preferences._invalidate = hear
    await operations.preferences.put("u1", CASUAL)
    assert seen == [CASUAL]


async def test_new_weather_is_seen_at_once_by_all_of_the_place(
    operations: BuiltOperations, database: Database
) -> None:
    for name in ("u1", "u2"):
        assert (await operations.personalization.payload(name, "lisboa")).value.weather is None
        await operations.personalization.payload(name, "porto")
    await ingest(operations, database)
    for name in ("u1", "u2"):
        assert (await operations.personalization.payload(name, "lisboa")).value.weather is not None
        assert (await operations.personalization.payload(name, "porto")).source == "fresh"


async def test_fresh_payloads_are_served_while_the_database_is_down(
    operations: BuiltOperations, database: Database
) -> None:
    await operations.preferences.put("u1", CASUAL)
    await operations.personalization.payload("u1", "lisboa")
    async with database.begin() as connection:
        await connection.execute(text("DROP TABLE user_preferences"))
    assert (await operations.personalization.payload("u1", "lisboa")).source == "fresh"
    with pytest.raises(Exception, match="user_preferences"):
        await operations.personalization.payload("u2", "lisboa")


async def test_an_interrupted_change_invalidates_the_cache(
    operations: BuiltOperations, monkeypatch: Any
) -> None:
    """The commit may have been done when whoever waited for it was sent away."""
    await operations.preferences.put("u1", CASUAL)
    await operations.personalization.payload("u1", "lisboa")
    store = operations.cache._cache.store
    asked = asyncio.Event()
    real = store.invalidate

    async def slow(subjects: Any) -> int:
        asked.set()
        await asyncio.sleep(0.2)
        return await real(subjects)

    monkeypatch.setattr(store, "invalidate", slow)
    changing = asyncio.create_task(operations.preferences.put("u1", {"style": "formal"}))
    await asked.wait()
    changing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await changing
    assert (await operations.personalization.payload("u1", "lisboa")).value.preferences == {"style": "formal"}
    await operations.cache._cache.wait_until_delivered()


async def test_a_payload_without_a_database_from_the_start_is_unavailable(
    redis_url: str, tmp_path: Any
) -> None:
    database = Database(f"postgresql://nobody@127.0.0.1:1/none?host={tmp_path}")
    operations = build_operations(
        redis_url,
        policies=list(DEFAULT_POLICIES.values()),
        schemas={},
        database=database,
        letters=DeadLetterRepository(database),
    )
    try:
        with pytest.raises(DatabaseUnavailableError):
            await operations.personalization.payload("u1", "lisboa")
    finally:
        await operations.close()
        await database.close()
