"""The end of the process, which no thread that was left behind may hold up."""

from __future__ import annotations

import concurrent.futures.thread
import logging
import os
import sys
import threading
import time
from contextlib import suppress
from itertools import islice
from typing import NoReturn

import structlog

log = structlog.get_logger(__name__)

_THREADS_END_SECONDS = 1.0
_POLL_SECONDS = 0.02
_MAX_THREADS = 20
"""Threads that one line of the log names."""


def exit_process(code: str | int | None) -> NoReturn:
    """End with ``code``, as of a SystemExit, after at most about two seconds."""
    if isinstance(code, int) and warn_of_threads():
        exit_at_once(code)
    sys.exit(code)


def exit_at_once(code: int, *, flush: bool = True) -> NoReturn:
    """End with ``code`` and wait for no thread.  ``flush``: whether standard output takes what is left."""
    logging.shutdown()
    if flush:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
    os._exit(code)


def warn_of_threads() -> bool:
    """Log the threads that the interpreter would wait for without end; whether there are any."""
    deadline = time.monotonic() + _THREADS_END_SECONDS
    while (stuck := _busy_threads()) and time.monotonic() < deadline:
        next(iter(stuck)).join(_POLL_SECONDS)
    if stuck:
        log.warning("threads were left behind: the process ends without them", threads=list(stuck.values()))
    return bool(stuck)


def _busy_threads() -> dict[threading.Thread, str]:
    """Threads that are no daemons, each with the line where it stands.

    An executor's thread without work is none of them: it ends by itself.
    """
    frames = sys._current_frames()
    found = {}
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if thread.daemon or thread is threading.current_thread() or frame is None:
            continue
        if frame.f_code is not concurrent.futures.thread._worker.__code__:
            found[thread] = f"{thread.name} in {frame.f_code.co_filename}:{frame.f_lineno}"
    return dict(islice(found.items(), _MAX_THREADS))
