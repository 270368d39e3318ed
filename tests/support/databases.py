"""A database for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from storage.database.engine import Database


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """A started database, which is closed at the end of the block."""
    database = Database(url)
    await database.start()
    try:
        yield database
    finally:
        await database.close()
