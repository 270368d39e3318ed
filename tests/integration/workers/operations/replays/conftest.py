"""Operations on each of the two databases in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from storage.database.engine import Database
from tests.integration.workers.conftest import Bench
from tests.integration.workers.operations.conftest import Operate
from tests.support.operations import build_operations
from workers.operations.operations import Operations


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_database_url)
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def operate(database: Database) -> AsyncIterator[Operate]:
    made: list[Operations] = []

    async def make(bench: Bench, **options: Any) -> Operations:
        options = {"schemas": {}, "actor": "ops@box-2"} | options
        operations = build_operations(
            bench.url, policies=[bench.policy], database=database, letters=bench.letters, **options
        )
        made.append(operations)
        return operations

    yield make
    for operations in made:
        await operations.close()
