"""Stores decisions about user content."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from storage.database.engine import Database
from storage.database.tables import DecisionRow
from storage.sanitize import sanitize


@dataclass(frozen=True, slots=True)
class Decision:
    """``decision`` is approved, rejected or needs_human; ``decided_by`` is rules or service."""

    content_id: str
    decision: str
    reasons: list[str]
    decided_by: str


class ModerationRepository:
    """Every method raises DatabaseUnavailableError if the database is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def upsert(self, decision: Decision) -> None:
        """Store the decision about a piece of content, in place of an older one."""
        row = {**asdict(decision), "decided_at": datetime.now(UTC)}
        await self._database.upsert(DecisionRow, sanitize(row), keys=["content_id"])

    async def get(self, content_id: str) -> Decision | None:
        """Return the decision about a piece of content; None if it was never decided."""
        table = DecisionRow.__table__
        columns = (table.c.content_id, table.c.decision, table.c.reasons, table.c.decided_by)
        async with self._database.connect() as connection:
            row = (
                await connection.execute(select(*columns).where(table.c.content_id == content_id))
            ).one_or_none()
        return None if row is None else Decision(**row._mapping)
