"""Changes by any statement and any role are notified; that notifications are missing is logged."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from storage.asyncio_tools import cancel_and_wait
from storage.cache import change_listener as changes
from storage.cache.change_listener import ChangeListener, notifications_arrive
from storage.database import migrations
from storage.database.engine import Database
from tests.integration.storage.cache.change_listener.conftest import (
    MakeListener,
    RecordingListener,
    write,
    write_one,
)
from tests.support.servers import PostgresServer
from tests.support.waiting import eventually


async def test_each_kind_of_statement_notifies(listener: RecordingListener, postgres_url: str) -> None:
    await write(
        postgres_url,
        "INSERT INTO user_preferences VALUES ('ana', '{}'), ('bo', '{}')",
        "UPDATE user_preferences SET preferences = '{}' WHERE user_id = 'nobody'",
    )
    await listener.wait_for("user:ana", "user:bo")
    await write(postgres_url, "UPDATE user_preferences SET preferences = '[1]' WHERE user_id = 'bo'")
    await listener.wait_for("user:bo")
    await write(postgres_url, "UPDATE user_preferences SET user_id = 'cy' WHERE user_id = 'bo'")
    await listener.wait_for("user:bo", "user:cy")
    await write(
        postgres_url,
        "INSERT INTO user_preferences VALUES ('cy', '{}') ON CONFLICT (user_id) DO UPDATE "
        "SET preferences = excluded.preferences",
        "DELETE FROM user_preferences WHERE user_id = 'ana'",
        "COPY user_preferences (user_id, preferences) FROM PROGRAM 'printf \"dee\\t{}\\n\"'",
        "INSERT INTO weather VALUES ('lisboa', now(), 'x', '{}', '{}', now())",
    )
    await listener.wait_for("user:cy", "user:ana", "user:dee", "location:lisboa")
    await write(postgres_url, "UPDATE weather SET provider = 'y'", "TRUNCATE user_preferences, weather")
    await listener.wait_for("location:lisboa", "all")


async def test_a_rolled_back_statement_does_not_notify(
    listener: RecordingListener, postgres_url: str
) -> None:
    insert = "INSERT INTO user_preferences VALUES ('ana', '{}')"
    await write(postgres_url, "BEGIN", insert, "ROLLBACK")
    await write_one(postgres_url)
    await listener.wait_for("user:after")


async def test_many_changes_at_once_invalidate_everything(
    listener: RecordingListener, postgres_url: str
) -> None:
    some = "INSERT INTO user_preferences SELECT 'u' || n, '{{}}' FROM generate_series({}) AS n"
    await write(postgres_url, some.format("1, 5000"))
    await listener.wait_for("all")
    await write(postgres_url, "UPDATE user_preferences SET updated_at = now()")
    await listener.wait_for("all")
    await write(postgres_url, some.format("5001, 6000"))
    await eventually(lambda: len(listener.changes) == 1_000)
    assert "all" not in listener.changes


async def test_an_id_too_long_for_a_payload_invalidates_everything(
    listener: RecordingListener, postgres_url: str
) -> None:
    await write(postgres_url, "INSERT INTO user_preferences VALUES (repeat('ü', 3_980), '{}')")
    await listener.wait_for("all")


async def test_a_writer_with_few_rights_and_an_odd_search_path_notifies(
    listener: RecordingListener, database: Database, postgres_url: str
) -> None:
    name = f"writer_{time.monotonic_ns()}"
    await write(
        postgres_url,
        f"CREATE ROLE {name}",
        f"GRANT INSERT ON public.user_preferences TO {name}",
        f"SET ROLE {name}",
        "SET search_path = ''",
        "CREATE TEMPORARY TABLE touched (user_id text)",
        "INSERT INTO public.user_preferences VALUES ('ana', '{}')",
    )
    await listener.wait_for("user:ana")
    said = await write(
        postgres_url,
        "REVOKE EXECUTE ON FUNCTION pg_notify FROM PUBLIC",
        f"SET ROLE {name}",
        "INSERT INTO user_preferences VALUES ('bo', '{}')",
        "RESET ROLE",
        "GRANT EXECUTE ON FUNCTION pg_notify TO PUBLIC",
    )
    assert "not told to the cache: permission denied" in said
    async with database.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM user_preferences")) == 2


async def test_tables_in_another_schema_notify(postgres_url: str, make_listener: MakeListener) -> None:
    await write(postgres_url, "DROP EXTENSION pg_trgm CASCADE", 'CREATE SCHEMA "the shop"')
    database = Database(f"{postgres_url}{'&' if '?' in postgres_url else '?'}schema=the%20shop")
    await database.start()
    listener = make_listener(database)
    await listener.wait_until_listening()
    await write(postgres_url, "INSERT INTO \"the shop\".user_preferences VALUES ('ana', '{}')")
    await listener.wait_for("user:ana")
    await listener.stop()
    await database.close()


def _to_0003(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.downgrade(config, "0003")


async def test_the_triggers_can_be_removed_and_created_again(
    listener: RecordingListener, database: Database, postgres_url: str
) -> None:
    async with database.begin() as connection:
        await connection.run_sync(_to_0003)
        ours = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'couturecast%'"
        assert await connection.scalar(text(ours)) == 0
    await database.start()
    await write_one(postgres_url)
    await listener.wait_for("user:after")


async def test_missing_notifications_are_logged_once(
    postgres_url: str, postgres_server: PostgresServer | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_REPLY_SECONDS", 0.2)
    monkeypatch.setattr(changes, "_RECHECK_SECONDS", 0.1)
    base = postgres_server.url() if isinstance(postgres_server, PostgresServer) else postgres_server
    made = Database(postgres_url)
    await made.start()
    await made.close()
    database = Database(postgres_url, direct_url=base)  # of another database
    assert not await notifications_arrive(database, seconds=0.2)
    tried: list[bool] = []
    real = changes._is_heard

    async def hears(*args: Any) -> bool:
        tried.append(await real(*args))
        return tried[-1]

    monkeypatch.setattr(changes, "_is_heard", hears)
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(ChangeListener(database, on_change=_nothing, on_resync=_nothing).run())
        await eventually(lambda: len(tried) >= 4, what="four tries")
    assert not any(tried)
    await cancel_and_wait([running])
    (warning,) = [line for line in logs if line["log_level"] == "warning"]
    assert warning["event"] == "notifications do not arrive"
    assert "DIRECT_URL" in warning["cause"]
    await database.close()


async def _nothing(*subject: Any) -> None:
    """Ignores the change."""


@pytest.mark.parametrize("kind", ["sqlite", "pooler"])
async def test_a_database_without_notifications_is_logged(
    kind: str, sqlite_url: str, postgres_url: str
) -> None:
    pooled = f"{postgres_url}{'&' if '?' in postgres_url else '?'}pgbouncer=true"
    database = Database(sqlite_url if kind == "sqlite" else pooled)
    with structlog.testing.capture_logs() as logs:
        await ChangeListener(database, on_change=_nothing, on_resync=_nothing).run()
    assert len(logs) == 1
    assert ("DIRECT_URL" in logs[0]["reason"]) == (kind == "pooler")
    assert not await notifications_arrive(database)
    await database.close()


async def test_notifications_arrive(database: Database) -> None:
    assert await notifications_arrive(database)
