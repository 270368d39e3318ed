"""Each mistake gives one line with its fix: no traceback, no password."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryFile

import asyncpg
import pytest
import redis
from sqlalchemy.engine import make_url

from tests.support.program import RUN_SECONDS, Done, OpenTerminal, Program, server_pid
from tests.support.servers import ValkeyServer, free_port

SECRET = "pa55word"
COLOR = "color-extraction"
GOOD = '{"item_id": "i", "image": "x.jpg"}'
MODULE = '''
"""Foreign handlers, all of them wrong but one."""


async def right(ctx, **kwargs):
    """Be right."""


def no_coroutine(ctx, **kwargs):
    """Be no coroutine."""
'''


@dataclass(frozen=True)
class Case:
    """A command, and the error that it prints."""

    says: str
    arguments: tuple[str, ...]
    code: int = 2
    stdin: bytes | None = None
    environment: dict[str, str] = field(default_factory=dict)


def enqueue(says: str, data: str, queue: str = COLOR) -> Case:
    return Case(says, ("enqueue", queue, "--data", data))


def setting(says: str, code: int = 2, **environment: str) -> Case:
    return Case(says, ("status",), code, environment=environment)


def handlers(says: str, value: str, **environment: str) -> Case:
    named = {"COUTURECAST_HANDLERS": value, "PYTHONPATH": "modules"}
    return Case(says, ("--no-ui",), environment=named | environment)


NESTED = '{"a":' * 101 + "1" + "}" * 101
ANY_PAYLOAD = {"COUTURECAST_HANDLERS": f"{COLOR}=wrong:right", "PYTHONPATH": "modules"}
CASES = {
    # payloads
    "malformed": enqueue("--data: not JSON: Expecting value at line 1, column 13", '{"item_id": nope}'),
    "no object": enqueue("--data: a JSON object is needed", '["item_id"]'),
    "infinity": enqueue("--data: not JSON: 1e400 is too large a number", '{"item_id": 1e400}'),
    "not a number": enqueue("--data: not JSON: NaN is not a number", '{"item_id": NaN}'),
    "digits": enqueue("--data: not JSON: Exceeds the limit (4300 digits)", f'{{"item_id": {"1" * 5000}}}'),
    "bottomless": Case("line 1: nested too deeply", ("enqueue", COLOR, "-"), stdin=b"[" * 200_000),
    "missing field": enqueue("image: Field required", '{"item_id": "i"}'),
    "wrong type": enqueue("lat: Input should be a valid number", '{"location_id": "x", "lat": "n", "lon": 1}',
                          "weather-ingestion"),
    "NUL": enqueue("the job holds a NUL character", '{"item_id": "a\\u0000b", "image": "x.jpg"}'),
    "too deep": Case("the job is nested deeper than 100 levels", ("enqueue", COLOR, "--data", NESTED),
                     environment=ANY_PAYLOAD),
    "too large": Case("bytes, 1,000,000 are allowed", ("enqueue", COLOR, "-"),
                      stdin=json.dumps({"a": "x" * 1_000_001}).encode(), environment=ANY_PAYLOAD),
    # files
    "missing file": Case("--file: none.jsonl: No such file", ("enqueue", COLOR, "--file", "none.jsonl")),
    "directory": Case("--file: .: Is a directory", ("enqueue", COLOR, "--file", ".")),
    "no UTF-8": Case("standard input, line 2: not UTF-8", ("enqueue", COLOR, "-"),
                     stdin=b'\n{"item_id": "\xff"}\n'),
    # command lines
    "unknown queue": enqueue("unknown queue 'colours': use one of weather-ingestion", GOOD, "colours"),
    "unknown queue to pause": Case("unknown queue 'a\\x1bb'", ("pause", "a\x1bb")),
    "two sources": Case("give exactly one of", ("enqueue", COLOR, "--data", GOOD, "-")),
    "no source": Case("give exactly one of", ("enqueue", COLOR)),
    "key of a file": Case("--key goes with --data", ("enqueue", COLOR, "-", "--key", "k"), stdin=b"{}"),
    "empty key": Case("key: is empty", ("enqueue", COLOR, "--data", GOOD, "--key", "")),
    "negative delay": Case("delay: ", ("enqueue", COLOR, "--data", GOOD, "--delay", "-1")),
    "endless delay": Case("delay: ", ("enqueue", COLOR, "--data", GOOD, "--delay", "inf")),
    "unknown command": Case("No such command 'stauts'", ("stauts",)),
    "unknown option": Case("No such option", ("status", "--jsno")),
    "no command": Case("Missing command: see", ("--data-dir", "x", "failed-jobs")),
    "option before a command": Case("only --data-dir may stand before status: remove", ("--no-ui", "status")),
    "queues without workers": Case("--queues names the queues of", ("--no-workers", "--queues", COLOR)),
    "reload without workers": Case("--reload replaces the handlers of", ("--no-workers", "--reload")),
    "unknown id": Case("no dead letter has the id 77", ("failed-jobs", "show", "77"), 1),
    "no id": Case("'ID'", ("failed-jobs", "show", "x")),
    "bad cursor": Case("the cursor was not made by this list", ("failed-jobs", "list", "--cursor", "bm9uZQ")),
    "bad state": Case("--state: 'alive': use dead", ("failed-jobs", "list", "--state", "alive")),
    "bad limit": Case("'--limit'", ("failed-jobs", "list", "--limit", "0")),
    "no UI, no workers": Case("leave nothing to run", ("--no-ui", "--no-workers")),
    "unknown queue to run": Case("--queues: unknown queue 'x'", ("--no-ui", "--queues", f"{COLOR},x")),
    "no queue to run": Case("--queues: no queue is named", ("--no-ui", "--queues", ",")),
    "no terminal": Case("needs a terminal, for errors too: run with --no-ui", ()),
    "no terminal, no workers": Case("run with --no-ui", ("--no-workers",)),
    # settings
    "bad setting": setting("COUTURECAST_LOG_LEVEL: input should be", COUTURECAST_LOG_LEVEL="loud"),
    "bad policy": setting("60/60, or none", COUTURECAST_ALERT_FANOUT_RATE_LIMIT="often"),
    "bad Redis URL": setting("REDIS_URL: the host or the port cannot", REDIS_URL=f"redis://:{SECRET}@h:x/0"),
    "bad database URL": setting("DATABASE_URL: not a database URL", DATABASE_URL=f"postgresql://u:{SECRET}@h:x/d"),
    "@ in a password": setting("DATABASE_URL: two @ stand before its parameters: in a password write %40",
                               DATABASE_URL=f"postgresql://u:x@{SECRET}@h/d"),
    "bad database port": setting("DATABASE_URL: port 99999: use one from 1 to 65535",
                                 DATABASE_URL=f"postgresql://u:{SECRET}@h:99999/d"),
    "data directory below a file": Case("cannot be written (Not a directory): name another data directory",
                                        ("status", "--data-dir", "/dev/null/data")),
    "data directory of the kernel": Case("cannot be written", ("status", "--data-dir", "/proc/self/data")),
    "database below a file": Case("does-not-exist/x.db: cannot be written: ", ("failed-jobs", "list"), 1,
                                  environment={"DATABASE_URL": "sqlite:////dev/null/does-not-exist/x.db"}),
    # foreign handlers
    "no such module": handlers("'nowhere:f' cannot be imported: ModuleNotFoundError", f"{COLOR}=nowhere:f"),
    "module that exits": handlers("'exits:f' cannot be imported: SystemExit: 0", f"{COLOR}=exits:f"),
    "no coroutine function": handlers(
        "is not an async function, and cannot run inline: write async def",
        f"{COLOR}=wrong:no_coroutine",
        COUTURECAST_COLOR_EXTRACTION_RUN="inline",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One data directory for all cases: whatever they do, nothing may be in it afterwards."""
    made = tmp_path_factory.mktemp("bad")
    modules = made / "work" / "modules"
    modules.mkdir(parents=True)
    (modules / "wrong.py").write_text(MODULE)
    (modules / "exits.py").write_text("raise SystemExit(0)\n")
    return made


