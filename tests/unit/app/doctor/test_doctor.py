"""What the doctor decides, apart from servers; and how it writes it."""

from __future__ import annotations

import asyncio
import codecs
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.cli.render.doctor import findings_text, summary
from app.doctor import registry as checks
from app.doctor.checks import embedded_valkey, machine, redis_state, settings, sqlite
from app.doctor.checks.cache import as_warning
from app.doctor.checks.cache import memory as cache_memory
from app.doctor.checks.disk import nearest_existing, network_file_system
from app.doctor.checks.migrations import assess_revision, revisions
from app.doctor.checks.postgres_permissions import assess_pool_size
from app.doctor.checks.redis_server import RedisServer, open_redis, round_trip
from app.doctor.checks.redis_state import assess_clock, assess_eviction
from app.doctor.checks.redis_tls import assess_certificate, encryption
from app.doctor.checks.settings import load_settings
from app.doctor.checks.sqlite import SqliteFile
from app.doctor.checks.terminal import assess_terminal
from app.doctor.groups import Check, run_group, run_with_timeout
from app.doctor.network import is_private_host
from app.doctor.redaction import known_secrets, mask_passwords, set_secrets
from app.doctor.results import CheckResult, Finding, describe_cause, ok, unknown, warning, wrong
from app.servers.redis_eviction import is_same_server
from storage.database.migrations import HEAD
from storage.errors import DatabaseUnavailableError
from storage.redis.client import make_client
from storage.redis.info import ServerInfo
from workers.engine.policy import ECONOMICAL, NORMAL
from workers.monitoring.alert_rules import Thresholds

NOW = 1_772_000_000.0
ITEMS = [
    CheckResult("Redis", "server", ok("redis://:***@h:6379/0")),
    CheckResult(
        "Redis", "eviction", wrong("allkeys-lru", "jobs are lost", "CONFIG SET maxmemory-policy noeviction")
    ),
    CheckResult(
        "machine", "disk", warning("900 MB free", "once it is full, nothing is recorded", "free space there")
    ),
    CheckResult("machine", "odd", unknown("not \x1b checked: why")),
]


@pytest.mark.parametrize(
    ("policy", "beside", "state"),
    [
        ("volatile-lru", True, "ok"),
        ("volatile-ttl", True, "ok"),
        ("noeviction", False, "ok"),
        ("noeviction", True, "warning"),
        ("allkeys-lru", True, "wrong"),
        ("allkeys-random", True, "wrong"),
        ("allkeys-lfu", False, "warning"),
        ("optimistic-volatile", False, "wrong"),
    ],
)
def test_a_policy_that_may_evict_jobs_is_reported(policy: str, beside: bool, state: str) -> None:
    assert assess_eviction(policy, cache_is_shared=beside).state == state


@pytest.mark.parametrize(
    ("ahead", "state", "says"),
    [
        (0.2, "ok", "200 ms from"),
        (-0.9, "ok", "900 ms from"),
        (2.5, "warning", "2.5 s ahead of"),
        (-29, "warning", "29.0 s behind"),
        (-3600, "wrong", "3,600.0 s behind"),
    ],
)
def test_a_clock_that_is_off_is_reported(ahead: float, state: str, says: str) -> None:
    found = assess_clock(ahead, "the server's")
    assert found.state == state
    assert found.text.startswith(says)


def test_a_certificate_that_ends_soon_is_a_warning() -> None:
    def ends(days: float) -> Finding:
        at = time.gmtime(NOW + days * 86_400)
        return assess_certificate({"notAfter": time.strftime("%b %d %H:%M:%S %Y GMT", at)}, NOW)

    assert ends(22).state == "ok"
    assert ends(20).state == "warning"
    assert ends(20).text == "TLS, the certificate ends in 20 days"
    assert assess_certificate({}, NOW).state == "ok"


