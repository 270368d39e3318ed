"""Another program writes with plain SQL, and the cache of a real process hears of it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator

import pytest

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from tests.support.operations import build_operations
from tests.support.program import Program
from tests.support.servers import PostgresServer
from tests.support.waiting import eventually
from workers.engine.policy import DEFAULT_POLICIES
from workers.operations.operations import Operations

PSQL = PostgresServer._BIN / "psql"
WRITE = "INSERT INTO user_preferences (user_id, preferences)"
INSTEAD = "ON CONFLICT (user_id) DO UPDATE SET preferences = excluded.preferences"


def psql(url: str, statement: str) -> None:
    done = subprocess.run(
        [str(PSQL), url, "-v", "ON_ERROR_STOP=1", "-c", statement], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
async def operations(program: Program, redis_url: str, postgres_url: str) -> AsyncIterator[Operations]:
    """Yield operations of this process, next to a program with workers, which listens for changes."""
    await program.start(REDIS_URL=redis_url, DATABASE_URL=postgres_url)
    database = Database(postgres_url)
    operations = build_operations(
        redis_url,
        policies=list(DEFAULT_POLICIES.values()),
        schemas={},
        database=database,
        letters=DeadLetterRepository(database),
    )
    yield operations
    await operations.close()
    await database.close()


async def test_a_preference_written_by_psql_clears_the_users_entries(
    operations: Operations, postgres_url: str
) -> None:
    payload = operations.personalization.payload

    async def listens() -> bool:
        """It has begun to listen, and said that anything may have changed."""
        await payload("witness", "lisboa")
        psql(postgres_url, f"{WRITE} VALUES ('witness', '{{}}') {INSTEAD}")
        await asyncio.sleep(0.2)
        return (await payload("witness", "lisboa")).source == "loaded"

    async def prefers(preferences: dict[str, str]) -> bool:
        return (await payload("u1", "lisboa")).value.preferences == preferences

    await eventually(listens)
    await payload("u1", "lisboa")
    await payload("u2", "lisboa")
    psql(postgres_url, f"""{WRITE} VALUES ('u1', '{{"style": "formal"}}')""")
    await eventually(lambda: prefers({"style": "formal"}))
    assert (await payload("u2", "lisboa")).source == "fresh"
    psql(postgres_url, "DELETE FROM user_preferences WHERE user_id = 'u1'")
    await eventually(lambda: prefers({}))
