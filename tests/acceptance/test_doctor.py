"""The doctor: what it finds on good and bad servers, how long it takes, and that it changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis
import trustme
from sqlalchemy.engine import make_url

from app.doctor import registry as checks
from app.doctor.checks.postgres import open_postgres
from app.doctor.checks.redis_server import open_redis
from app.doctor.groups import run_group
from app.doctor.results import Finding
from tests.acceptance.conftest import Done, OpenTerminal, Program, server_pid
from tests.integration.workers.conftest import eventually
from tests.support.forwarder import Forwarder
from tests.support.servers import TlsForwarder, ValkeyServer, free_port

SECRET = "pa55word"
AT_MOST = 15.0  # s, whatever hangs
KEY = {"OPENWEATHER_API_KEY": f"key-{SECRET}"}
StartValkey = Callable[..., ValkeyServer]


class Report:
    """What ``doctor --json`` said."""

    def __init__(self, done: Done) -> None:
        assert SECRET not in done.out + done.err
        assert "Traceback" not in done.err
        assert done.err == ""
        self.code = done.code
        self.items: list[dict[str, Any]] = done.json["items"]
        for result in self.items:
            assert set(result) == {"check", "group", "state", "finding", "consequence", "mend"}
            if result["state"] in ("warning", "wrong"):
                assert result["consequence"], result
                assert result["mend"], result
        assert done.json["wrong"] == len(self.named("wrong"))
        assert done.json["warnings"] == len(self.named("warning"))
        assert done.code == (1 if done.json["wrong"] else 0)

    def named(self, state: str) -> list[str]:
        """``group check`` of all results in a state."""
        return [f"{result['group']} {result['check']}" for result in self.items if result["state"] == state]

    def __getitem__(self, name: str) -> dict[str, Any]:
        (found,) = (result for result in self.items if f"{result['group']} {result['check']}" == name)
        return found

    def says(self, name: str) -> tuple[str, str]:
        """State and finding."""
        return self[name]["state"], self[name]["finding"]


def doctor(program: Program, *arguments: str, **environment: str) -> Report:
    return Report(program.run("doctor", "--json", *arguments, **(KEY | environment)))


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[StartValkey]:
    """Starts a Valkey with options of its own."""
    with ExitStack() as stack:

        def start(*options: str) -> ValkeyServer:
            server = ValkeyServer(tmp_path / f"valkey-{time.monotonic_ns()}", *options)
            server.start()
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def redis_findings(url: str) -> dict[str, Finding]:
    """All checks of a Redis, without a process of their own."""
    server = await open_redis(url, "REDIS_URL")
    if isinstance(server, Finding):
        return {"server": server}
    results = await run_group("Redis", server, checks.REDIS)
    await server.close()
    return {result.check: result.finding for result in results}


async def postgres_findings(url: str, direct_url: str | None = None) -> dict[str, Finding]:
    """All checks of a Postgres."""
    at = await open_postgres(url, direct_url=direct_url, pool_size=5)
    if isinstance(at, Finding):
        return {"server": at}
    results = await run_group("database", at, checks.POSTGRES, concurrency=1)
    await at.close()
    return {result.check: result.finding for result in results}


def wrong_ones(found: dict[str, Finding]) -> list[str]:
    """The checks that found something wrong."""
    return [check for check, each in found.items() if each.state == "wrong"]


def with_role(url: str, name: str) -> str:
    return make_url(url).set(username=name, password=SECRET).render_as_string(hide_password=False)


# What is well


def test_a_good_setup_has_no_problem(program: Program, valkey: StartValkey, postgres_url: str) -> None:
    server = valkey("--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru")
    environment = {"REDIS_URL": server.url, "DATABASE_URL": postgres_url}
    assert program.run("status", **environment).code == 0
    found = doctor(program, **environment)
    assert found.code == 0
    assert found.named("wrong") == []
    assert found.named("unknown") == []
    assert found.named("warning") == ["machine terminal"]
    assert len(found.items) > 30
    assert found.says("Redis eviction") == ("ok", "volatile-lru")
    assert found.says("database notifications") == ("ok", "a NOTIFY arrives")
    assert found["database migrations"]["finding"].startswith("the tables are up to date")


def test_without_servers_it_reports_what_the_next_start_makes(program: Program) -> None:
    found = doctor(program)
    assert found.code == 0
    assert "the next start starts one in" in found["Redis server"]["finding"]
    assert "the next start makes it" in found["database file"]["finding"]
    assert "the next start makes them" in found["database migrations"]["finding"]
    assert not program.data_dir.exists()
    assert server_pid(program.data_dir) is None


async def test_a_running_embedded_server_is_checked(program: Program) -> None:
    started = await program.start()
    found = await asyncio.to_thread(doctor, program)
    assert found.code == 0
    assert found["Redis server"]["finding"].endswith("(embedded)")
    assert found.says("Redis persistence") == ("ok", "append-only file")
    assert found["database migrations"]["finding"].startswith("the tables are up to date")
    assert await started.stop() == 0, started.err


@pytest.mark.slow
async def test_an_embedded_server_that_hangs_is_wrong(program: Program) -> None:
    started = await program.start("--queues", "alert-fanout")
    server = server_pid(program.data_dir)
    assert server is not None
    os.kill(server, signal.SIGSTOP)
    try:
        found = await asyncio.to_thread(doctor, program)
    finally:
        os.kill(server, signal.SIGCONT)
    assert found.named("wrong") == ["Redis server"]
    assert "runs and does not answer" in found["Redis server"]["finding"]
    assert await started.stop() == 0, started.err


async def test_processes_of_the_cluster_count_for_the_connections(
    program: Program, redis_url: str, postgres_url: str
) -> None:
    environment = {"REDIS_URL": redis_url, "DATABASE_URL": postgres_url}
    started = await program.start(**environment)
    found = await asyncio.to_thread(doctor, program, **environment, COUTURECAST_DB_POOL_SIZE="60")
    assert found["database connections"]["state"] == "wrong"
    assert "pool size 60 × (1 workers + 1) + 2 = 122" in found["database connections"]["finding"]
    assert await started.stop() == 0, started.err


# It changes nothing


def tree(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every file and folder: mode, time of change in ns, digest of what is in it."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        about = path.lstat()
        body = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (about.st_mode, about.st_mtime_ns, hashlib.sha256(body).hexdigest())
    return found


def contents(url: str) -> tuple[Any, ...]:
    """All keys with their values, and how often anything was changed."""
    with redis.Redis.from_url(url) as server:
        keys: Any = server.keys("*")
        about: Any = server.info()
        dumps = {key: server.dump(key) for key in keys}
        counts = {name: count for name, count in about.get("db0", {}).items() if name != "avg_ttl"}  # it ages
        return dumps, counts, about["rdb_changes_since_last_save"], server.config_get()


async def tables(url: str) -> tuple[Any, ...]:
    """All relations of a database, and the rows of ours with the transactions that wrote them."""
    connection = await asyncpg.connect(url)
    names = await connection.fetch("SELECT oid, relname, relkind FROM pg_class WHERE relname !~ '^pg_toast'")
    ours = await connection.fetch("SELECT relname FROM pg_stat_user_tables ORDER BY 1")
    rows = {
        name: await connection.fetch(f'SELECT xmin::text, xmax::text, * FROM "{name}"') for (name,) in ours
    }
    await connection.close()
    return sorted(map(tuple, names)), rows


async def nobody_is_connected(redis_url: str, postgres_url: str) -> bool:
    """Whether the servers have closed the connections of processes that ended."""
    connection = await asyncpg.connect(postgres_url)
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    sessions = await connection.fetchval(others)
    await connection.close()
    with redis.Redis.from_url(redis_url) as server:
        return bool(sessions == 0 and len(server.client_list()) == 1)


async def test_it_changes_nothing_on_servers(program: Program, redis_url: str, postgres_url: str) -> None:
    environment = {"REDIS_URL": redis_url, "DATABASE_URL": postgres_url, "CACHE_REDIS_URL": redis_url}
    assert program.run("status", **environment).code == 0
    job = '{"content_id": "c", "text": "A fine linen coat."}'
    assert program.run("enqueue", "moderation-review", "--data", job, **environment).code == 0
    await eventually(lambda: nobody_is_connected(redis_url, postgres_url))
    before = (tree(program.directory), contents(redis_url))
    relations = await tables(postgres_url)
    found = await asyncio.to_thread(doctor, program, **environment)
    assert found.named("wrong") == []
    assert (tree(program.directory), contents(redis_url)) == before
    assert await tables(postgres_url) == relations


async def test_it_makes_no_tables_in_an_empty_database(program: Program, postgres_url: str) -> None:
    before = await tables(postgres_url)
    found = await asyncio.to_thread(doctor, program, DATABASE_URL=postgres_url)
    assert found["database migrations"]["finding"].startswith("no tables yet")
    assert await tables(postgres_url) == before


LEFT_BEHIND = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
database.execute("INSERT INTO alembic_version VALUES ('in the log')")
os._exit(0)
"""


