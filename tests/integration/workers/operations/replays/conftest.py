"""Operations on each of the two databases in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from storage.database.engine import Database
from tests.support.databases import open_database


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    async with open_database(migrated_database_url) as database:
        yield database
