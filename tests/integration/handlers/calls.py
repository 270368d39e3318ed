"""What the pool's processes are given to do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


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


def die(signal_number: int) -> None:
    os.kill(os.getpid(), signal_number)
    time.sleep(60)


def refuse(message: str) -> None:
    raise LookupError(message)


def length(data: bytes) -> int:
    return len(data)


def with_pid(function: Callable[..., Any], *args: Any) -> tuple[int, Any]:
    return os.getpid(), function(*args)
