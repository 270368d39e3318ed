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
from app.doctor.checks import machine, redis_state, settings, sqlite
from app.doctor.checks.cache import as_warning
from app.doctor.checks.cache import memory as cache_memory
from app.doctor.checks.disk import nearest, network_file_system
from app.doctor.checks.migrations import migrations, revisions
from app.doctor.checks.postgres import pools
from app.doctor.checks.redis_server import RedisServer, open_redis, round_trip
from app.doctor.checks.redis_state import clock_difference, eviction_of_queues
from app.doctor.checks.redis_tls import certificate, encryption
from app.doctor.checks.settings import configuration
from app.doctor.checks.sqlite import SqliteFile
from app.doctor.checks.terminal import terminal_of
from app.doctor.groups import Check, examined, within
from app.doctor.network import is_near
from app.doctor.redaction import conceal, secrets_given, without_passwords
from app.doctor.results import Finding, Item, cause_of, ok, unknown, warning, wrong
from app.servers.redis_eviction import same_server
from storage.database.migrations import HEAD
from storage.errors import DatabaseUnavailableError
from storage.redis.client import make_client
from workers.engine.policy import ECONOMICAL, NORMAL

NOW = 1_772_000_000.0
ITEMS = [
    Item("Redis", "server", ok("redis://:***@h:6379/0")),
    Item(
        "Redis", "eviction", wrong("allkeys-lru", "jobs are lost", "CONFIG SET maxmemory-policy noeviction")
    ),
    Item(
        "machine", "disk", warning("900 MB free", "once it is full, nothing is recorded", "free space there")
    ),
    Item("machine", "odd", unknown("not \x1b checked: why")),
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
def test_eviction_of_the_queues_redis(policy: str, beside: bool, state: str) -> None:
    assert eviction_of_queues(policy, cache_beside=beside).state == state


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
def test_clocks(ahead: float, state: str, says: str) -> None:
    found = clock_difference(ahead, "the server's")
    assert found.state == state
    assert found.finding.startswith(says)


def test_certificates() -> None:
    def ends(days: float) -> Finding:
        at = time.gmtime(NOW + days * 86_400)
        return certificate({"notAfter": time.strftime("%b %d %H:%M:%S %Y GMT", at)}, NOW)

    assert ends(22).state == "ok"
    assert ends(20).state == "warning"
    assert ends(20).finding == "TLS, the certificate ends in 20 days"
    assert certificate({}, NOW).state == "ok"


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
def test_pools(pool: int, processes: int | None, limit: int, used: int | None, state: str) -> None:
    assert pools(pool, processes, limit, used).state == state


def test_what_is_recommended_for_the_pools_fits() -> None:
    assert "COUTURECAST_DB_POOL_SIZE to 4," in pools(5, 20, 100, 1).mend


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
def test_migrations(revision: str | None, tables: set[str], state: str) -> None:
    assert migrations(revision, tables).state == state


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
def test_terminals(term: str, size: tuple[int, int], encoding: str, state: str) -> None:
    assert terminal_of({"TERM": term}, size, encoding).state == state


def test_colours_of_a_terminal() -> None:
    def says(**variables: str) -> str:
        return terminal_of({"TERM": "xterm"} | variables, (80, 24), "UTF-8").finding

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
async def test_places(host: str, near: bool) -> None:
    assert await is_near(host) is near


def test_folders(tmp_path: Path) -> None:
    assert nearest(tmp_path / "a" / "b") == tmp_path
    assert network_file_system(tmp_path / "a") == ""


def server(url: str = "redis://127.0.0.1:1/0", round_trip: float = 0.001, **about: object) -> RedisServer:
    """One that nobody asks anything."""
    return RedisServer(url, "REDIS_URL", make_client(url), about, round_trip)


@pytest.mark.parametrize(
    ("about", "state", "says"),
    [
        ({"redis_version": "6.0.16"}, "wrong", "Redis 6.0.16"),
        ({"redis_version": "6.2.0"}, "ok", "Redis 6.2.0"),
        ({"redis_version": "10.1.0"}, "ok", "Redis 10.1.0"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "ok", "Valkey 9.1.2"),
        ({}, "unknown", "the server does not tell its version"),
    ],
)
async def test_versions(about: dict[str, object], state: str, says: str) -> None:
    found = await redis_state.version(server(**about))
    assert (found.state, found.finding) == (state, says)


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
async def test_roles(about: dict[str, object], state: str) -> None:
    assert (await redis_state.role(server(**about))).state == state


async def test_a_far_server_is_slow() -> None:
    found = await round_trip(server(round_trip=0.08))
    assert found.state == "warning"
    assert found.finding.startswith("80.0 ms")
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
async def test_what_travels_in_clear(url: str, state: str) -> None:
    assert (await encryption(server(url))).state == state


async def test_upstash() -> None:
    there = server("rediss://:p@eu1-calm-fox-1.upstash.io:6379")
    assert there.is_upstash
    there.pace = ECONOMICAL
    assert (await redis_state.idle_cost(there)).state == "ok"
    there.pace = NORMAL
    assert (await redis_state.idle_cost(there)).state == "warning"
    assert (await redis_state.memory(there)).mend == "see docs/upstash.md"
    assert (await redis_state.persistence(there)).state == "unknown"


def test_one_server_by_two_names() -> None:
    one, other = ("a", "redis://127.0.0.1:1/0"), ("a", "redis://localhost:1/1")
    assert same_server(one, other)
    assert not same_server(one, ("b", "redis://127.0.0.1:1/0"))
    assert same_server((None, "redis://127.0.0.1/0"), (None, "redis://127.0.0.1:6379/1"))
    assert not same_server((None, "redis://127.0.0.1:1"), (None, "redis://127.0.0.1:2"))


def test_what_is_amiss_with_a_cache_is_a_warning() -> None:
    item = Item("cache", "server", wrong("does not answer", "no process starts", "see that it runs"))
    assert as_warning(item).found == warning(
        "does not answer", "nothing is cached: every read goes to the database", "see that it runs"
    )
    assert as_warning(ITEMS[0]) == ITEMS[0]


@pytest.mark.parametrize(("policy", "state"), [("allkeys-lru", "ok"), ("noeviction", "warning")])
async def test_a_cache_that_evicts_may_be_full(policy: str, state: str) -> None:
    full = server(used_memory=99, maxmemory=100, maxmemory_policy=policy)
    full.cache_beside = False
    assert (await cache_memory(full)).state == state


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
async def test_a_server_that_answers_as_no_other_is_a_server(answers: dict[bytes, bytes], role: str) -> None:
    async with odd_server({b"PING": PONG} | answers) as url:
        found = await open_redis(url, "REDIS_URL")
        assert isinstance(found, RedisServer)
        assert found.role == role
        await found.close()


async def test_an_embedded_server_that_loads_does_not_hang(tmp_path: Path) -> None:
    async with odd_server({b"PING": b"-LOADING Redis is loading the dataset in memory\r\n"}) as url:
        found = await open_redis(url, "REDIS_URL", embedded=tmp_path)
    assert isinstance(found, Finding)
    assert found.finding.endswith("loads its data")
    assert found.mend == "wait until it has"


async def test_a_database_number_that_is_not_there() -> None:
    async with odd_server({b"PING": PONG, b"SELECT": b"-ERR DB index is out of range\r\n"}) as url:
        found = await open_redis(f"{url}99", "REDIS_URL")
    assert isinstance(found, Finding)
    assert "there is no such database" in found.finding
    assert "/0" in found.mend


async def test_a_clock_is_read_on_a_connection_that_stands() -> None:
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
    for each in folder.rglob("*"):
        each.chmod(0o700)
    shutil.rmtree(folder)


async def test_a_folder_that_may_not_be_entered(place: Path, nobody: None) -> None:
    (place / "closed").mkdir(mode=0)
    file = SqliteFile(place / "closed" / "couturecast.db")
    assert (await sqlite.place(file)).state == "wrong"
    assert (await sqlite.migrations(file)).finding == "not checked: its folder may not be entered"


async def test_images_in_a_folder_that_may_not_be_entered(
    place: Path, nobody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    (place / "closed").mkdir(mode=0)
    monkeypatch.setenv("COUTURECAST_IMAGE_DIRS", str(place / "closed" / "images"))
    assert (await settings.images(configuration(data_dir=place))).state == "wrong"


def test_a_mode_that_a_start_mends(place: Path, nobody: None) -> None:
    (place / "valkey").mkdir(mode=0o500)
    assert machine._socket_folder(place / "valkey") is None


@pytest.mark.parametrize(
    ("kept", "http", "state"),
    [
        ("short", "none", "ok"),
        ("short", "127.0.0.1:1", "wrong"),
        ("read-only-but-long", "127.0.0.1:1", "wrong"),
    ],
)
async def test_a_token_file(
    place: Path, nobody: None, monkeypatch: pytest.MonkeyPatch, kept: str, http: str, state: str
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("COUTURECAST_HTTP", http)
    (place / "admin-token").write_text(kept)
    (place / "admin-token").chmod(0o400 if "read-only" in kept else 0o600)
    assert (await machine.token(configuration(data_dir=place))).state == state


async def test_a_token_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "admin-token").write_text("long-enough-to-be-one")
    assert (await machine.token(configuration(data_dir=tmp_path))).state == "ok"
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    found = await machine.token(configuration(data_dir=tmp_path))
    assert (found.state, "another user" in found.finding) == ("wrong", True)


# The run of the checks


async def test_one_check_hides_no_other() -> None:
    async def breaks(subject: str) -> Finding:
        raise KeyError(subject)

    async def works(subject: str) -> Finding:
        return ok(subject)

    items = await examined("group", "it", [Check("a", breaks), Check("b", works)])
    assert [(item.check, item.found.state) for item in items] == [("a", "unknown"), ("b", "ok")]
    assert items[0].found.finding == "cannot be found out: 'it'"


async def test_a_check_that_is_not_answered_ends_and_so_do_those_behind_it(
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
    items = await examined("group", None, [Check("a", hangs), Check("b", works)], together=1)
    assert time.monotonic() - started < 30
    assert [item.found.state for item in items] == ["wrong", "unknown"]
    assert "within 0.05 s" in items[0].found.finding
    release.set()


async def test_within_gives_the_result() -> None:
    async def three() -> int:
        return 3

    assert await within(1.0, three()) == 3


def test_no_two_checks_of_a_group_have_one_name() -> None:
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


def test_broken_settings_leave_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "REDIS_URL": "http://h",
        "COUTURECAST_HTTP": "x",
        "DATABASE_URL": "sqlite:///d",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COUTURECAST_ALERT_FANOUT_TIMEOUT", "never")
    of = configuration(data_dir=tmp_path / "data")
    assert len(of.problems) == 3
    assert of.is_broken("REDIS_URL")
    assert not of.is_broken("DATABASE_URL")
    assert of.settings.redis_url is None
    assert of.settings.database_url is not None
    assert of.settings.data_dir == tmp_path / "data"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Conceals the secrets of an environment."""
    monkeypatch.chdir(tmp_path)

    def give(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        conceal(secrets_given())

    yield give
    conceal(())


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
    ],
)
def test_no_secret_is_told(given: Callable[..., None], variable: str, value: str, secrets: list[str]) -> None:
    given(**{variable: value})
    for secret in secrets:
        assert cause_of(ValueError(f"cannot read {secret}!")) == "cannot read ***!"


def test_our_own_words_stay_as_they_are(given: Callable[..., None]) -> None:
    given(DATABASE_URL="postgresql://u:postgres@h/x", DIRECT_URL="postgresql://u:answer@h/x")
    away = DatabaseUnavailableError("postgresql://u:***@h/x does not answer: no answer for postgres")
    away.__cause__ = OSError("no answer for postgres")
    assert cause_of(away) == "postgresql://u:***@h/x does not answer: no *** for ***"
    assert (
        cause_of(DatabaseUnavailableError("postgresql:// does not answer")) == "postgresql:// does not answer"
    )


def test_passwords_of_odd_urls_do_not_show() -> None:
    assert without_passwords("redis://u:a@b/c@h:1/0?x=1&SSL_PASSWORD=y is away") == (
        "redis://u:***@h:1/0?x=1&SSL_PASSWORD=*** is away"
    )


# The lines


def text(width: int | None, *, colour: bool = False, encoding: str = "utf-8") -> list[str]:
    return findings_text(ITEMS, width=width, colour=colour, encoding=encoding).split("\n")


def test_a_line_a_check_where_nothing_limits_it() -> None:
    assert text(None) == [
        "Redis",
        "  ✓ ok      server    redis://:***@h:6379/0",
        "  ✗ wrong   eviction  allkeys-lru; jobs are lost; to mend: CONFIG SET maxmemory-policy noeviction",
        "machine",
        "  ! warning disk      900 MB free; once it is full, nothing is recorded; to mend: free space there",
        "  ? unknown odd       not \\x1b checked: why",
        "",
        "4 checks: 1 ok, 1 warning, 1 wrong, 1 unknown (Redis eviction)",
    ]


def test_further_lines_are_indented_where_a_line_is_too_short() -> None:
    lines = text(60)
    assert lines[2:6] == [
        "  ✗ wrong   eviction  allkeys-lru",
        "                      jobs are lost",
        "                      to mend: CONFIG SET maxmemory-policy",
        "                      noeviction",
    ]
    assert max(map(len, lines)) <= 60


def test_findings_stand_below_the_names_where_it_is_narrow() -> None:
    lines = text(40)
    assert lines[3:6] == ["  ✗ wrong   eviction", "    allkeys-lru", "    jobs are lost"]
    assert max(map(len, lines)) <= 40


def test_signs_and_words_stand_without_colour_and_in_ascii() -> None:
    plain = "\n".join(text(None, encoding="ascii"))
    assert plain.isascii()
    assert "  x wrong   eviction" in plain
    assert "\x1b[31m  ✗ wrong   \x1b[0meviction" in "\n".join(text(None, colour=True))


def test_the_summary_counts() -> None:
    assert summary(ITEMS[:1] * 2) == "2 checks: 2 ok, 0 warnings, 0 wrong"