@pytest.mark.parametrize(
    ("pool", "processes", "limit", "used", "state"),
    [
        (5, 3, 97, 20, "ok"),
        (5, None, 97, 20, "ok"),
        (7, 13, 100, 20, "ok"),
        (5, 19, 100, 20, "wrong"),
        (5, 3, 100, None, "ok"),
        (60, 1, 100, None, "wrong"),
        (60, None, 50, 1, "wrong"),
        (5, 3, 97, 95, "warning"),
    ],
)
def test_pools_larger_than_the_limit_are_wrong(
    pool: int, processes: int | None, limit: int, used: int | None, state: str
) -> None:
    assert assess_pool_size(pool, processes, limit, used).state == state


def test_the_recommended_pool_size_fits() -> None:
    assert "COUTURECAST_DB_POOL_SIZE to 4," in assess_pool_size(5, 20, 100, 1).fix


@pytest.mark.parametrize(
    ("revision", "tables", "state"),
    [
        (HEAD, {"job_failures"}, "ok"),
        (None, set(), "ok"),
        (None, {"job_failures"}, "wrong"),
        ("0001", {"job_failures"}, "warning"),
        ("9999", {"job_failures"}, "wrong"),
        ("another program's", set(), "wrong"),
    ],
)
def test_the_revision_of_the_tables_is_judged(revision: str | None, tables: set[str], state: str) -> None:
    assert assess_revision(revision, tables).state == state


def test_the_newest_revision_is_known() -> None:
    assert revisions()[-1] == HEAD


@pytest.mark.parametrize(
    ("term", "size", "encoding", "state"),
    [
        ("xterm-256color", (80, 24), "UTF-8", "ok"),
        ("xterm", (0, 0), "utf8", "ok"),
        ("dumb", (80, 24), "UTF-8", "warning"),
        ("", (80, 24), "UTF-8", "warning"),
        ("xterm", (59, 24), "UTF-8", "warning"),
        ("xterm", (80, 20), "UTF-8", "warning"),
        ("xterm", (80, 24), "ANSI_X3.4-1968", "warning"),
    ],
)
def test_a_terminal_that_cannot_show_the_dashboard_is_a_warning(
    term: str, size: tuple[int, int], encoding: str, state: str
) -> None:
    assert assess_terminal({"TERM": term}, size, encoding).state == state


def test_the_colours_of_a_terminal_are_reported() -> None:
    def says(**variables: str) -> str:
        return assess_terminal({"TERM": "xterm"} | variables, (80, 24), "UTF-8").text

    assert "16 colours" in says()
    assert "256 colours" in says(TERM="screen-256color")
    assert "all colours" in says(COLORTERM="truecolor")
    assert "NO_COLOR" in says(NO_COLOR="1", COLORTERM="truecolor")


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("", True),
        ("/var/run", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("8.8.8.8", False),
    ],
)
async def test_private_hosts_are_distinguished_from_public_ones(host: str, near: bool) -> None:
    assert await is_private_host(host) is near


def test_the_nearest_existing_folder_is_found(tmp_path: Path) -> None:
    assert nearest_existing(tmp_path / "a" / "b") == tmp_path
    assert network_file_system(tmp_path / "a") == ""


def server(url: str = "redis://127.0.0.1:1/0", round_trip: float = 0.001, **about: object) -> RedisServer:
    """One that nobody asks anything."""
    return RedisServer(url, "REDIS_URL", make_client(url), ServerInfo.parse(about), round_trip)


@pytest.mark.parametrize(
    ("about", "state", "says"),
    [
        ({"redis_version": "6.0.16"}, "wrong", "Redis 6.0.16"),
        ({"redis_version": "6.2.0"}, "ok", "Redis 6.2.0"),
        ({"redis_version": "10.1.0"}, "ok", "Redis 10.1.0"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "ok", "Valkey 9.1.2"),
        ({}, "unknown", "the server does not report its version"),
    ],
)
async def test_a_redis_below_6_2_is_wrong(about: dict[str, object], state: str, says: str) -> None:
    found = await redis_state.version(server(**about))
    assert (found.state, found.text) == (state, says)


