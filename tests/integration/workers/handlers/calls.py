"""Functions for the pool's processes to call."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from couturecast_handlers import PermanentError


def spin(started: str) -> None:
    """Stuck: writes its process id to the file ``started``, then burns time and hears no polite signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(started).write_text(str(os.getpid()))
    while True:
        pass


def nap(started: str, seconds: float) -> int:
    """Sleeps; its process id."""
    Path(started).write_text(str(os.getpid()))
    time.sleep(seconds)
    return os.getpid()


def hold_the_lock(started: str, seconds: float) -> None:
    """Keeps Python's lock in C code, in which no thread runs."""
    Path(started).write_text(str(os.getpid()))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pow(3, 20_000_000)


def die(signal_number: int) -> None:
    os.kill(os.getpid(), signal_number)
    time.sleep(60)


def refuse(message: str) -> None:
    raise LookupError(message)


def length(data: bytes) -> int:
    return len(data)


def with_pid(function: Callable[..., Any], *args: Any) -> tuple[int, Any]:
    return os.getpid(), function(*args)


def allocate(size: int) -> int:
    """Takes ``size`` bytes of memory, and gives them back."""
    return len(bytearray(size))


def loads_pillow_heif(function: Callable[..., Any], *args: Any) -> bool:
    """Whether the process has loaded pillow_heif once the function has returned."""
    function(*args)
    return "pillow_heif" in sys.modules


def stderr_of(function: Callable[..., Any], *args: Any) -> bytes:
    """Return the output of the function, and of the C libraries below it, to descriptor 2."""
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            function(*args)
        except PermanentError:
            pass
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        file.seek(0)
        return file.read()
