"""The doctor's findings on a Redis: unavailable, without rights, full, a replica, unencrypted."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
import trustme
from sqlalchemy.engine import make_url

from tests.acceptance.doctor.conftest import (
    MAX_SECONDS,
    SECRET,
    StartValkey,
    doctor,
    only_pings,
    redis_findings,
    wrong_ones,
)
from tests.acceptance.served import Served
from tests.support.program import Program
from tests.support.servers import TlsForwarder, free_port


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
    assert time.monotonic() - started < MAX_SECONDS
    assert found.named("wrong") == ["Redis server", "database server", "machine HTTP"]
    assert found["cache server"]["state"] == "warning"
    assert "within 5 s" in found["Redis server"]["finding"]
    assert found.says("database rights") == ("unknown", "not checked: the database does not answer")


@pytest.mark.slow
def test_a_server_that_stops_answering_times_out(program: Program) -> None:
    """It answers pings and nothing else."""
    started = time.monotonic()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=only_pings, args=(listener,), daemon=True).start()
        found = doctor(program, REDIS_URL=f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
    assert time.monotonic() - started < MAX_SECONDS
    assert found["Redis scripts"]["state"] == "wrong"
    assert "no answer within" in found["Redis scripts"]["finding"]
    assert found["machine disk"]["state"] == "ok"


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
        for check in wrong:
            assert "ACL SETUSER" in found[check].fix


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


def test_a_process_with_other_settings_than_the_command_is_named(program: Program) -> None:
    server = Served(program, COUTURECAST_COLOR_EXTRACTION_ALERT_BACKLOG="700")
    try:
        finding = doctor(program, COUTURECAST_COLOR_EXTRACTION_ALERT_BACKLOG="700")["Redis processes"]
        assert (finding["state"], finding["finding"]) == ("ok", "1 run, with the settings of this command")
        finding = doctor(program, COUTURECAST_WEATHER_INGESTION_TIMEOUT="9")["Redis processes"]
        assert finding["state"] == "warning"
        words = "weather-ingestion timeout 30, here 9, and 1 more"
        assert finding["finding"] == (
            f"other settings than here: {socket.gethostname()}:{server.process.pid}: {words}"
        )
    finally:
        server.close()


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
