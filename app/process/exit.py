"""Ends the process without waiting for threads, tasks or terminals that hang."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import NoReturn

import structlog

log = structlog.get_logger(__name__)

ABORTED = os.EX_SOFTWARE
"""Exit code 70 of `abort`: a supervisor starts the program again."""
_THREADS_END_SECONDS = 1.0
_ABORT_STEP_SECONDS = 1.0
"""Timeout of each step of `abort`: a log or a terminal that blocks must not keep the process alive."""
_POLL_SECONDS = 0.02
_MAX_THREADS = 20
"""Threads that one line of the log names."""


def exit_process(code: str | int | None) -> NoReturn:
    """End with ``code``, as of a SystemExit, after at most about two seconds."""
    if isinstance(code, int) and warn_of_threads():
        exit_now(code)
    sys.exit(code)


def exit_now(code: int, *, flush: bool = True) -> NoReturn:
    """End with ``code`` and wait for no thread; ``flush`` writes what is left for standard output."""
    logging.shutdown()
    if flush:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
    os._exit(code)


def abort(reason: str) -> NoReturn:
    """End the process at once, from any thread, when its event loop is blocked for good.

    Its jobs are recovered by other processes, or after a restart.
    """

    def write_log() -> None:
        log.critical("the process gives up: others run its jobs again", why=reason, exit_code=ABORTED)
        logging.shutdown()

    def restore_terminal() -> None:
        driver = sys.modules.get("tui.driver")  # loaded only while there is a dashboard
        if driver is not None:
            driver.restore(
                f"error: gave up: {reason}; other processes run its jobs again, or the next to be started"
            )

    for step in (write_log, restore_terminal):
        _run_in_thread(step)
    os._exit(ABORTED)


def _run_in_thread(step: Callable[[], None]) -> None:
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    thread.join(_ABORT_STEP_SECONDS)


async def tasks_remain(timeout: float) -> bool:
    """Cancel all other tasks; return whether a task or a thread still runs after ``timeout`` seconds."""
    threads = asyncio.ensure_future(asyncio.get_running_loop().shutdown_default_executor())
    tasks = asyncio.all_tasks() - {asyncio.current_task(), threads}
    for task in tasks:
        task.cancel()
    _, pending = await asyncio.wait({threads, *tasks}, timeout=timeout)
    return bool(pending)


def warn_of_threads() -> bool:
    """Log the threads that the interpreter would wait for without end; return whether there are any."""
    deadline = time.monotonic() + _THREADS_END_SECONDS
    while (stuck := _busy_threads()) and time.monotonic() < deadline:
        next(iter(stuck)).join(_POLL_SECONDS)
    if stuck:
        log.warning("threads were left behind: the process ends without them", threads=list(stuck.values()))
    return bool(stuck)


def _busy_threads() -> dict[threading.Thread, str]:
    """Return the threads that are not daemons, each with its current line.

    Idle threads of an executor do not count: they end by themselves.
    """
    frames = sys._current_frames()
    busy = {}
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if thread.daemon or thread is threading.current_thread() or frame is None:
            continue
        if frame.f_code is not concurrent.futures.thread._worker.__code__:
            busy[thread] = f"{thread.name} in {frame.f_code.co_filename}:{frame.f_lineno}"
    return dict(islice(busy.items(), _MAX_THREADS))
