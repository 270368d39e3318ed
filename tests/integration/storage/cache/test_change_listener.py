"""Changes by other programs on Postgres invalidate; missed changes cause a resync."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text

from storage.cache import change_listener as changes
from storage.cache import change_queue
from storage.cache.change_listener import ChangeListener, notifications_arrive
from storage.database import migrations
from storage.database.engine import Database
from tests.integration.workers.conftest import eventually
from tests.support.forwarder import Forwarder
from tests.support.servers import PostgresServer

_TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Ear:
    """Records the calls of a listener."""

    def __init__(self, database: Database) -> None:
        self.heard: list[str] = []
        self.gaps = 0
        self.fail: Callable[[str], bool] = lambda subject: False
        self.failed = 0
        self.task = asyncio.create_task(
            ChangeListener(database, on_change=self._change, on_resync=self._gap).run(), name="changes"
        )

    async def _change(self, subject: str) -> None:
        if self.fail(subject):
            self.failed += 1
            raise RuntimeError("the cache is down")
        self.heard.append(subject)

    async def _gap(self) -> None:
        self.gaps += 1

    async def hears(self, *subjects: str) -> None:
        """Wait until these tags have changed, and nothing else, since the last call."""
        await eventually(lambda: len(self.heard) >= len(subjects), what=f"{subjects}, not {self.heard}")
        assert self.heard == list(subjects)
        self.heard.clear()

    async def listens(self, gaps: int = 1) -> None:
        """Wait until it has started to listen ``gaps`` times."""
        await eventually(lambda: self.gaps == gaps, within=20, what="listening")

    async def stop(self) -> None:
        """Stop the listener as the end of a process does."""
        self.task.cancel()
        await asyncio.wait({self.task})


MakeEar = Callable[[Database], Ear]


@pytest.fixture
async def make_ear(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeEar]:
    """Creates listeners with short intervals."""
    monkeypatch.setattr(changes, "_STANDBY_SECONDS", 0.1)
    monkeypatch.setattr(changes, "_PING_SECONDS", 0.2)
    ears: list[Ear] = []

    def make(database: Database) -> Ear:
        ears.append(Ear(database))
        return ears[-1]

    yield make
    for ear in ears:
        await ear.stop()


@pytest.fixture
def postgres_url(migrated_postgres_url: str) -> str:
    return migrated_postgres_url


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def ear(database: Database, make_ear: MakeEar) -> Ear:
    """A listener that has started to listen."""
    ear = make_ear(database)
    await ear.listens()
    return ear


async def write(url: str, *statements: str) -> str:
    """Run SQL as another program does; returns its output."""
    psql = [str(PostgresServer._BIN / "psql"), "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", url]
    done = await asyncio.to_thread(
        subprocess.run,
        [*psql, *(word for statement in statements for word in ("-c", statement))],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


async def write_one(url: str, user_id: str = "after") -> None:
    await write(url, f"INSERT INTO user_preferences VALUES ('{user_id}', '{{}}')")


async def test_each_kind_of_statement_notifies(ear: Ear, postgres_url: str) -> None:
    await write(
        postgres_url,
        "INSERT INTO user_preferences VALUES ('ana', '{}'), ('bo', '{}')",
        "UPDATE user_preferences SET preferences = '{}' WHERE user_id = 'nobody'",
    )
    await ear.hears("user:ana", "user:bo")
    await write(postgres_url, "UPDATE user_preferences SET preferences = '[1]' WHERE user_id = 'bo'")
    await ear.hears("user:bo")
    await write(postgres_url, "UPDATE user_preferences SET user_id = 'cy' WHERE user_id = 'bo'")
    await ear.hears("user:bo", "user:cy")
    await write(
        postgres_url,
        "INSERT INTO user_preferences VALUES ('cy', '{}') ON CONFLICT (user_id) DO UPDATE "
        "SET preferences = excluded.preferences",
        "DELETE FROM user_preferences WHERE user_id = 'ana'",
        "COPY user_preferences (user_id, preferences) FROM PROGRAM 'printf \"dee\\t{}\\n\"'",
        "INSERT INTO weather VALUES ('lisboa', now(), 'x', '{}', '{}', now())",
    )
    await ear.hears("user:cy", "user:ana", "user:dee", "location:lisboa")
    await write(postgres_url, "UPDATE weather SET provider = 'y'", "TRUNCATE user_preferences, weather")
    await ear.hears("location:lisboa", "all")


async def test_a_rolled_back_statement_does_not_notify(ear: Ear, postgres_url: str) -> None:
    insert = "INSERT INTO user_preferences VALUES ('ana', '{}')"
    await write(postgres_url, "BEGIN", insert, "ROLLBACK")
    await write_one(postgres_url)
    await ear.hears("user:after")


async def test_many_changes_at_once_invalidate_everything(ear: Ear, postgres_url: str) -> None:
    some = "INSERT INTO user_preferences SELECT 'u' || n, '{{}}' FROM generate_series({}) AS n"
    await write(postgres_url, some.format("1, 5000"))
    await ear.hears("all")
    await write(postgres_url, "UPDATE user_preferences SET updated_at = now()")
    await ear.hears("all")
    await write(postgres_url, some.format("5001, 6000"))
    await eventually(lambda: len(ear.heard) == 1_000)
    assert "all" not in ear.heard


async def test_an_id_too_long_for_a_payload_invalidates_everything(ear: Ear, postgres_url: str) -> None:
    await write(postgres_url, "INSERT INTO user_preferences VALUES (repeat('ü', 3_980), '{}')")
    await ear.hears("all")


async def test_a_writer_with_few_rights_and_an_odd_search_path_notifies(
    ear: Ear, database: Database, postgres_url: str
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
    await ear.hears("user:ana")
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


async def test_tables_in_another_schema_notify(postgres_url: str, make_ear: MakeEar) -> None:
    await write(postgres_url, "DROP EXTENSION pg_trgm CASCADE", 'CREATE SCHEMA "the shop"')
    database = Database(f"{postgres_url}{'&' if '?' in postgres_url else '?'}schema=the%20shop")
    await database.start()
    ear = make_ear(database)
    await ear.listens()
    await write(postgres_url, "INSERT INTO \"the shop\".user_preferences VALUES ('ana', '{}')")
    await ear.hears("user:ana")
    await ear.stop()
    await database.close()


def _to_0003(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.downgrade(config, "0003")


async def test_the_triggers_can_be_removed_and_created_again(
    ear: Ear, database: Database, postgres_url: str
) -> None:
    async with database.begin() as connection:
        await connection.run_sync(_to_0003)
        ours = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'couturecast%'"
        assert await connection.scalar(text(ours)) == 0
    await database.start()
    await write_one(postgres_url)
    await ear.hears("user:after")


@pytest.fixture
async def own() -> AsyncIterator[PostgresServer]:
    """A server that may be stopped."""
    server = await asyncio.to_thread(PostgresServer)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.remove)


async def test_the_listener_reconnects_after_an_outage(own: PostgresServer, make_ear: MakeEar) -> None:
    database = Database(own.url())
    await database.start()
    ear = make_ear(database)
    await ear.listens()
    with structlog.testing.capture_logs() as logs:
        await asyncio.to_thread(own.stop)
        await eventually(lambda: any("not received now" in line["event"] for line in logs), within=20)
    await asyncio.to_thread(own.start)
    await ear.listens(2)
    await write_one(own.url())
    await ear.hears("user:after")
    await ear.stop()
    await database.close()


async def test_the_listener_replaces_a_terminated_connection(ear: Ear, postgres_url: str) -> None:
    for gaps in (2, 3):
        await write(postgres_url, _TERMINATE)
        await ear.listens(gaps)
    await write_one(postgres_url)
    await ear.hears("user:after")


async def test_one_process_listens_and_another_takes_over(
    ear: Ear, database: Database, postgres_url: str, make_ear: MakeEar
) -> None:
    polls: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "pg_locks" in statement:
            polls.append(statement)

    others = Database(postgres_url)
    event.listen(others.engine.sync_engine, "after_cursor_execute", count)
    second = make_ear(others)
    await eventually(lambda: len(polls) >= 2, what="the second process polls and stands by")
    await write_one(postgres_url, "first")
    await ear.hears("user:first")
    assert (second.heard, second.gaps) == ([], 0)

    async def one_session_beside_the_pools() -> bool:
        """A closing connection counts until it is closed."""
        pools = [owner.engine.pool for owner in (database, others)]
        own = sum(pool.checkedin() + pool.checkedout() for pool in pools)  # type: ignore[attr-defined]
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        async with database.connect() as connection:
            return bool(await connection.scalar(text(sessions)) == own + 1)

    await eventually(one_session_beside_the_pools)
    await ear.stop()
    await second.listens()
    await write_one(postgres_url, "second")
    await second.hears("user:second")
    assert ear.heard == []
    await second.stop()
    await others.close()


_LISTENER = """
import asyncio, sys
from storage.cache import change_listener
from storage.database.engine import Database