@pytest.mark.parametrize(
    ("about", "state"),
    [
        ({"role": "master", "redis_mode": "standalone"}, "ok"),
        ({"role": "slave"}, "wrong"),
        ({"role": "master", "redis_mode": "cluster"}, "wrong"),
        ({"redis_mode": "sentinel"}, "wrong"),
        ({}, "unknown"),
    ],
)
async def test_only_a_single_primary_is_ok(about: dict[str, object], state: str) -> None:
    assert (await redis_state.role(server(**about))).state == state


async def test_a_far_server_is_slow() -> None:
    found = await round_trip(server(round_trip=0.08))
    assert found.state == "warning"
    assert found.text.startswith("80.0 ms")
    assert (await round_trip(server(round_trip=0.04))).state == "ok"


@pytest.mark.parametrize(
    ("url", "state"),
    [
        ("redis://8.8.8.8:6379/0", "warning"),
        ("redis://10.0.0.1:6379/0", "ok"),
        ("unix:///tmp/redis.sock", "ok"),
        ("rediss://8.8.8.8:6379/0?ssl_cert_reqs=none", "warning"),
        ("rediss://8.8.8.8:6379/0?ssl_check_hostname=false", "warning"),
        ("rediss://8.8.8.8:6379/0?ssl_cert_reqs=optional&ssl_check_hostname=false", "warning"),
    ],
)
async def test_unencrypted_connections_to_public_hosts_are_warnings(url: str, state: str) -> None:
    assert (await encryption(server(url))).state == state


async def test_facts_that_upstash_does_not_report_are_unknown() -> None:
    there = server("rediss://:p@eu1-calm-fox-1.upstash.io:6379")
    assert there.is_upstash
    there.pace = ECONOMICAL
    assert (await redis_state.idle_cost(there)).state == "ok"
    there.pace = NORMAL
    assert (await redis_state.idle_cost(there)).state == "warning"
    assert (await redis_state.memory(there)).fix == "see docs/upstash.md"
    assert (await redis_state.persistence(there)).state == "unknown"


def test_two_urls_of_one_server_are_recognized() -> None:
    one, other = ("a", "redis://127.0.0.1:1/0"), ("a", "redis://localhost:1/1")
    assert is_same_server(one, other)
    assert not is_same_server(one, ("b", "redis://127.0.0.1:1/0"))
    assert is_same_server(("", "redis://127.0.0.1/0"), ("", "redis://127.0.0.1:6379/1"))
    assert not is_same_server(("", "redis://127.0.0.1:1"), ("", "redis://127.0.0.1:2"))


def test_problems_of_a_cache_are_warnings() -> None:
    result = CheckResult("cache", "server", wrong("does not answer", "no process starts", "see that it runs"))
    assert as_warning(result).finding == warning(
        "does not answer", "nothing is cached: every read goes to the database", "see that it runs"
    )
    assert as_warning(ITEMS[0]) == ITEMS[0]


@pytest.mark.parametrize(("policy", "state"), [("allkeys-lru", "ok"), ("noeviction", "warning")])
async def test_a_cache_that_evicts_may_be_full(policy: str, state: str) -> None:
    full = server(used_memory=99, maxmemory=100, maxmemory_policy=policy)
    full.cache_is_shared = False
    assert (await cache_memory(full)).state == state


async def test_the_memory_is_judged_by_the_limit_of_the_settings() -> None:
    there = server(used_memory=85, maxmemory=100)
    assert (await redis_state.memory(there)).state == "warning"
    there.thresholds = Thresholds({("redis_memory", None): 0.9})
    assert (await redis_state.memory(there)).state == "ok"


# Servers that answer oddly

PONG, DENIED = b"+PONG\r\n", b"-ERR unknown command\r\n"


