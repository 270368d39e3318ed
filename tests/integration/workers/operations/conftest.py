"""Shared by the tests of the operator's verbs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from storage.database.engine import Database
from tests.support.engine import Bench
from tests.support.operations import build_operations
from workers.operations.operations import Operations

Operate = Callable[..., Awaitable[Operations]]


@pytest.fixture
async def operate(database: Database) -> AsyncIterator[Operate]:
    """Makes the operations of another process on the queue of a bench."""
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