@pytest.mark.parametrize("state", ["stopped", "killed", "log without index", "handler"])
def test_it_changes_no_file(program: Program, tmp_path: Path, state: str) -> None:
    file = program.data_dir / "couturecast.db"
    environment: dict[str, str] = {}
    if state == "stopped":
        assert program.run("status").code == 0
        assert file.exists()
    if state in ("killed", "log without index"):
        program.data_dir.mkdir(mode=0o700)
        subprocess.run([sys.executable, "-c", LEFT_BEHIND, file], check=True)
        assert Path(f"{file}-wal").stat().st_size > 0
    if state == "log without index":
        Path(f"{file}-shm").unlink()
    if state == "handler":
        (program.directory / "mine.py").write_text("async def run(ctx, **kwargs): ...\n")
        environment["COUTURECAST_HANDLERS"] = "color-extraction=mine:run"
    before = tree(tmp_path)
    found = doctor(program, **environment)
    assert tree(tmp_path) == before
    if state == "killed":
        assert "revision in the log" in found["database migrations"]["finding"]
    if state == "log without index":
        assert found["database migrations"]["state"] == "unknown"
        assert "has no index" in found["database migrations"]["finding"]
    assert server_pid(program.data_dir) is None


CHANGED_BY_THE_PROGRAM = {"couturecast.db-wal", "couturecast.db-shm", "log-0", "couturecast.db"} | {
    f"appendonly.aof.1.{end}.aof" for end in ("base", "incr")
}
"""What a running program writes by itself: its database, its log and the embedded server's file."""


