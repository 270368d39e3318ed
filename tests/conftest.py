"""The servers, by one choice, for all tests that ask for them."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings
from sqlalchemy.engine import make_url

from storage.database.engine import Database
from tests.support.chromium import find_chromium
from tests.support.fork_server import ForkServer
from tests.support.prometheus import find_program
from tests.support.servers import PostgresServer, ValkeyServer, choice, docker_answers

_numbers = itertools.count()
_STARTING = [Path(__file__).with_name(name) for name in ("acceptance", "tui")]
_LONG_TEST_SECONDS = 300
"""Tests whose own timeout is as long may take minutes on a busy machine."""

# Screens and tables show times in the zone of the terminal; the programs that tests start inherit it.
os.environ["TZ"] = "UTC"
time.tzset()

# A shell starts what it runs in the background with SIGINT ignored, and so would be what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# A session that keeps thousands of tests in memory spends a fifth of its time on collections in vain.
gc.set_threshold(50_000, 20, 20)

# Both limits are of wall time, which a busy machine passes without a defect.
_untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("newcomer", _untimed, derandomize=True, database=None, max_examples=40)
settings.register_profile("ci", _untimed, print_blob=True)
settings.load_profile(os.environ.get("COUTURECAST_TEST_HYPOTHESIS", "newcomer"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--count", type=int, default=1, metavar="N", help="run every test N times over")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    count = metafunc.config.getoption("count")
    if count > 1:
        metafunc.fixturenames.append("_run")
        metafunc.parametrize("_run", range(count), ids=lambda number: f"run-{number + 1}")


@pytest.hookimpl(wrapper=True)  # around the one that removes the tests that are not selected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    _mark_further_cases(items)
    yield
    _spread_long_tests(items)
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_task_outlives_the_test")


def _mark_further_cases(items: list[pytest.Item]) -> None:
    """Mark all cases but the first as slow, if a test starts a program or a dashboard."""
    seen = set()
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            starts = any(item.path.is_relative_to(folder) for folder in _STARTING)
            if starts and item.function in seen:
                item.add_marker(pytest.mark.slow)
            seen.add(item.function)


def _spread_long_tests(items: list[pytest.Item]) -> None:
    """Let each process begin with its share of the tests that may take minutes, instead of ending with one.

    With ``--dist worksteal`` each process begins with its part of the list, all parts being as long.
    """
    long_tests = [item for item in items if _timeout_seconds(item) >= _LONG_TEST_SECONDS]
    others = [item for item in items if _timeout_seconds(item) < _LONG_TEST_SECONDS]
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    part_length = len(items) // processes
    for process in range(processes):
        begin = process * part_length
        others[begin:begin] = long_tests[process::processes]
    items[:] = others


def _timeout_seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None else 0.0


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    forking = os.environ.get("COUTURECAST_TEST_FORK", "1")
    slow = item.get_closest_marker("slow") is not None
    ForkServer.enabled = forking == "1" or (forking == "slow" and slow)


@pytest.fixture
async def no_task_outlives_the_test() -> AsyncIterator[None]:
    """Fails a test that leaves a task to the end of its event loop, where it breaks off anywhere.

    A thread that then answers it, of SQLite for instance, finds the loop closed, in some later test.
    """
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:  # some may be about to end
        _, left = await asyncio.wait(left, timeout=1)
    assert not left


def pytest_report_header() -> str:
    return (
        f"servers: {choice()}; hypothesis: {settings.get_current_profile_name()};"
        f" promtool: {find_program('promtool') or 'none'}; prometheus: {find_program('prometheus') or 'none'}"
        f"; chromium: {find_chromium() or 'none'}"
    )


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis that all tests share, one after the other."""
    if docker_answers():
        from testcontainers.redis import RedisContainer

        with RedisContainer("redis:7-alpine") as container:
            yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
        return
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of an empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
def valkey_options() -> tuple[str, ...]:
    """Options of `valkey`; a module or a package whose tests need some overrides them."""
    return ()


@pytest.fixture
def valkey(tmp_path: Path, valkey_options: tuple[str, ...]) -> Iterator[ValkeyServer]:
    """A Redis of the test's own, which it may kill."""
    with ValkeyServer(tmp_path / "valkey", *valkey_options) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer | str]:
    """A Postgres that all tests share, each with a database of its own; a container is known by its URL."""
    if docker_answers():
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer("postgres:17-alpine", driver=None) as container:
            yield container.get_connection_url()
        return
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


def _create_database(server: PostgresServer | str, template: str = "template1") -> str:
    """URL of a new Postgres database, a copy of another that nobody uses."""
    name = f"test_{next(_numbers)}"
    if isinstance(server, PostgresServer):
        return server.create(name, template)
    import sqlalchemy

    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    engine.dispose()
    return server.rpartition("/")[0] + f"/{name}"


async def _migrate(url: str) -> None:
    database = Database(url)
    await database.start()
    await database.close()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer | str) -> str:
    """URL of a new, empty Postgres database."""
    return _create_database(postgres_server)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer | str) -> str:
    """Name of a database with all tables and no rows: copying it is quicker than migrating another."""
    url = _create_database(postgres_server)
    asyncio.run(_migrate(url))
    return str(make_url(url).database)


@pytest.fixture
def migrated_postgres_url(postgres_server: PostgresServer | str, postgres_template: str) -> str:
    """URL of a new Postgres database with all tables and no rows."""
    return _create_database(postgres_server, postgres_template)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path}/couturecast.db"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with all tables and no rows: copying it is quicker than migrating another."""
    path = tmp_path_factory.mktemp("database") / "template.db"
    asyncio.run(_migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture
def migrated_sqlite_url(sqlite_url: str, sqlite_template: Path) -> str:
    """URL of a new SQLite file with all tables and no rows."""
    shutil.copy(sqlite_template, sqlite_url.removeprefix("sqlite:///"))
    return sqlite_url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Each of the two databases in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def migrated_database_url(request: pytest.FixtureRequest) -> str:
    """Each of the two databases in turn, with all tables and no rows."""
    url: str = request.getfixturevalue(f"migrated_{request.param}_url")
    return url
