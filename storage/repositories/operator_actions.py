"""Stores the actions of operators in the table ``operator_actions``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from storage.database.engine import Database
from storage.database.events import NewEvent, insert_events
from storage.database.tables import OperatorActionRow
from storage.sanitize import sanitize


@dataclass(frozen=True, slots=True)
class OperatorAction:
    """One action: who did what, when, to how many things, why (may be empty), and its result."""

    at: datetime
    actor: str
    verb: str
    arguments: dict[str, Any]
    affected: int
    reason: str
    outcome: str


class OperatorActionRepository:
    """Every method raises DatabaseUnavailableError if the database is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, action: OperatorAction, event: NewEvent | None = None) -> None:
        """Record an action, and the event that it is, if any."""
        async with self._database.begin() as connection:
            await connection.execute(self._database.insert(OperatorActionRow, [sanitize(asdict(action))]))
            await insert_events(connection, self._database, [] if event is None else [event])

    async def newest(self, limit: int = 50) -> list[OperatorAction]:
        """Return the actions, newest first."""
        table = OperatorActionRow.__table__
        columns = [table.c[name] for name in OperatorAction.__dataclass_fields__]
        query = select(*columns).order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
        async with self._database.connect() as connection:
            return [OperatorAction(**row._mapping) for row in (await connection.execute(query)).all()]
