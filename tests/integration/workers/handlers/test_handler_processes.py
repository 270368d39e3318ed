"""Handlers in processes of their own: what they can do, and how they start and end."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from saq import Job
from structlog.testing import capture_logs

from tests.support.handler_pools import ODD, OpenPool, make_job, run
from tests.support.waiting import eventually
from workers.engine.remote_error import RemoteError
from workers.errors import (
    HandlerImportError,
    HandlerProcessDiedError,
)
from workers.handlers.processes import process as process_module


@pytest.mark.parametrize("permanent", [False, True])
async def test_an_error_has_its_type_message_traceback_and_frame(
    open_pool: OpenPool, team: Path, permanent: bool
) -> None:
    pool = await open_pool("shop:fails", team)
    with pytest.raises(RemoteError) as caught:
        await run(pool, permanent=permanent)
    error = caught.value
    assert error.error_type == ("PermanentError" if permanent else "ValueError")
    assert (error.message, error.frame, error.permanent) == ("no such cloth", "shop:fails", permanent)
    assert error.traceback is not None
    assert error.traceback.startswith('Traceback (most recent call last):\n  File "' + str(team / "shop.py"))
    assert "couturecast_handlers" not in error.traceback.replace("couturecast_handlers.PermanentError", "")


@pytest.mark.parametrize("function", ["asks", "asks_plainly"])
async def test_a_handler_updates_its_job_and_enqueues_others(
    open_pool: OpenPool, team: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def enqueue(function: str, data: dict[str, Any], key: str | None, scheduled: float) -> str | None:
        asked.append((function, data, key, scheduled))
        return key

    async def update(_job: Job, **fields: Any) -> None:
        asked.append(fields)

    monkeypatch.setattr(Job, "update", update)
    pool = await open_pool(f"shop:{function}", team, enqueue=enqueue)
    assert await run(pool) == "a-1"
    assert asked == [
        {"progress": 0.5, "meta": {"step": "half"}},
        ("fan_out_alert", {"alert_id": "a"}, "a-1", 0.0),
    ]


def find_pythons() -> dict[str, int]:
    """This interpreter and others of this machine, each with its minor version."""
    names = [f"python3.{minor}" for minor in range(8, 15)]
    paths = [path for name in names if (path := shutil.which(name))]
    paths += map(str, Path.home().glob(".pyenv/versions/3.*/bin/python"))
    found = {}
    for path in {os.path.realpath(path) for path in paths} | {sys.executable}:
        command = [path, "-c", "import sys; print(sys.version_info[1])"]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode == 0:  # else it is a shim
            found[path] = int(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("function", ["dispatch_async", "dispatch"])
async def test_any_supported_python_runs_handlers_and_an_older_one_is_named(
    function: str, open_pool: OpenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "_OBEY_SECONDS", 30.0)  # a machine under load is not disobedience
    for python, minor in (await asyncio.to_thread(find_pythons)).items():
        if minor < 9:
            with pytest.raises(HandlerImportError, match=r"ended with exit code 1"):
                await open_pool(f"{ODD}:{function}", python=python)
            continue
        pool = await open_pool(f"{ODD}:{function}", python=python)
        ends = [run(pool, f"job-{number}", what="good", seconds=0.05, value=number) for number in range(5)]
        assert await asyncio.gather(*ends) == list(range(5)), python
        before = pool.processes
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await run(pool, what="good", seconds=600)
        # Some may still start: a launcher such as pyenv's takes longer than the five jobs.
        await eventually(lambda: all(process.alive for process in before), within=60.0)  # noqa: B023
        assert pool.processes == before, python
        with pytest.raises(HandlerProcessDiedError):
            await run(pool, what="exit_process")
        await pool.close()


async def test_bytes_that_are_printed_are_lines_of_the_job(open_pool: OpenPool, team: Path) -> None:
    pool = await open_pool("shop:prints_bytes", team)
    with capture_logs() as lines:
        assert await run(pool) == "printed"
    texts = [line["event"] for line in lines]
    assert texts[:3] == ["one ü", "two", "\\xff three"]


async def test_what_cannot_be_written_as_json_is_named(open_pool: OpenPool, team: Path) -> None:
    pool = await open_pool("shop:unwritable", team)
    with pytest.raises(RemoteError, match=r"the result cannot be written as JSON: .*object"):
        await run(pool)


@pytest.mark.parametrize("function", ["cleans_up", "sleeps"])
async def test_a_plain_function_can_clean_up_when_it_is_cancelled(
    open_pool: OpenPool, team: Path, function: str
) -> None:
    pool = await open_pool(f"shop:{function}", team)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await run(pool, path=str(team / "cleaned"))
    assert (team / "cleaned").read_text() == "cleaned"
    (process,) = pool.processes
    assert process.alive


@pytest.mark.parametrize(
    ("function", "stands_in"), [("slow", ["slow", "inner"]), ("slow_plainly", ["slow_plainly"])]
)
async def test_the_stack_of_a_job_shows_where_it_stands(
    open_pool: OpenPool, team: Path, function: str, stands_in: list[str]
) -> None:
    pool = await open_pool(f"shop:{function}", team)
    job = make_job()
    running = asyncio.create_task(pool.as_function()({"job": job}))

    async def stack() -> bool:
        frames = [
            name for file, _, name, own in (await pool.stack(job)).frames if own and file.endswith("shop.py")
        ]
        return frames == stands_in

    await eventually(stack)
    running.cancel()
    await asyncio.wait({running})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere:f", "'nowhere:f' cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("shop:missing", "'shop:missing' cannot be imported: AttributeError"),
        ("shop:log", "'shop:log' is no function: write async def f(ctx, **kwargs)"),
        ("shop:inner", "'shop:inner' takes no ctx: its signature is ()"),
        ("shop:numbers", "'shop:numbers' yields: a handler returns its result"),
        ("broken:f", "'broken:f' cannot be imported: SyntaxError"),
        (
            "unprintable:f",
            "'unprintable:f' cannot be imported: OddError: see what it does when it is imported",
        ),
        ("exits:f", "its process ended with exit code 5 while it was imported: good bye"),
        ("partly:f", "No module named 'parts.missing': add it to "),
    ],
)
async def test_what_cannot_be_imported_is_one_line(
    open_pool: OpenPool, team: Path, name: str, says: str
) -> None:
    (team / "broken.py").write_text("def f(:\n")
    (team / "parts").mkdir()
    (team / "parts" / "__init__.py").touch()
    (team / "partly.py").write_text("import parts.missing\n")
    (team / "exits.py").write_text("import os\nos.write(2, b'good bye')\nos._exit(5)\n")
    (team / "unprintable.py").write_text(
        "class OddError(Exception):\n    def __str__(self): raise SystemExit\nraise OddError\n"
    )
    with pytest.raises(HandlerImportError) as caught:
        await open_pool(name, team)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_coroutine_that_a_decorator_returns_is_an_error_that_says_so(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    (tmp_path / "decorated.py").write_text("""