@asynccontextmanager
async def odd_server(answers: dict[bytes, bytes]) -> AsyncIterator[str]:
    """Its URL; a command that is not in ``answers`` it does not know."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            words = []
            for _ in range(int(head[1:])):
                await reader.readline()
                words.append((await reader.readline()).strip().upper())
            writer.write(answers.get(words[0], DENIED))
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"


@pytest.mark.parametrize(
    ("answers", "role"),
    [
        ({b"INFO": b":5\r\n"}, ""),
        ({b"HELLO": b"*2\r\n$6\r\nserver\r\n$2\r\n\xff\xfe\r\n"}, ""),
        ({b"HELLO": b":5\r\n"}, ""),
        ({b"HELLO": b"*2\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"}, "master"),
    ],
)
async def test_unusual_answers_are_accepted(answers: dict[bytes, bytes], role: str) -> None:
    async with odd_server({b"PING": PONG} | answers) as url:
        found = await open_redis(url, "REDIS_URL")
        assert isinstance(found, RedisServer)
        assert found.info.role == role
        await found.close()


async def test_an_embedded_server_that_loads_does_not_hang(tmp_path: Path) -> None:
    async with odd_server({b"PING": b"-LOADING Redis is loading the dataset in memory\r\n"}) as url:
        found = await open_redis(url, "REDIS_URL", embedded=tmp_path)
    assert isinstance(found, Finding)
    assert found.text.endswith("loads its data")
    assert found.fix == "wait until it has"


async def test_an_unknown_database_number_is_wrong() -> None:
    async with odd_server({b"PING": PONG, b"SELECT": b"-ERR DB index is out of range\r\n"}) as url:
        found = await open_redis(f"{url}99", "REDIS_URL")
    assert isinstance(found, Finding)
    assert "there is no such database" in found.text
    assert "/0" in found.fix


async def test_the_clock_is_read_on_an_open_connection() -> None:
    calls: list[str] = []
    far = server()
    far.client = Slow(calls)  # type: ignore[assignment]
    assert (await redis_state.clock(far)).state == "ok"
    assert calls == ["PING", "TIME"]


class Slow:
    """A client whose first command takes 2.5 s more, as that which connects does."""

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    def client(self) -> Slow:
        return self

    async def __aenter__(self) -> Slow:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def execute_command(self, name: str) -> tuple[int, int]:
        await asyncio.sleep(0 if self._calls else 2.5)
        self._calls.append(name)
        return divmod(int(time.time() * 1e6), 1_000_000)


# Files of others


@pytest.fixture
def nobody() -> Iterator[None]:
    """Without the rights of root, where the tests run with them."""
    root = os.geteuid() == 0
    codecs.lookup("ascii")  # which may lie where only root reads
    if root:
        os.setresuid(65534, 65534, 0)
    yield
    if root:
        os.setresuid(0, 0, 0)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that anybody may write."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


async def test_a_folder_without_rights_is_wrong(place: Path, nobody: None) -> None:
    (place / "closed").mkdir(mode=0)
    file = SqliteFile(place / "closed" / "couturecast.db")
    assert (await sqlite.file(file)).state == "wrong"
    assert (await sqlite.migrations(file)).text == "not checked: no right to enter its folder"


async def test_an_image_folder_without_rights_is_wrong(
    place: Path, nobody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    (place / "closed").mkdir(mode=0)
    monkeypatch.setenv("COUTURECAST_IMAGE_DIRS", str(place / "closed" / "images"))
    assert (await settings.images(load_settings(data_dir=place))).state == "wrong"


def test_a_folder_whose_mode_a_start_corrects_is_ok(place: Path, nobody: None) -> None:
    (place / "valkey").mkdir(mode=0o500)
    assert embedded_valkey.socket_folder_problem(place / "valkey") is None


@pytest.mark.parametrize(
    ("kept", "http", "state"),
    [
        ("short", "none", "ok"),
        ("short", "127.0.0.1:1", "wrong"),
        ("read-only-but-long", "127.0.0.1:1", "wrong"),
    ],
)
async def test_an_unusable_token_file_is_wrong_if_http_is_on(
    place: Path, nobody: None, monkeypatch: pytest.MonkeyPatch, kept: str, http: str, state: str
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("COUTURECAST_HTTP", http)
    (place / "admin-token").write_text(kept)
    (place / "admin-token").chmod(0o400 if "read-only" in kept else 0o600)
    assert (await machine.token(load_settings(data_dir=place))).state == state


async def test_a_token_of_another_user_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "admin-token").write_text("long-enough-to-be-one")
    assert (await machine.token(load_settings(data_dir=tmp_path))).state == "ok"
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    found = await machine.token(load_settings(data_dir=tmp_path))
    assert (found.state, "another user" in found.text) == ("wrong", True)


# The run of the checks


async def test_a_failed_check_hides_no_other() -> None:
    async def breaks(subject: str) -> Finding:
        raise KeyError(subject)

    async def works(subject: str) -> Finding:
        return ok(subject)

    results = await run_group("group", "it", [Check("a", breaks), Check("b", works)])
    assert [(result.check, result.finding.state) for result in results] == [("a", "unknown"), ("b", "ok")]
    assert results[0].finding.text == "the check failed: 'it'"


async def test_after_a_timeout_the_remaining_checks_are_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.doctor.groups.CHECK_SECONDS", 0.05)

    release = asyncio.Event()

    async def hangs(subject: None) -> Finding:
        try:
            await release.wait()
        finally:
            await release.wait()  # nor is it easily cancelled
        return ok("")

    async def works(subject: None) -> Finding:
        return ok("")

    started = time.monotonic()
    results = await run_group("group", None, [Check("a", hangs), Check("b", works)], concurrency=1)
    assert time.monotonic() - started < 30
    assert [result.finding.state for result in results] == ["wrong", "unknown"]
    assert "within 0.05 s" in results[0].finding.text
    release.set()


async def test_run_with_timeout_returns_the_result() -> None:
    async def three() -> int:
        return 3

    assert await run_with_timeout(1.0, three()) == 3


def test_names_of_checks_are_unique_in_a_group() -> None:
    for group in (
        checks.SETTINGS,
        checks.REDIS,
        checks.CACHE,
        checks.POSTGRES,
        checks.SQLITE,
        checks.MACHINE,
    ):
        names = [check.name for check in group]
        assert len(set(names)) == len(names)


# Settings


def test_broken_settings_keep_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "REDIS_URL": "http://h",
        "COUTURECAST_HTTP": "x",
        "DATABASE_URL": "sqlite:///d",
        "COUTURECAST_ALERT_BACKLOG": "20",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COUTURECAST_ALERT_FANOUT_TIMEOUT", "never")
    config = load_settings(data_dir=tmp_path / "data")
    assert len(config.problems) == 3
    assert config.is_broken("REDIS_URL")
    assert not config.is_broken("DATABASE_URL")
    assert config.settings.redis_url is None
    assert config.settings.database_url is not None
    assert config.settings.data_dir == tmp_path / "data"
    assert config.settings.thresholds.limit("backlog") == 20


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Conceals the secrets of an environment."""
    monkeypatch.chdir(tmp_path)

    def give(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        set_secrets(known_secrets())

    yield give
    set_secrets(())


@pytest.mark.parametrize(
    ("variable", "value", "secrets"),
    [
        ("REDIS_URL", "redis://u:p%40ssword@h:1/0", ["p%40ssword", "p@ssword"]),
        ("REDIS_URL", "broken://u:pass@wo/rd@h:1/0", ["pass@wo/rd"]),
        ("DATABASE_URL", "postgresql://u:s3cr[et@/d1?host=/x", ["s3cr[et"]),
        ("DATABASE_URL", "postgresql://u:s3cr\u2100et@h/x", ["s3cr\u2100et"]),
        ("DIRECT_URL", "postgresql://u@h/x?a=b&PassWord=hidden&sslpassword=key-word", ["hidden", "key-word"]),
        ("CACHE_REDIS_URL", "rediss://h?ssl_password=hidden", ["hidden"]),
        ("COUTURECAST_ADMIN_TOKEN", "http://[aaaabbbbccccdddd", []),
        ("OPENWEATHER_API_KEY", "open-sesame", ["open-sesame"]),
        (
            "COUTURECAST_NOTIFY_URLS",
            "slack://T1/B2/token mailto://ann:hidden@example.com",
            ["slack://T1/B2/token", "hidden", "mailto://ann:hidden@example.com"],
        ),
    ],
)
def test_secrets_are_redacted(
    given: Callable[..., None], variable: str, value: str, secrets: list[str]
) -> None:
    given(**{variable: value})
    for secret in secrets:
        assert describe_cause(ValueError(f"cannot read {secret}!")) == "cannot read ***!"


def test_only_foreign_words_are_redacted(given: Callable[..., None]) -> None:
    given(DATABASE_URL="postgresql://u:postgres@h/x", DIRECT_URL="postgresql://u:answer@h/x")
    away = DatabaseUnavailableError("postgresql://u:***@h/x does not answer: no answer for postgres")
    away.__cause__ = OSError("no answer for postgres")
    assert describe_cause(away) == "postgresql://u:***@h/x does not answer: no *** for ***"
    assert (
        describe_cause(DatabaseUnavailableError("postgresql:// does not answer"))
        == "postgresql:// does not answer"
    )


def test_passwords_of_unusual_urls_are_masked() -> None:
    assert mask_passwords("redis://u:a@b/c@h:1/0?x=1&SSL_PASSWORD=y is away") == (
        "redis://u:***@h:1/0?x=1&SSL_PASSWORD=*** is away"
    )


# The lines


def text(width: int | None, *, colour: bool = False, encoding: str = "utf-8") -> list[str]:
    return findings_text(ITEMS, width=width, colour=colour, encoding=encoding).split("\n")


def test_without_a_width_each_check_is_one_line() -> None:
    assert text(None) == [
        "Redis",
        "  ✓ ok      server    redis://:***@h:6379/0",
        "  ✗ wrong   eviction  allkeys-lru; jobs are lost; fix: CONFIG SET maxmemory-policy noeviction",
        "machine",
        "  ! warning disk      900 MB free; once it is full, nothing is recorded; fix: free space there",
        "  ? unknown odd       not \\x1b checked: why",
        "",
        "4 checks: 1 ok, 1 warning, 1 wrong, 1 unknown (Redis eviction)",
    ]


def test_long_findings_are_wrapped_and_indented() -> None:
    lines = text(60)
    assert lines[2:6] == [
        "  ✗ wrong   eviction  allkeys-lru",
        "                      jobs are lost",
        "                      fix: CONFIG SET maxmemory-policy",
        "                      noeviction",
    ]
    assert max(map(len, lines)) <= 60


def test_in_a_narrow_terminal_findings_are_below_the_names() -> None:
    lines = text(40)
    assert lines[3:6] == ["  ✗ wrong   eviction", "    allkeys-lru", "    jobs are lost"]
    assert max(map(len, lines)) <= 40


def test_states_are_readable_without_colour_and_in_ascii() -> None:
    plain = "\n".join(text(None, encoding="ascii"))
    assert plain.isascii()
    assert "  x wrong   eviction" in plain
    assert "\x1b[31m  ✗ wrong   \x1b[0meviction" in "\n".join(text(None, colour=True))


def test_the_summary_counts() -> None:
    assert summary(ITEMS[:1] * 2) == "2 checks: 2 ok, 0 warnings, 0 wrong"
