"""What users prefer; a change clears what was computed from it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from storage.cache.tags import InvalidateTags, user_tag
from storage.database.engine import Database
from storage.database.tables import PreferencesRow
from storage.sanitize import sanitize


class PreferenceRepository:
    """Every method raises DatabaseUnavailableError while the database is away."""

    def __init__(self, database: Database, invalidate: InvalidateTags) -> None:
        self._database = database
        self._invalidate = invalidate

    async def put(self, user_id: str, preferences: dict[str, Any]) -> None:
        """Store a user's preferences in place of what was there; the cache hears of it after the commit."""
        row = sanitize({"user_id": user_id, "preferences": preferences, "updated_at": datetime.now(UTC)})
        insert = self._database.insert(PreferencesRow, [row])
        new = {name: insert.excluded[name] for name in ("preferences", "updated_at")}
        try:
            async with self._database.begin() as connection:
                await connection.execute(insert.on_conflict_do_update(index_elements=["user_id"], set_=new))
        finally:  # also where the commit was done and its answer did not come
            await self._invalidate(user_tag(user_id))

    async def get(self, user_id: str) -> dict[str, Any]:
        """A user's preferences; empty where they have none."""
        table = PreferencesRow.__table__
        query = select(table.c.preferences).where(table.c.user_id == user_id)
        async with self._database.connect() as connection:
            found = (await connection.execute(query)).scalar_one_or_none()
        return found if isinstance(found, dict) else {}