async def test_it_changes_no_file_of_a_running_program(program: Program, tmp_path: Path) -> None:
    started = await program.start()
    before = tree(tmp_path)
    await asyncio.to_thread(doctor, program)
    after = tree(tmp_path)
    assert sorted(after) == sorted(before)
    changed = {Path(path).name for path in before if after[path] != before[path]}
    assert changed <= CHANGED_BY_THE_PROGRAM
    assert await started.stop() == 0, started.err


# Redis


def test_an_unavailable_redis_hides_no_other_group(program: Program, postgres_url: str) -> None:
    url = f"redis://user:{SECRET}@127.0.0.1:{free_port()}/0"
    found = doctor(program, REDIS_URL=url, DATABASE_URL=postgres_url)
    assert found.named("wrong") == ["Redis server"]
    assert found["Redis server"]["finding"].startswith("redis://user:***@127.0.0.1:")
    assert found.says("Redis eviction") == ("unknown", "not checked: Redis does not answer")
    assert found["database version"]["state"] == "ok"
    assert "(unknown workers + 1)" in found["database connections"]["finding"]


@pytest.mark.slow
def test_servers_that_never_answer_time_out(program: Program, black_hole: int) -> None:
    started = time.monotonic()
    found = doctor(
        program,
        REDIS_URL=f"redis://:{SECRET}@127.0.0.1:{black_hole}/0",
        CACHE_REDIS_URL=f"rediss://:{SECRET}@127.0.0.1:{black_hole}/0",
        DATABASE_URL=f"postgresql://u:{SECRET}@127.0.0.1:{black_hole}/x",
        COUTURECAST_HTTP=f"127.0.0.1:{black_hole}",
    )
    assert time.monotonic() - started < AT_MOST
    assert found.named("wrong") == ["Redis server", "database server", "machine HTTP"]
    assert found["cache server"]["state"] == "warning"
    assert "within 5 s" in found["Redis server"]["finding"]
    assert found.says("database rights") == ("unknown", "not checked: the database does not answer")