async def say(subject="gap"):
    with open(sys.argv[2], "a") as said:
        print(subject, file=said)

change_listener._PING_SECONDS = 0.3
asyncio.run(change_listener.ChangeListener(Database(sys.argv[1]), on_change=say, on_resync=say).run())
"""


async def test_another_process_takes_over_from_a_killed_listener(
    database: Database, postgres_url: str, make_ear: MakeEar, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    said.touch()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _LISTENER, postgres_url, str(said), stdout=subprocess.DEVNULL
    )
    await eventually(lambda: said.read_text() == "gap\n")
    ear = make_ear(database)
    await write_one(postgres_url, "before")
    await eventually(lambda: said.read_text() == "gap\nuser:before\n")
    process.kill()
    await process.wait()
    await ear.listens()
    await write_one(postgres_url)
    await ear.hears("user:after")


@pytest.mark.slow
async def test_another_process_takes_over_from_a_frozen_listener(
    database: Database,
    postgres_url: str,
    make_ear: MakeEar,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "_STANDBY_SECONDS", 0.2)
    monkeypatch.setattr(changes, "_SILENT_SECONDS", 3.0)
    said = tmp_path / "said"
    said.touch()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _LISTENER, postgres_url, str(said), stdout=subprocess.DEVNULL
    )
    await eventually(lambda: said.read_text() == "gap\n")
    ear = make_ear(database)
    await asyncio.sleep(4)
    assert ear.gaps == 0, "it is idle, and alive"
    process.send_signal(signal.SIGSTOP)
    await ear.listens()
    await write_one(postgres_url)
    await ear.hears("user:after")
    process.kill()
    await process.wait()


@pytest.fixture
async def by_way(
    postgres_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Forwarder, Database]]:
    """A database whose dedicated connections use a proxy, and its pool does not."""
    monkeypatch.setattr(changes, "_REPLY_SECONDS", 2.0)
    forwarder = Forwarder(postgres_url)
    await forwarder.start()
    database = Database(postgres_url, direct_url=forwarder.url())
    yield forwarder, database
    await database.close()
    await forwarder.stop()


async def test_the_listener_notices_a_hanging_connection(
    by_way: tuple[Forwarder, Database], postgres_url: str, make_ear: MakeEar
) -> None:
    forwarder, database = by_way
    ear = make_ear(database)
    await ear.listens()
    forwarder.freeze()
    await ear.listens(2)  # though on the server the lock is still held
    await write_one(postgres_url)
    await ear.hears("user:after")


async def test_changes_while_no_process_listens_cause_a_resync(
    by_way: tuple[Forwarder, Database], postgres_url: str, make_ear: MakeEar
) -> None:
    forwarder, database = by_way
    ear = make_ear(database)
    await ear.listens()
    await forwarder.stop()  # until it starts again the listener cannot connect
    await write_one(postgres_url, "unheard")
    await forwarder.start()
    await ear.listens(2)
    await write_one(postgres_url)
    await ear.hears("user:after")


async def test_the_listener_stops_promptly_though_its_connection_hangs(
    by_way: tuple[Forwarder, Database], make_ear: MakeEar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_PING_SECONDS", 60)
    forwarder, database = by_way
    ear = make_ear(database)
    await ear.listens()
    forwarder.freeze()
    began = time.monotonic()
    await ear.stop()
    assert time.monotonic() - began < 30, "and not when it would have looked after itself"


async def test_a_failed_invalidation_is_retried_and_delays_no_other(ear: Ear, postgres_url: str) -> None:
    ear.fail = lambda subject: subject == "user:bad"
    with structlog.testing.capture_logs() as logs:
        await write_one(postgres_url, "bad")
        await eventually(lambda: ear.failed)
        await write_one(postgres_url, "good")
        await ear.hears("user:good")
        ear.fail = lambda subject: False
        await ear.hears("user:bad")
    (warning,) = [line for line in logs if line["log_level"] == "warning"]
    assert (warning["tag"], warning["cause"]) == ("user:bad", "the cache is down")


async def test_too_many_pending_changes_invalidate_everything(
    ear: Ear, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_queue, "_MAX_PENDING", 20)
    ear.fail = lambda subject: True
    await write(
        postgres_url, "INSERT INTO user_preferences SELECT n::text, '{}' FROM generate_series(1, 21) n"
    )
    await eventually(lambda: ear.failed)
    ear.fail = lambda subject: False
    await ear.hears("all")


async def test_a_change_during_its_delivery_is_delivered_again(
    database: Database, postgres_url: str, make_ear: MakeEar
) -> None:
    told: list[str] = []
    go_on = asyncio.Event()

    async def change(subject: str) -> None:
        told.append(subject)
        await go_on.wait()

    async def gap() -> None:
        told.append("gap")

    listener = ChangeListener(database, on_change=change, on_resync=gap)
    running = asyncio.create_task(listener.run())
    await eventually(lambda: told == ["gap"])
    await write_one(postgres_url, "ana")
    await eventually(lambda: told == ["gap", "user:ana"])
    await write(postgres_url, "NOTIFY couturecast_cache, 'nonsense'")
    for user_id in ("ana", "bo", "ana", "last"):  # they arrive in order, so all are here when the last is
        await write(
            postgres_url,
            f"INSERT INTO user_preferences VALUES ('{user_id}', '{{}}') "
            "ON CONFLICT (user_id) DO UPDATE SET updated_at = now()",
        )
    await eventually(lambda: "user:last" in listener._queue._pending, what="all arrive")
    go_on.set()
    await eventually(lambda: told[-1] == "user:last")
    assert told == ["gap", "user:ana", "user:ana", "user:bo", "user:last"]
    running.cancel()
    await asyncio.wait({running})


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
    running.cancel()
    await asyncio.wait({running})
    (said,) = [line for line in logs if line["log_level"] == "warning"]
    assert said["event"] == "notifications do not arrive"
    assert "DIRECT_URL" in said["cause"]
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
