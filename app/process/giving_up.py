"""The end of a process whose event loop is blocked for good: nothing of it may depend on that loop."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

GAVE_UP = os.EX_SOFTWARE
"""Exit code 70: a supervisor starts the program again."""
_STEP_SECONDS = 1.0
"""What each step of the end gets: a log or a terminal that takes nothing must not keep the process."""


def give_up(why: str) -> None:
    """End the process at once, from any thread; its jobs are recovered by others, or after its restart."""

    def note() -> None:
        log.critical("the process gives up: its jobs run again elsewhere", why=why, exit_code=GAVE_UP)
        logging.shutdown()

    def restore() -> None:
        driver = sys.modules.get("tui.driver")  # it is loaded only while there is a dashboard
        if driver is not None:
            driver.restore(
                f"error: gave up: {why}; its jobs run again elsewhere, or when it is started again"
            )

    for step in (note, restore):
        _try(step)
    os._exit(GAVE_UP)


def _try(step: Callable[[], None]) -> None:
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    thread.join(_STEP_SECONDS)
