"""Shows the dashboard in the process of the workers, or without workers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import ExitStack
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import structlog

from app.errors import AppError, UsageError
from app.process.composition import Appliance
from app.process.signals import set_stop_action
from app.settings import Settings, variable_name
from app.streams import write_within
from tui.app import Dashboard
from tui.driver import is_terminal_blocked
from tui.keymap import KeymapError, parse_keymap
from tui.redirect import private_terminal

log = structlog.get_logger(__name__)

LOG_FILE = "couturecast-tui.log"
"""Name of the file in the data directory for logs and output while the dashboard is open."""
_WRITE_TIMEOUT_SECONDS = 1.0


def load_keymap(settings: Settings) -> dict[str, str]:
    """Return the keys that differ, by their ids.  Raises UsageError."""
    try:
        return parse_keymap(settings.keymap)
    except KeymapError as error:
        raise UsageError(error.problem, field=variable_name("keymap"), fix=error.fix) from None


def editor_command() -> str | None:
    """Return the operator's editor: that of the environment, else ``vi`` if it is installed."""
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or shutil.which("vi")


class DashboardView:
    """The dashboard with a terminal of its own: until `close`, standard output and error go to the log."""

    def __init__(
        self, appliance: Appliance, log_file: Path, *, demo: bool, browser: str | None = None
    ) -> None:
        """``browser``: address of the one that shows it, as which it acts; None if a terminal does."""
        self._redirection = ExitStack()
        terminal = self._redirection.enter_context(private_terminal(log_file))
        # Started later, this helper process would inherit Textual's replacement of standard error.
        resource_tracker.ensure_running()
        interval = appliance.pace.snapshot
        operations = appliance.operations
        self._dashboard = Dashboard(
            operations if browser is None else operations.as_actor(f"browser:{browser}"),
            demo=demo,
            interval=interval,
            terminal=terminal,
            data_dir=appliance.data_dir if browser is None else None,  # what the operator left stays
            editor=None if browser is not None else editor_command(),
            remote=browser is not None,
            keymap=load_keymap(appliance.settings),
        )

    async def wait_painted(self) -> None:
        """Wait for the first frame."""
        await self._dashboard.painted.wait()

    def close(self) -> None:
        """Give standard output and error back."""
        self._redirection.close()

    async def show(self) -> int:
        """Show the dashboard of a process without workers until it is left; return its exit code."""

        def leave(number: signal.Signals) -> None:
            if number is not signal.SIGINT:  # ctrl-C is a key here
                self._dashboard.exit(0)

        set_stop_action(leave)
        await self._dashboard.run_async()
        self.close()
        if self._dashboard.failed:
            raise AppError("the dashboard has failed", fix=f"see {LOG_FILE} in the data directory")
        return self._dashboard.return_code or 0

    async def show_until_drained(self, drained: asyncio.Task[int]) -> None:
        """Show the dashboard until it is left, or closes after the drain.

        If it fails, the workers go on, and this returns when they have drained.
        """
        drained.add_done_callback(lambda _: self._dashboard.on_drained())
        showing = asyncio.create_task(self._dashboard.run_async())
        await asyncio.wait({showing})
        self.close()
        if self._dashboard.failed and not drained.done():
            _report_failure(showing)
            await asyncio.wait({drained})


def _report_failure(showing: asyncio.Task[Any]) -> None:
    log.error("the dashboard has failed and is closed, the workers go on", exc_info=showing.exception())
    for number in (signal.SIGTSTP, signal.SIGCONT):  # Textual's handlers would write to its terminal
        signal.signal(number, signal.SIG_DFL)
    print_line(
        f"the dashboard has failed, the workers go on: ctrl-C drains; see {LOG_FILE} in the data directory"
    )


def print_line(line: str) -> None:
    """Write a line to the terminal unless the terminal is blocked."""
    if not is_terminal_blocked():
        write_within(_WRITE_TIMEOUT_SECONDS, sys.stderr, f"{line}\n")
