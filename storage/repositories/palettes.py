"""Stores the colours of garments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from storage.database.engine import Database
from storage.database.tables import PaletteRow
from storage.sanitize import sanitize


class PaletteRepository:
    """Every method raises DatabaseUnavailableError if the database is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def upsert(self, item_id: str, palette: list[dict[str, Any]]) -> None:
        """Store an item's palette, in place of an older one."""
        row = {"item_id": item_id, "palette": palette, "extracted_at": datetime.now(UTC)}
        await self._database.upsert(PaletteRow, sanitize(row), keys=["item_id"])

    async def get(self, item_id: str) -> list[dict[str, Any]] | None:
        """Return an item's palette; None if it has none."""
        query = select(PaletteRow.palette).where(PaletteRow.item_id == item_id)
        async with self._database.connect() as connection:
            return (await connection.execute(query)).scalar_one_or_none()
