"""Letters of the previous revision of the tables are kept and found."""

from __future__ import annotations

import json
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from storage.database import migrations
from storage.database.engine import Database
from storage.dead_letters.filters import ALL_DEAD, LetterFilter
from storage.dead_letters.repository import DeadLetterRepository
from tests.integration.storage.dead_letters.conftest import make_rows


def _to_0002(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "0002")


async def test_letters_of_the_previous_revision_are_kept_and_found(database_url: str) -> None:
    database = Database(database_url)
    new = {"deaths", "root_id"}
    rows = [{name: value for name, value in row.items() if name not in new} for row in make_rows(50)]
    async with database.begin() as connection:
        await connection.run_sync(_to_0002)
        names = list(rows[0])
        values = [
            {n: json.dumps(v) if n in ("job_data", "attempt_errors") else v for n, v in row.items()}
            for row in rows
        ]
        casts = {"job_data": "CAST(:job_data AS JSONB)", "attempt_errors": "CAST(:attempt_errors AS JSONB)"}
        places = [casts.get(n, f":{n}") if database.dialect == "postgresql" else f":{n}" for n in names]
        if database.dialect == "sqlite":
            for value in values:
                value["failed_at"] = f"{value['failed_at']:%Y-%m-%d %H:%M:%S.%f}"
        into = f"INSERT INTO job_failures ({', '.join(names)}) VALUES ({', '.join(places)})"
        await connection.execute(text(into), values)
    await database.start()
    letters = DeadLetterRepository(database)
    assert [row.uid for row in (await letters.page(LetterFilter(state=None, error="item 7"))).items] == ["u7"]
    assert (await letters.page(ALL_DEAD)).items[0].deaths == 1
    assert await letters.count(LetterFilter(state=None, args={"city": "100% of a_b"})) > 0
    assert await letters.count(LetterFilter(state=None)) == 50
    await database.close()