@pytest.fixture(scope="module")
def outcomes(directory: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Done]]]:
    """All chosen cases, run a few at a time: most of each run is the start of the interpreter."""
    program = Program(directory)
    chosen = {
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and "name" in item.callspec.params
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            name: pool.submit(program.run, *case.arguments, stdin=case.stdin, **case.environment)
            for name, case in CASES.items()
            if name in chosen
        }


def error_of(done: Done) -> str:
    """The one line that a run ended with; nothing else was said, and no secret."""
    lines = done.err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], done.err
    assert done.out == ""
    for forbidden in ("Traceback", SECRET, "\x1b", 'File "'):
        assert forbidden not in done.err
    return lines[-1].removeprefix("error: ")


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gives_one_line_errors(outcomes: dict[str, Future[Done]], name: str) -> None:
    done = outcomes[name].result()
    assert CASES[name].says in error_of(done)
    assert done.code == CASES[name].code
    assert len(done.err.splitlines()) == 1


def test_nothing_of_what_was_refused_is_queued(outcomes: dict[str, Future[Done]], directory: Path) -> None:
    for outcome in outcomes.values():
        outcome.result()
    program = Program(directory)
    assert server_pid(program.data_dir) is None
    done = program.run("status", "--json")
    assert [queue["depth"] + queue["scheduled"] for queue in done.json["queues"]] == [0, 0, 0, 0]


