"""An unavailable database, and values that it always refuses, are distinguished."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.engine import make_url

from storage.asyncio_tools import cancel_and_wait
from storage.database.engine import Database
from storage.database.tables import JobFailure
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.records import NewDeadLetter, ReplayOutcome
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError, InvalidCursorError, InvalidDatabaseUrlError
from storage.redis.client import make_client
from tests.support.databases import open_database
from tests.support.letters import NOON, letter
from tests.support.waiting import eventually
from workers.dead_letters.recorder import Recorder
from workers.engine.keys import LETTER, LETTERS
from workers.engine.letter_encoding import encode_letter


@pytest.fixture
async def postgres(migrated_postgres_url: str) -> AsyncIterator[Database]:
    async with open_database(migrated_postgres_url) as database:
        yield database


async def _connection(database: Database) -> asyncpg.Connection[Any]:
    return await asyncpg.connect(database.safe_url)


async def _all_places(database: Database) -> list[asyncpg.Connection[Any]]:
    held = []
    while True:
        try:
            held.append(await _connection(database))
        except asyncpg.TooManyConnectionsError:
            return held


def _nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


async def test_e8_a_server_without_a_free_connection_is_unavailable(postgres: Database) -> None:
    letters = DeadLetterRepository(postgres)
    await postgres.engine.dispose()
    held = await _all_places(postgres)
    try:
        with pytest.raises(DatabaseUnavailableError, match="all of its connections are taken"):
            await letters.record([letter()])
        with pytest.raises(DatabaseUnavailableError):
            await postgres.start(timeout=0.2)
    finally:
        await asyncio.gather(*(connection.close() for connection in held))
    await postgres.start()
    assert await letters.record([letter()]) == 1


async def test_e8_a_read_only_server_does_not_lose_the_payload(postgres: Database) -> None:
    letters = DeadLetterRepository(postgres)
    admin = await _connection(postgres)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await postgres.engine.dispose()
    with pytest.raises(DatabaseUnavailableError, match="read-only"):
        await letters.record([letter()])
    await admin.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
    await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await postgres.engine.dispose()
    assert await letters.record([letter()]) == 1
    assert (await letters.page()).items[0].job_data == letter().job_data
    await admin.close()


async def test_a_missing_database_is_reported_in_one_line(postgres: Database) -> None:
    missing = Database(postgres.safe_url.replace("/test_", "/missing_"))
    with pytest.raises(DatabaseUnavailableError, match="does not exist") as error:
        await missing.start(timeout=0.2)
    assert "\n" not in str(error.value)
    await missing.close()


@pytest.mark.parametrize("replay_of", ["abc", {"x": 1}, 2**70, 1.5, True])
async def test_an_invalid_replay_of_does_not_lose_the_payload(database: Database, replay_of: Any) -> None:
    letters = DeadLetterRepository(database)
    assert await letters.record([letter(replay_of=replay_of)]) == 1
    (found,) = (await letters.page()).items
    assert (found.job_data, found.replay_of) == (letter().job_data, None)


@pytest.mark.parametrize("levels", [99, 500, 5_000])
async def test_e8_nesting_never_loses_a_letter(database: Database, levels: int) -> None:
    deep = letter("deep", job_data={"kwargs": {"a": _nested(levels)}})
    assert await DeadLetterRepository(database).record([letter("a"), deep, letter("b")]) == 3


@pytest.mark.parametrize("number", [10**5_000, -(2**70)], ids=["long", "negative"])
async def test_e8_numbers_never_lose_a_letter(database: Database, number: int) -> None:
    assert await DeadLetterRepository(database).record([letter(job_data={"a": number}, attempts=number)]) == 1


async def test_e8_a_name_too_long_for_an_index_does_not_lose_the_payload(database: Database) -> None:
    letters = DeadLetterRepository(database)
    data = {"kwargs": {"".join(map(chr, range(0x4E00, 0x9000))): "1", "b": "\\" * 200, "\\" * 200: 2}}
    assert await letters.record([letter(job_data=data)]) == 1
    assert (await letters.page()).items[0].job_data == data


@pytest.mark.parametrize("signs", ["0123456789abcdef", "".join(map(chr, range(0x10000, 0x14000)))])
async def test_e8_names_too_long_for_an_index_are_shortened(database: Database, signs: str) -> None:
    letters = DeadLetterRepository(database)
    name = "".join(random.Random(1).choices(signs, k=4_000))
    names = {"function": name, "queue_name": name, "fingerprint": name, "error_type": name}
    odd = letter("odd" + name, **names, job_id=name, job_data={"function": name})
    assert [await letters.record([letter("a"), odd, letter("b")]) for _ in range(2)] == [3, 0]
    (found,) = (await letters.page(LetterFilter(queue=name[:199] + "…"))).items
    assert (found.function, found.error_type) == (name[:199] + "…",) * 2
    assert (found.job_id, found.job_data) == (name, {"function": name})
    assert await letters.archive(NOON + timedelta(days=1)) == 3


async def test_e8_a_letter_of_another_version_is_kept(database: Database) -> None:
    letters = DeadLetterRepository(database)
    whole = {field.name: None for field in fields(NewDeadLetter)} | {"uid": "none", "failed_at": NOON}
    typed = {name: [1] for name in whole} | {"uid": "typed"}
    odd = [NewDeadLetter(**whole), NewDeadLetter(**typed)]
    assert await letters.record([letter("a"), *odd, letter("b")]) == 4
    assert {row.uid for row in (await letters.page()).items} == {"a", "b", "none", "typed"}


async def test_e8_a_letter_that_is_refused_twice_delays_no_other(database: Database, redis_url: str) -> None:
    refuse = "new.uid = 'bad' OR new.uid LIKE 'bad-%'"
    async with database.begin() as connection:
        if database.dialect == "sqlite":
            await connection.exec_driver_sql(
                f"CREATE TRIGGER refuse BEFORE INSERT ON job_failures WHEN {refuse} "
                "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
            )
        else:
            await connection.exec_driver_sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN IF {refuse} THEN RAISE check_violation; END IF; RETURN new; END $$"
            )
            await connection.exec_driver_sql(
                "CREATE TRIGGER refuse BEFORE INSERT ON job_failures FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
    redis, letters = make_client(redis_url), DeadLetterRepository(database)
    for n, uid in enumerate([*(f"bad-{n}" for n in range(120)), "good-1", "bad", "good-2"]):
        await redis.zadd(LETTERS, {uid: n})
        await redis.hset(LETTER, uid, encode_letter(letter(uid)))
    await redis.zadd(LETTERS, {b"\xff": 1000})
    await redis.hset(LETTER, b"\xff", b"no letter")
    recorder = Recorder(redis, letters)
    running = asyncio.create_task(recorder.run())
    with structlog.testing.capture_logs() as logs:
        await eventually(lambda: _recorded(letters, 3), within=90)
        await asyncio.sleep(0.3)
    assert await redis.zcard(LETTERS) == await redis.hlen(LETTER) == 121
    errors = [line for line in logs if line["log_level"] == "error"]
    assert sum(len(line["letters"]) for line in errors) == 121
    assert len(errors) == 2
    recorder.notify()
    await redis.zadd(LETTERS, {"late": 2000})
    await redis.hset(LETTER, "late", encode_letter(letter("late")))
    await eventually(lambda: _recorded(letters, 4))
    await cancel_and_wait([running])
    await redis.aclose()


async def _recorded(letters: DeadLetterRepository, expected: int) -> bool:
    return await letters.count() == expected


@pytest.mark.slow
async def test_thousands_are_recorded_in_one_call(database: Database) -> None:
    assert await DeadLetterRepository(database).record([letter(f"u{n}") for n in range(2_500)]) == 2_500


async def test_impossible_ids_are_not_found(database: Database) -> None:
    letters = DeadLetterRepository(database)
    assert await letters.get(2**70) is None
    assert (await letters.page(LetterFilter(queue="a\0b"))).items == []


@pytest.mark.parametrize(
    "place", [["failed_at", "0001-01-01T00:00:00+14:00", 1], ["failed_at", NOON.isoformat(), 2**70]]
)
async def test_a_cursor_out_of_range_is_refused(database: Database, place: list[Any]) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(place).encode()).decode()
    with pytest.raises(InvalidCursorError):
        await DeadLetterRepository(database).page(cursor=cursor)


@pytest.fixture
def junk_url(sqlite_url: str) -> str:
    Path(sqlite_url.removeprefix("sqlite:///")).write_bytes(b"something else " * 100)
    return sqlite_url


async def test_a_file_that_is_not_a_database_is_reported(junk_url: str) -> None:
    database = Database(junk_url)
    with pytest.raises(DatabaseUnavailableError, match="not a database"):
        await database.start(timeout=0.2)
    await database.close()


@pytest.mark.parametrize(
    "parameters", ["sslmode=prefer&connect_timeout=5", "application_name=ops", "channel_binding=prefer"]
)
async def test_the_parameters_of_hosted_postgres_are_understood(postgres_url: str, parameters: str) -> None:
    database = Database(f"{postgres_url}{'&' if '?' in postgres_url else '?'}{parameters}")
    await database.start()
    await database.close()


async def test_a_password_among_the_parameters_is_not_shown() -> None:
    for name in ("password", "Password", "sslpassword", "PGPASSWORD"):
        assert "hidden" not in Database(f"postgresql://me@localhost/db?{name}=hidden").safe_url


@pytest.mark.parametrize(
    "password", ["hidden@hidden", "@hidden", "hidden@", "hidden@hidden/hidden", "h@hidden:5"]
)
@pytest.mark.parametrize("place", ["host/db", "host:5432/db", "host", "host/db?application_name=a@b"])
def test_an_at_sign_in_a_password_is_reported_without_the_password(password: str, place: str) -> None:
    with pytest.raises(ValueError, match="write %40 for @") as refused:
        Database(f"postgresql://me:{password}@{place}")
    assert "hidden" not in str(refused.value)


def test_an_at_sign_among_the_parameters_is_allowed() -> None:
    assert Database("postgresql://me:a%40b@host/a%40b?application_name=a@b").safe_url.startswith(
        "postgresql://me:***@"
    )
    assert Database("sqlite:////a@b/c@d.db").dialect == "sqlite"


@pytest.mark.parametrize("port", ["0", "65536", "99999", "-1", "5432x"])
def test_an_invalid_port_is_refused(port: str) -> None:
    urls = [f"postgresql://me:hidden@host/db?port={port}"]
    if port.isdigit():
        urls.append(f"postgresql://me:hidden@host:{port}/db")
    for url in urls:
        with pytest.raises(ValueError, match=f"port {port}: use one from 1 to 65535") as refused:
            Database(url)
        assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (
            "foo=bar",
            ' is refused: unrecognized configuration parameter "foo": correct that parameter of the URL',
        ),
        (
            "statement_timeout=abc",
            ' is refused: invalid value for parameter "statement_timeout": "abc": correct',
        ),
        ("options=-cfoo%3Dbar", ' is refused: unrecognized configuration parameter "foo": correct that'),
        ("target_session_attrs=bad", ": target_session_attrs is expected to be one of"),
    ],
)
async def test_a_start_does_not_wait_after_a_refused_parameter(
    postgres_url: str, parameters: str, says: str
) -> None:
    database = Database(f"{postgres_url}{'&' if '?' in postgres_url else '?'}{parameters}")
    waited: list[str] = []
    with pytest.raises(InvalidDatabaseUrlError) as refused:
        await database.start(timeout=60, on_waiting=waited.append)
    assert str(refused.value).startswith(f"{database.safe_url}{says}")
    assert waited == []
    with pytest.raises(InvalidDatabaseUrlError):
        await database.dedicated_connection()
    await database.close()


async def test_e8_a_role_that_may_not_connect_does_not_lose_the_payload(postgres: Database) -> None:
    admin = await _connection(postgres)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    await admin.execute(f"CREATE ROLE outside_{name} LOGIN PASSWORD 'x'")
    await admin.close()
    url = make_url(postgres.safe_url).set(username=f"outside_{name}", password="x")
    database = Database(url.render_as_string(hide_password=False))
    with pytest.raises(DatabaseUnavailableError, match="refuses: permission denied for database"):
        await DeadLetterRepository(database).record([letter()])
    await database.close()


async def test_a_change_to_a_letter_during_its_archiving_is_kept(postgres: Database) -> None:
    letters = DeadLetterRepository(postgres)
    await letters.record([letter()])
    (found,) = (await letters.page()).items
    await _slow_down(postgres, "BEFORE INSERT ON job_failures_archive")

    async def end() -> None:
        await eventually(lambda: _archive_sleeps(postgres))
        await letters.record_replay_outcomes([ReplayOutcome(found.id, 0, "completed")])

    await asyncio.gather(letters.archive(NOON + timedelta(days=1)), end())
    archived = await letters.get(found.id)
    assert archived is not None
    assert (archived.archived, archived.state) == (True, "replayed")


async def test_e8_an_archived_letter_is_not_recorded_again(database: Database) -> None:
    letters = DeadLetterRepository(database)
    assert await letters.record([letter("a"), letter("b")]) == 2
    assert await letters.archive(NOON + timedelta(days=1)) == 2
    assert await letters.record([letter("a"), letter("c")]) == 1
    assert [row.uid for row in (await letters.page(LetterFilter(state=None))).items] == ["c"]
    assert await letters.count(LetterFilter(state=None, archived=True)) == 2


async def test_e8_a_letter_recorded_during_its_archiving_is_one(postgres: Database) -> None:
    letters = DeadLetterRepository(postgres)
    await letters.record([letter()])
    await _slow_down(postgres, "AFTER DELETE ON job_failures")

    async def again() -> int:
        await eventually(lambda: _archive_sleeps(postgres))
        return await letters.record([letter()])

    assert await asyncio.gather(letters.archive(NOON + timedelta(days=1)), again()) == [1, 0]
    assert await letters.count() == 0


async def test_a_letter_whose_id_or_uid_is_archived_stays(database: Database) -> None:
    letters = DeadLetterRepository(database)
    await letters.record([letter("a"), letter("b"), letter("c")])
    ids = {row.uid: row.id for row in (await letters.page()).items}
    async with database.begin() as connection:
        for uid, letter_id in (("a", 1_000), ("other", ids["b"])):
            columns = ", ".join(
                column.name for column in JobFailure.__table__.c if column.name not in ("id", "uid")
            )
            await connection.exec_driver_sql(
                f"INSERT INTO job_failures_archive (id, uid, {columns}) "
                f"SELECT {letter_id}, '{uid}', {columns} FROM job_failures WHERE uid = 'c'"
            )
    archived = [await letters.archive(NOON + timedelta(days=1), limit=1) for _ in range(2)]
    assert archived == [1, 0]
    assert {row.uid for row in (await letters.page()).items} == {"a", "b"}


async def _archive_sleeps(postgres: Database) -> bool:
    """Whether the trigger of `_slow_down` runs."""
    sleeps = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    async with postgres.connect() as connection:
        return bool(await connection.scalar(text(sleeps)))


async def _slow_down(postgres: Database, when: str) -> None:
    """Makes archiving slow."""
    async with postgres.begin() as connection:
        await connection.exec_driver_sql(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(0.5); RETURN new; END'"
        )
        await connection.exec_driver_sql(f"CREATE TRIGGER slow {when} FOR EACH ROW EXECUTE FUNCTION slow()")
