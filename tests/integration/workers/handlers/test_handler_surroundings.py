"""What modules do to their process, and what a machine may lack: jobs run, or an error says why not."""

from __future__ import annotations

import asyncio
import errno
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.handler_pools import ODD, OpenPool, run, run_as_the_engine
from tests.support.waiting import eventually
from workers.errors import HandlerImportError, HandlerInterruptedError, HandlerProcessDiedError
from workers.handlers.processes import launch

Lines = list[dict[str, Any]]


@pytest.mark.parametrize("function", ["work", "work_async"])
async def test_a_log_that_is_set_up_at_import_belongs_to_the_job(
    open_pool: OpenPool, tmp_path: Path, function: str
) -> None:
    (tmp_path / "logs.py").write_text("""
import logging, sys
from sys import stdout
logging.basicConfig(level=logging.INFO)
kept = sys.stderr

def work(ctx):
    logging.info("by the log")
    print("by a kept stream", file=stdout)
    print("by a library", file=kept)
async def work_async(ctx):
    work(ctx)
""")
    pool = await open_pool(f"logs:{function}", tmp_path)
    with capture_logs() as lines:
        await run(pool)
    expected = ["INFO:root:by the log", "by a kept stream", "by a library"]
    assert lines == [{"event": text, "log_level": "info"} for text in expected]


async def test_what_a_module_prints_while_it_is_imported_is_logged(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    (tmp_path / "prints.py").write_text("print('imported')\ndef work(ctx): pass\n")
    with capture_logs() as lines:
        await open_pool("prints:work", tmp_path)
        await eventually(lambda: "imported" in texts(lines))


async def test_lines_of_the_threads_of_a_plain_handler_belong_to_its_job(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    (tmp_path / "threads.py").write_text("""
from concurrent.futures import ThreadPoolExecutor
def work(ctx):
    with ThreadPoolExecutor() as executor:
        executor.submit(print, "by a thread").result()
""")
    pool = await open_pool("threads:work", tmp_path)
    with capture_logs() as lines:
        await run(pool)
    assert lines == [{"event": "by a thread", "log_level": "info"}]


async def test_a_forked_child_prints_whatever_other_threads_print(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    (tmp_path / "forks.py").write_text("""
import logging, os, signal, threading
def chatter(ended):
    while not ended.is_set():
        print("chatter")
def work(ctx):
    ended = threading.Event()
    threading.Thread(target=chatter, args=(ended,)).start()
    ends = set()
    for _ in range(100):
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            print("by the child")
            logging.info("by the log of the child")
            os._exit(0)
        ends.add(os.waitpid(child, 0)[1])
        if ends != {0}:
            break
    ended.set()
    return sorted(ends)
""")
    pool = await open_pool("forks:work", tmp_path)
    with capture_logs() as lines:
        assert await run(pool) == [0]
        await eventually(lambda: {"by the child", "by the log of the child"} <= set(texts(lines)))


@pytest.mark.parametrize("function", ["work", "work_async"])
async def test_a_module_may_replace_threads_locks_and_clocks_when_it_is_imported(
    open_pool: OpenPool, tmp_path: Path, function: str
) -> None:
    """As gevent does, or what freezes the time."""
    (tmp_path / "replaces.py").write_text("""
import asyncio, json, select, threading, time
threading.Thread.start = lambda self: None
threading.Event = threading.Lock = threading.Condition = None
json.loads = json.dumps = select.select = select.epoll = None
time.sleep = lambda seconds: None
time.monotonic = lambda: 5.0
time.time = lambda: 1.0

def work(ctx):
    print("printed")
    return ctx["queue"].enqueue("extract_colors")
async def work_async(ctx):
    print("printed")
    await asyncio.sleep(0.01)
    return await ctx["queue"].enqueue("extract_colors")
""")

    async def enqueue(*_: object) -> str:
        return "a-1"

    pool = await open_pool(f"replaces:{function}", tmp_path, enqueue=enqueue)
    with capture_logs() as lines:
        async with asyncio.timeout(30):
            assert await run(pool) == "a-1"
    assert texts(lines) == ["printed"]


async def test_a_process_that_cannot_begin_ends_whatever_threads_the_module_has_started(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    (tmp_path / "leaves.py").write_text("""
import socket, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
socket.socketpair = None
async def work(ctx):
    pass
""")
    with pytest.raises(
        HandlerImportError, match=r"ended with exit code 1 .*'NoneType' object is not callable"
    ):
        await open_pool("leaves:work", tmp_path)


async def test_a_start_needs_no_temporary_file(open_pool: OpenPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the page that both share would kill the process that writes into it."""
    monkeypatch.setattr(tempfile, "tempdir", "/missing")
    pool = await open_pool(f"{ODD}:dispatch")
    assert await run(pool, what="good", value=1) == 1


async def test_a_start_needs_no_working_directory(
    open_pool: OpenPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment may have replaced it."""
    (tmp_path / "old").mkdir()
    monkeypatch.chdir(tmp_path / "old")
    (tmp_path / "old").rmdir()
    pool = await open_pool(f"{ODD}:dispatch")
    assert await run(pool, what="good", value=1) == 1


async def test_a_job_goes_back_if_there_are_no_descriptors_for_its_process(
    open_pool: OpenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await open_pool(f"{ODD}:dispatch")
    with pytest.raises(HandlerProcessDiedError):
        await run(pool, what="exit_process")

    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(launch.socket, "socketpair", refuse)
        with pytest.raises(HandlerInterruptedError) as caught:
            async with asyncio.timeout(30):
                await run(pool, what="good", value=1)
    assert str(caught.value).endswith("Too many open files: raise the limit of open files (ulimit -n)")
    assert socket.socketpair is not refuse
    assert await run_as_the_engine(pool, 60, "good", what="good", value=1) == ("done", 1)


def texts(lines: Lines) -> list[str]:
    return [line["event"] for line in lines]
