"""The doctor's findings on a database: unavailable, other tables, missing rights, poolers."""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
from contextlib import closing

import pytest
import trustme
from sqlalchemy.engine import make_url

from tests.acceptance.doctor.conftest import SECRET, doctor, postgres_findings, run, with_role, wrong_ones
from tests.support.forwarder import Forwarder
from tests.support.program import Program
from tests.support.servers import free_port


def test_an_unavailable_database_is_wrong(program: Program, redis_url: str) -> None:
    url = f"postgresql://user:{SECRET}@127.0.0.1:{free_port()}/x"
    found = doctor(program, REDIS_URL=redis_url, DATABASE_URL=url)
    assert found.named("wrong") == ["database server"]
    assert found["Redis scripts"]["state"] == "ok"


def test_tables_of_another_version_are_reported(program: Program, database_url: str) -> None:
    assert program.run("status", DATABASE_URL=database_url).code == 0
    statement = "UPDATE alembic_version SET version_num = '0001'"
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(make_url(database_url).database or "")) as database:
            database.execute(statement)
            database.commit()
    else:
        asyncio.run(run(database_url, statement))
    found = doctor(program, DATABASE_URL=database_url)
    assert found["database migrations"]["state"] == "warning"
    assert found["database migrations"]["finding"].startswith("the tables are of revision 0001, not ")


@pytest.mark.parametrize("parameters", ["foo=bar", "statement_timeout=abc"])
async def test_unknown_parameters_of_a_url_are_wrong(postgres_url: str, parameters: str) -> None:
    found = await postgres_findings(f"{postgres_url}&{parameters}")
    assert wrong_ones(found) == ["server"]
    assert parameters[:3] in found["server"].text


async def test_an_impossible_port_is_wrong() -> None:
    found = await postgres_findings("postgresql://u@127.0.0.1:99999/x")
    assert wrong_ones(found) == ["server"]


@pytest.mark.parametrize(
    "url", [f"postgresql://postgres:{SECRET}[x@/d?host=/nowhere", f"postgresql://u:{SECRET}\u2100x@h/x"]
)
def test_passwords_that_break_a_url_do_not_show(program: Program, url: str) -> None:
    found = doctor(program, DATABASE_URL=url, COUTURECAST_ADMIN_TOKEN=f"http://[{SECRET}aaaaaaaa")
    assert "database server" in found.named("wrong")


async def test_only_our_own_connection_is_judged_for_tls(postgres_url: str) -> None:
    """The server behind a pooler that speaks TLS with us does not know of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    pooler = Forwarder(postgres_url, context)
    await pooler.start()
    found = await postgres_findings(pooler.url("sslmode=require"))
    await pooler.stop()
    assert found["encryption"].text == "TLSv1.3"


async def test_a_direct_url_is_checked(program: Program, postgres_url: str) -> None:
    other = make_url(postgres_url).set(database="postgres").render_as_string(hide_password=False)
    away = f"postgresql://u@127.0.0.1:{free_port()}/x"
    assert (await postgres_findings(postgres_url, other))["direct URL"].state == "wrong"
    assert (await postgres_findings(postgres_url, away))["direct URL"].state == "wrong"  # to make the tables
    assert (await asyncio.to_thread(program.run, "status", DATABASE_URL=postgres_url)).code == 0
    assert (await postgres_findings(postgres_url, other))["direct URL"].state == "wrong"
    assert (await postgres_findings(postgres_url, away))["direct URL"].state == "warning"
    assert (await postgres_findings(postgres_url, postgres_url))["direct URL"].state == "ok"


LACKS = {
    "INSERT": "REVOKE INSERT ON job_failures FROM",
    "USAGE": "REVOKE USAGE ON SEQUENCE job_failures_id_seq FROM",
    "nothing": "GRANT SELECT ON job_failures TO",
}


async def test_a_missing_right_of_a_role_is_wrong(program: Program, postgres_url: str) -> None:
    assert (await asyncio.to_thread(program.run, "status", DATABASE_URL=postgres_url)).code == 0
    for lacks, statement in LACKS.items():
        role = f"clerk_{make_url(postgres_url).database}_{lacks}".lower()
        await run(
            postgres_url,
            f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",
            f"{statement} {role}",
        )
        found = await postgres_findings(with_role(postgres_url, role))
        if lacks == "nothing":
            assert found["rights"].text == f"{role} has what it needs"
            assert wrong_ones(found) == []
        else:
            assert wrong_ones(found) == ["rights"]
            assert f"lacks {lacks} on job_failures" in found["rights"].text
            assert found["rights"].fix.startswith("GRANT ")


async def test_a_role_without_the_right_to_make_tables_is_wrong(postgres_url: str) -> None:
    role = f"newcomer_{make_url(postgres_url).database}"
    await run(postgres_url, f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'")
    found = await postgres_findings(with_role(postgres_url, role))
    assert found["rights"].state == "wrong"
    assert found["rights"].text == f"{role} may not make tables in the schema public"


async def test_a_read_only_database_is_wrong(postgres_url: str) -> None:
    role = f"reader_{make_url(postgres_url).database}"
    await run(
        postgres_url,
        f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{SECRET}'",
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
    )
    found = await postgres_findings(with_role(postgres_url, role))
    assert found["role"].text == "transactions are read-only here"
    assert wrong_ones(found) == ["role"]


def test_a_transaction_pooler_without_a_direct_url_is_a_warning(program: Program, postgres_url: str) -> None:
    pooled = f"{postgres_url}&pgbouncer=true"
    found = doctor(program, DATABASE_URL=pooled)
    assert found["database pooler"]["state"] == "warning"
    assert found["database notifications"]["state"] == "unknown"
    found = doctor(program, DATABASE_URL=pooled, DIRECT_URL=postgres_url)
    assert found["database pooler"]["state"] == "ok"
    assert found.says("database notifications") == ("ok", "a NOTIFY arrives")


@pytest.mark.slow
def test_a_direct_url_that_never_answers_hides_no_other_check(
    program: Program, postgres_url: str, black_hole: int
) -> None:
    direct = f"postgresql://u:{SECRET}@127.0.0.1:{black_hole}/x"
    found = doctor(program, DATABASE_URL=postgres_url, DIRECT_URL=direct)
    assert found.named("wrong") == ["database direct URL"]
    assert "no answer in time" in found["database direct URL"]["finding"]
    assert found.says("database notifications") == ("unknown", "not checked: DIRECT_URL cannot be used")
    assert found["database clock"]["state"] == "ok"


def test_a_file_that_is_not_a_database_is_wrong(program: Program) -> None:
    program.data_dir.mkdir(mode=0o700)
    (program.data_dir / "couturecast.db").write_bytes(b"no database at all" * 100)
    found = doctor(program)
    assert found.named("wrong") == ["database migrations"]
