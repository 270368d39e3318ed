"""Stores the preferences of users."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from storage.cache.tags import InvalidateTags, user_tag
from storage.database.engine import Database
from storage.database.tables import PreferencesRow
from storage.sanitize import sanitize


class PreferenceRepository:
    """Every method raises DatabaseUnavailableError if the database is unavailable."""

    def __init__(self, database: Database, invalidate: InvalidateTags) -> None:
        self._database = database
        self._invalidate = invalidate

    async def put(self, user_id: str, preferences: dict[str, Any]) -> None:
        """Store preferences, in place of older ones, and then invalidate the user's cache entries."""
        row = {"user_id": user_id, "preferences": preferences, "updated_at": datetime.now(UTC)}
        try:
            await self._database.upsert(PreferencesRow, sanitize(row), keys=["user_id"])
        finally:  # after an error too: the commit may have succeeded and its reply be lost
            await self._invalidate(user_tag(user_id))

    async def get(self, user_id: str) -> dict[str, Any]:
        """Return a user's preferences; empty if they have none."""
        table = PreferencesRow.__table__
        query = select(table.c.preferences).where(table.c.user_id == user_id)
        async with self._database.connect() as connection:
            preferences = (await connection.execute(query)).scalar_one_or_none()
        return preferences if isinstance(preferences, dict) else {}