async def many(program: Program, *runs: tuple[str, ...], **environment: str) -> list[Done]:
    """The program several times at the same time."""
    return await asyncio.gather(*(asyncio.to_thread(program.run, *words, **environment) for words in runs))


@pytest.mark.slow
async def test_a_file_is_enqueued_up_to_its_bad_line_and_another_run_goes_on_there(program: Program) -> None:
    bad = {"json": "{nope}", "schema": '{"item_id": "i"}'}
    for name, line in bad.items():
        (program.directory / name).write_text(f"{GOOD}\n\n{line}\n{GOOD}\n")
    runs = await many(program, *(("enqueue", COLOR, "--file", name) for name in bad))
    assert [run.code for run in runs] == [2, 2]
    assert error_of(runs[0]).startswith("json, line 3: not JSON: ")
    assert error_of(runs[1]).startswith("schema, line 3: image: Field required")
    for run in runs:
        assert error_of(run).endswith(": correct the line: 1 jobs were enqueued; --from-line 3 goes on")
    assert (await program.status())["queues"][2]["depth"] == 2
    again = program.run("enqueue", COLOR, "--file", "schema", "--from-line", "3")
    assert error_of(again).endswith(": correct the line: 0 jobs were enqueued; --from-line 3 goes on")
    assert program.run("enqueue", COLOR, "--file", "schema", "--from-line", "4").code == 0
    assert (await program.status())["queues"][2]["depth"] == 3


async def test_a_start_waits_for_redis_until_the_timeout(program: Program) -> None:
    url = f"redis://user:{SECRET}@127.0.0.1:{free_port()}/0"
    environment = {"REDIS_URL": url, "COUTURECAST_START_PATIENCE": "3"}
    for done in await many(program, ("status",), ("--no-ui",), **environment):
        assert done.code == 1
        assert error_of(done).startswith("REDIS_URL: redis://user:***@127.0.0.1:")
        assert "does not answer, given up after 3 s: " in error_of(done)
        (waiting,) = map(json.loads, done.err.splitlines()[:-1])
        assert (waiting["event"], waiting["level"]) == ("waiting for Redis", "warning")