@pytest.mark.slow
def test_a_server_that_stops_answering_times_out(program: Program) -> None:
    """It answers pings and nothing else."""
    started = time.monotonic()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=_only_pings, args=(listener,), daemon=True).start()
        found = doctor(program, REDIS_URL=f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
    assert time.monotonic() - started < AT_MOST
    assert found["Redis scripts"]["state"] == "wrong"
    assert "no answer within" in found["Redis scripts"]["finding"]
    assert found["machine disk"]["state"] == "ok"


def _only_pings(listener: socket.socket, answer: bytes = b"+PONG") -> None:
    def serve(connection: socket.socket) -> None:
        while said := connection.recv(4096):
            words = said.upper()
            if b"PING" in words:
                connection.sendall(answer + b"\r\n")
            elif b"CLIENT" in words or b"INFO" in words or b"HELLO" in words:
                connection.sendall(b"-ERR unknown command\r\n" * max(1, words.count(b"SETINFO")))

    while True:
        try:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            return


def test_a_wrong_password_is_reported(program: Program, valkey: StartValkey) -> None:
    server = valkey()
    with redis.Redis.from_url(server.url) as admin:
        admin.config_set("requirepass", "right")
    found = doctor(program, REDIS_URL=server.url.replace("//", f"//:{SECRET}@"))
    assert found.named("wrong") == ["Redis server"]
    assert "refuses user or password" in found["Redis server"]["finding"]


@pytest.mark.parametrize("apart", [False, True])
def test_a_redis_that_may_evict_jobs_is_wrong(
    program: Program, valkey: StartValkey, redis_url: str, apart: bool
) -> None:
    server = valkey("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    cache = {"CACHE_REDIS_URL": redis_url if apart else server.url}
    found = doctor(program, REDIS_URL=server.url, **cache)
    assert found.says("Redis eviction") == ("warning" if apart else "wrong", "allkeys-lru")
    assert found["cache own server"]["state"] == ("ok" if apart else "warning")
    assert "maxmemory-policy" in found["Redis eviction"]["mend"]


RULES: dict[str, list[str]] = {
    "~* +@all -@scripting": ["scripts"],
    "~* +@all -@write": ["blocking wait", "write rights", "engine's rights"],
    "~* +@all -@dangerous +info": [],
    "~* +@all -@blocking": ["blocking wait"],
    "~* +@all -publish": ["messages", "engine's rights"],
    "~* +@all -hincrby": ["engine's rights"],
    "~* +@all -info -config -hello -role": [],
    "~saq:* +@all": ["scripts", "write rights"],
}


async def test_missing_rights_are_reported_with_the_rule(valkey: StartValkey) -> None:
    server = valkey()
    for number, (rules, wrong) in enumerate(RULES.items()):
        with redis.Redis.from_url(server.url) as admin:
            admin.execute_command("ACL", "SETUSER", f"u{number}", "on", f">{SECRET}", "&*", *rules.split())
        url = server.url.replace("//", f"//u{number}:{SECRET}@")
        found = await redis_findings(f"{url}?protocol=3&max_connections=1")
        assert wrong_ones(found) == wrong, rules
        assert (found["memory"].state == "unknown") is ("-info" in rules)
        assert found["role"].state == "ok"
        for each in wrong:
            assert "ACL SETUSER" in found[each].fix


def test_a_cache_needs_rights_on_its_own_keys_only(
    program: Program, valkey: StartValkey, redis_url: str
) -> None:
    server = valkey("--maxmemory-policy", "allkeys-lru")
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(
            "ACL", "SETUSER", "limited", "on", f">{SECRET}", "~couturecast:cache:*", "&*", "+@all"
        )
    url = server.url.replace("//", f"//limited:{SECRET}@")
    found = doctor(program, REDIS_URL=redis_url, CACHE_REDIS_URL=url)
    assert [result for result in found.items if result["group"] == "cache" and result["state"] != "ok"] == []


def test_an_unavailable_cache_is_a_warning(program: Program, redis_url: str) -> None:
    found = doctor(program, REDIS_URL=redis_url, CACHE_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert found.code == 0
    assert "every read goes to the database" in found["cache server"]["consequence"]
    assert "CACHE_REDIS_URL" in found["cache server"]["mend"]


async def test_a_database_that_the_server_does_not_have_is_wrong(redis_url: str) -> None:
    found = await redis_findings(f"{redis_url}99")
    assert "there is no such database" in found["server"].text


def test_a_full_server_is_wrong(program: Program, valkey: StartValkey) -> None:
    server = valkey("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    with redis.Redis.from_url(server.url) as full, suppress(redis.exceptions.OutOfMemoryError):
        for number in range(100):
            full.set(f"key-{number}", "x" * 100_000)
    found = doctor(program, REDIS_URL=server.url)
    assert found.named("wrong") == ["Redis write rights"]
    assert found.says("Redis write rights") == ("wrong", "the server is full (OOM)")
    assert found["Redis memory"]["state"] == "warning"
    assert found["Redis eviction"]["state"] == "warning"


@pytest.mark.slow
def test_a_replica_is_wrong(program: Program, valkey: StartValkey) -> None:
    primary = valkey()
    replica = valkey("--replicaof", f"127.0.0.1 {primary.port}")
    found = doctor(program, REDIS_URL=replica.url)
    assert found.says("Redis role") == ("wrong", "a replica")
    assert found.says("Redis write rights") == ("wrong", "the server is a read-only replica")
    assert "primary" in found["Redis role"]["mend"]


def test_a_server_without_persistence_is_a_warning(program: Program, valkey: StartValkey) -> None:
    found = doctor(program, REDIS_URL=valkey().url)
    assert found["Redis persistence"]["state"] == "warning"
    assert "loses all jobs" in found["Redis persistence"]["consequence"]


@pytest.mark.parametrize(
    ("query", "days", "state", "says"),
    [
        ("?ssl_ca_certs=CA", 90, "ok", "TLS, the certificate is checked and is valid for 90 days"),
        ("?ssl_ca_certs=CA", 9, "warning", "TLS, the certificate ends in 9 days"),
        ("?ssl_cert_reqs=none", 90, "warning", "TLS, but the certificate is not checked"),
        ("?ssl_cert_reqs=optional&ssl_ca_certs=CA", 90, "ok", "TLS, the certificate is checked"),
        ("", 90, "wrong", "its certificate is of an unknown authority"),
        ("?ssl_ca_certs=CA", -1, "wrong", "its certificate is out of date"),
    ],
)
async def test_encryption_and_certificates_are_checked(
    redis_url: str, tmp_path: Path, query: str, days: int, state: str, says: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ends = datetime.now(UTC) + timedelta(days=days, minutes=10)
    issued = authority.issue_cert("localhost", not_before=ends - timedelta(days=365), not_after=ends)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    door = TlsForwarder(make_url(redis_url).port or 0, context)
    door.start()
    query = query.replace("CA", str(tmp_path / "ca.pem"))
    found = await redis_findings(f"rediss://localhost:{door.port}/0{query}")
    door.stop()
    about = found["server" if state == "wrong" else "encryption"]
    assert about.state == state
    assert says in about.text


@pytest.mark.slow
async def test_a_server_without_tls_is_diagnosed(redis_url: str) -> None:
    found = await redis_findings(redis_url.replace("redis:", "rediss:"))
    assert "the server does not use TLS" in found["server"].text
    assert found["server"].fix.startswith("use redis://")


# The database


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


# The settings


def test_broken_settings_are_findings_and_the_others_are_checked(program: Program, postgres_url: str) -> None:
    found = doctor(
        program,
        REDIS_URL=f"redis://:{SECRET}@h:x/0",
        DATABASE_URL=postgres_url,
        COUTURECAST_LOG_LEVEL="loud",
        COUTURECAST_ALERT_FANOUT_TIMEOUT="never",
        COUTURECAST_REDIS_URL="x",
    )
    lines = [
        result["finding"]
        for result in found.items
        if result["group"] == "settings" and result["state"] == "wrong"
    ]
    assert [line.partition(":")[0] for line in lines] == [
        "REDIS_URL",
        "COUTURECAST_LOG_LEVEL",
        "COUTURECAST_ALERT_FANOUT_TIMEOUT",
    ]
    assert found.says("settings variables") == (
        "warning",
        "COUTURECAST_REDIS_URL is not a setting: did you mean REDIS_URL?",
    )
    assert found.says("Redis server") == ("unknown", "not checked: REDIS_URL cannot be read")
    assert found.says("Redis scripts") == ("unknown", "not checked: REDIS_URL cannot be read")
    assert found["database version"]["state"] == "ok"


def test_an_unreadable_env_file_is_wrong(program: Program) -> None:
    (program.directory / ".env").write_bytes(b"\xff\xfe=\x00")
    found = doctor(program)
    assert found.named("wrong") == ["settings settings"]
    assert found["settings settings"]["finding"].startswith(".env is not UTF-8 text")


HANDLERS = {
    "raises": "import logging\nlogging.getLogger('asyncio').error('Traceback')\n"
    f"raise RuntimeError('no key-{SECRET} \\x1b[31m')",
    "prints": "print('loaded')\nasync def run(ctx, **kwargs): ...",
    "hangs": "import time\ntime.sleep(60)",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HANDLERS)
def test_handlers_are_imported(program: Program, kind: str) -> None:
    (program.directory / f"{kind}.py").write_text(HANDLERS[kind])
    started = time.monotonic()
    found = doctor(program, COUTURECAST_HANDLERS=f"color-extraction={kind}:run") if kind != "prints" else None
    if found is None:  # what it prints goes to standard error
        done = program.run("doctor", "--json", COUTURECAST_HANDLERS=f"color-extraction={kind}:run")
        assert done.err == "loaded\n"
        assert done.code == 0
        return
    assert time.monotonic() - started < AT_MOST
    assert found.named("wrong") == ["settings handlers"]
    if kind == "raises":
        assert "RuntimeError: no ***" in found["settings handlers"]["finding"]


def test_a_missing_image_folder_is_wrong(program: Program) -> None:
    found = doctor(program, COUTURECAST_IMAGE_DIRS=f"{program.directory}:/nowhere")
    assert found.named("wrong") == ["settings image folders"]


# The machine


def test_a_file_instead_of_the_data_directory_is_wrong(program: Program) -> None:
    program.data_dir.write_text("")
    found = doctor(program)
    assert "machine data directory" in found.named("wrong")
    assert "database file" in found.named("wrong")
    assert "Redis server" in found.named("wrong")
    program.data_dir.unlink()


def test_a_data_directory_that_others_can_read_is_a_warning(program: Program) -> None:
    program.data_dir.mkdir()
    program.data_dir.chmod(0o755)
    found = doctor(program)
    assert "0755" in found["machine data directory"]["finding"]
    assert found["machine data directory"]["mend"] == f"chmod 700 {program.data_dir}"


def test_an_unusable_token_is_wrong(program: Program) -> None:
    program.data_dir.mkdir(mode=0o700)
    (program.data_dir / "admin-token").write_text("short\n")
    found = doctor(program, COUTURECAST_HTTP=f"127.0.0.1:{free_port()}")
    assert found.named("wrong") == ["machine admin token"]


def test_a_taken_port_is_wrong(program: Program, black_hole: int) -> None:
    found = doctor(program, COUTURECAST_HTTP=f"127.0.0.1:{black_hole}")
    assert found.named("wrong") == ["machine HTTP"]
    assert "taken by another program" in found["machine HTTP"]["finding"]


async def test_our_own_port_is_ok(program: Program) -> None:
    at = {"COUTURECAST_HTTP": f"127.0.0.1:{free_port()}"}
    started = await program.start(**at)
    found = await asyncio.to_thread(doctor, program, **at)
    assert found["machine HTTP"]["finding"].endswith("is served by couturecast-tui already")
    assert await started.stop() == 0, started.err


# What people see


@pytest.mark.slow
@pytest.mark.parametrize("size", [(40, 24), (60, 24), (160, 48)])
async def test_lines_fit_the_terminal(terminal: OpenTerminal, size: tuple[int, int]) -> None:
    shown = terminal("doctor", size=size, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0", NO_COLOR="1")
    assert await shown.code() == 1
    lines = shown.output.decode().splitlines()
    assert max(map(len, lines)) <= size[0]
    assert any(line.startswith("  ✗ wrong   server") for line in lines)
    assert any(line.startswith("  ✓ ok      disk") for line in lines)
    assert "unknown (Redis server)" in " ".join(lines)
    assert "\x1b" not in shown.output.decode()


async def test_states_are_readable_besides_their_colours(terminal: OpenTerminal) -> None:
    shown = terminal("doctor")
    assert await shown.code() == 0
    assert "\x1b[32m" in shown.output.decode()
    assert "✓ ok" in shown.output.decode()


def test_without_a_terminal_each_check_is_one_line_in_ascii_if_needed(program: Program) -> None:
    done = program.run("doctor", LANG="C", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    lines = done.out.splitlines()
    assert done.out.isascii()
    assert [line for line in lines if line.startswith("  ! warning terminal")]
    results = [line for line in lines if line.startswith("  ")]
    assert lines[-1].startswith(f"{len(results)} checks: ")
    assert all(line.split()[0] in ("+", "!", "x", "?") for line in results)


def test_control_characters_of_a_server_are_escaped(program: Program) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        said = b"-ERR \x1b]0;title\x07"
        threading.Thread(target=_only_pings, args=(listener, said), daemon=True).start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        done = program.run("doctor", REDIS_URL=url)
        found = doctor(program, REDIS_URL=url)
    assert "\x1b" not in done.out
    assert "\\x1b]0;title\\x07" in done.out
    assert "\x1b]0;title\x07" in found["Redis server"]["finding"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ended_by", "code", "says"), [("a reader", 1, ""), ("ctrl-C", 130, "error: interrupted\n")]
)
async def test_a_module_that_hangs_does_not_keep_the_process(
    program: Program, ended_by: str, code: int, says: str
) -> None:
    (program.directory / "hangs.py").write_text("import time, sys\nprint('here')\ntime.sleep(60)")
    process = await asyncio.create_subprocess_exec(
        *program.command(("doctor",)),
        env=program.environment | {"COUTURECAST_HANDLERS": "color-extraction=hangs:run"},
        cwd=program.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    assert await process.stderr.readline() == b"here\n"
    if ended_by == "ctrl-C":
        process.send_signal(signal.SIGINT)
    else:
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    assert await asyncio.wait_for(process.wait(), AT_MOST) == code
    assert (await process.stderr.read()).decode() == says