import functools
def decorate(function):
    @functools.wraps(function)
    def decorated(*args, **kwargs):
        return function(*args, **kwargs)
    return decorated

@decorate
async def work(ctx):
    return 1
""")
    pool = await open_pool("decorated:work", tmp_path)
    with pytest.raises(
        RemoteError, match="returned a coroutine: write it, and what decorates it, as async def"
    ):
        await run(pool)


async def test_an_interpreter_that_is_not_there_is_one_line(open_pool: OpenPool) -> None:
    with pytest.raises(HandlerImportError, match="/missing/python: cannot be started: No such file"):
        await open_pool("shop:fails", python="/missing/python")


async def test_what_is_no_python_is_one_line_with_what_to_try(open_pool: OpenPool) -> None:
    with pytest.raises(HandlerImportError) as caught:
        await open_pool("shop.colors:f", python="/bin/true")
    assert str(caught.value) == (
        "'shop.colors:f': its process ended with exit code 0 while it was imported: "
        "try /bin/true -c 'import shop.colors', or name a Python, 3.9 or newer, "
        "with COUTURECAST_HANDLERS_PYTHON"
    )


async def test_an_object_that_stands_in_for_a_module_does_not_end_the_process(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    (tmp_path / "lazy.py").write_text("""
import sys
class Lazy:
    def __getattr__(self, name):
        raise ImportError(name)
sys.modules["later"] = Lazy()
class Waits:
    def __await__(self):
        return self
    __iter__ = __await__
    def __next__(self):
        return None
    def __getattr__(self, name):
        raise LookupError(name)
async def waits(ctx):
    await Waits()
""")
    pool = await open_pool("lazy:waits", tmp_path)
    assert str(tmp_path / "lazy.py") in await pool.read_files()
    job = make_job()
    running = asyncio.create_task(pool.as_function()({"job": job}))
    await eventually(lambda: pool.processes[0].running == 1)
    for _ in range(3):
        await pool.stack(job)
    assert len(pool.processes) == 1
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})


@pytest.mark.parametrize("message", ['{"ended": [[1]]}', '{"ended": 5}', '{"lines": [[], [[1, [], 2]], 6]}'])
async def test_what_a_handler_writes_into_its_socket_ends_its_process_alone(
    open_pool: OpenPool, tmp_path: Path, message: str
) -> None:
    (tmp_path / "writes.py").write_text("""
import os, time
def work(ctx, message):
    files = sorted(map(int, os.listdir("/proc/self/fd")))
    sockets = [file for file in files if os.path.exists(f"/proc/self/fd/{file}")]
    sockets = [file for file in sockets if os.readlink(f"/proc/self/fd/{file}").startswith("socket:")]
    os.write(sockets[-2], len(message).to_bytes(4, "big") + message.encode())
    time.sleep(60)
""")
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    pool = await open_pool("writes:work", tmp_path)
    with capture_logs() as lines, pytest.raises(HandlerProcessDiedError):
        await run(pool, message=message)
    assert "a handler process sent what is no message" in [line["event"] for line in lines]
    assert problems == []