async def test_a_start_waits_for_the_database_until_the_timeout(program: Program) -> None:
    url = f"postgresql://user:{SECRET}@127.0.0.1:{free_port()}/x"
    environment = {"DATABASE_URL": url, "COUTURECAST_START_PATIENCE": "3"}
    for done in await many(program, ("failed-jobs", "list"), ("--no-ui",), **environment):
        assert done.code == 1
        assert error_of(done).startswith("DATABASE_URL: given up after 3 s: postgresql://user:***@127.0.0.1:")
        (waiting,) = map(json.loads, done.err.splitlines()[:-1])
        assert waiting["event"] == "waiting for the database"
    assert server_pid(program.data_dir) is None


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that nobody has started yet."""
    server = ValkeyServer(tmp_path / "valkey")
    yield server
    server.stop()


async def test_a_redis_that_comes_while_it_is_waited_for_is_used(
    program: Program, own_server: ValkeyServer
) -> None:
    starting = asyncio.create_task(program.start("--queues", COLOR, REDIS_URL=own_server.url))
    while not (program.headless and "waiting for Redis" in program.headless[0].err):
        assert not starting.done()
        await asyncio.sleep(0.01)
    own_server.start()
    started = await starting
    assert await started.stop() == 0


async def test_a_wrong_password_fails_at_once_and_is_never_shown(
    program: Program, own_server: ValkeyServer
) -> None:
    own_server.start()
    with redis.Redis.from_url(own_server.url) as valkey:
        valkey.config_set("requirepass", SECRET)
    at = own_server.url.removeprefix("redis://")
    urls = [f"redis://{user}{at}" for user in (":wrong@", f"user:{SECRET}@", "", f":{SECRET}@")]
    runs = (asyncio.to_thread(program.run, "status", "--json", REDIS_URL=url) for url in urls)
    *refused, right = await asyncio.gather(*runs)
    for done in refused:
        assert done.code == 2
        assert "refuses user or password" in error_of(done)
    assert (right.code, right.json["redis"]["url"]) == (0, f"redis://:***@{at}")


def test_what_answers_in_another_language_is_no_redis(program: Program) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(_speak_http, listener)
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        done = program.run("status", REDIS_URL=url, COUTURECAST_START_PATIENCE="1")
        listener.shutdown(socket.SHUT_RDWR)
    assert done.code == 1
    assert error_of(done).startswith("REDIS_URL: ")


def _speak_http(listener: socket.socket) -> None:
    with suppress(OSError):  # at last the listener is closed
        while True:
            with listener.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


async def test_a_database_without_the_right_to_make_tables_gives_a_one_line_error(
    program: Program, postgres_url: str
) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE ROLE newcomer LOGIN PASSWORD '{SECRET}'")
    await connection.close()
    limited = make_url(postgres_url).set(username="newcomer", password=SECRET)
    done = program.run("failed-jobs", "list", DATABASE_URL=limited.render_as_string(hide_password=False))
    assert done.code == 1
    assert "the tables cannot be brought up to date: " in error_of(done)
    assert "permission denied" in error_of(done)


@pytest.mark.parametrize("parameter", ["foo=bar", "statement_timeout=abc"])
def test_a_parameter_that_the_database_refuses_fails_at_once(
    program: Program, postgres_url: str, parameter: str
) -> None:
    url = f"{postgres_url}{'&' if '?' in postgres_url else '?'}{parameter}"
    done = program.run("failed-jobs", "list", DATABASE_URL=url, COUTURECAST_START_PATIENCE="3600")
    assert done.code == 1
    assert error_of(done).startswith("DATABASE_URL: postgresql://")
    assert error_of(done).endswith(": correct that parameter of the URL, or drop it")
    assert len(done.err.splitlines()) == 1


def test_a_database_of_a_newer_version_gives_a_one_line_error(program: Program) -> None:
    assert program.run("status").code == 0
    with closing(sqlite3.connect(program.data_dir / "couturecast.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'from the future'")
        database.commit()
    done = program.run("failed-jobs", "list")
    assert done.code == 1
    assert "the tables cannot be brought up to date: " in error_of(done)


def test_a_full_disk_under_the_output_gives_a_one_line_error(program: Program) -> None:
    with open("/dev/full", "wb") as full, TemporaryFile() as errors:
        process = program.popen("status", streams=(DEVNULL, full.fileno(), errors.fileno()))
        assert process.wait(RUN_SECONDS) == 1
        errors.seek(0)
        assert errors.read() == b"error: standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("size", "environment", "says"),
    [
        ((80, 24), {"TERM": "dumb"}, "this terminal (TERM=dumb) cannot show the dashboard"),
        ((80, 24), {"TERM": ""}, "this terminal (TERM=) cannot show the dashboard"),
        ((60, 15), {}, "this terminal is 60x15, the dashboard needs 60x16"),
        ((59, 24), {}, "this terminal is 59x24, the dashboard needs 60x16"),
    ],
)
async def test_a_terminal_that_cannot_show_the_dashboard_is_refused(
    terminal: OpenTerminal, size: tuple[int, int], environment: dict[str, str], says: str
) -> None:
    shown = terminal(size=size, **environment)
    assert await shown.code() == 2
    (line,) = shown.output.decode().splitlines()
    assert line.startswith(f"error: {says}")
    assert "--no-ui" in line
    assert shown.modes_restored()
