"""Repeats the status: in place on a terminal, else one block after the other."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live

from app.cli import output
from app.cli.overview import with_details
from app.cli.progress import interrupt_signals, unless_interrupted
from app.cli.render.status import Overview, status_document, status_parts, status_text
from app.cli.render.tables import STYLES
from workers.operations.operations import OPERATION_ERRORS, Operations

_TIMEOUT_SECONDS = 5.0
_DETAILS_SECONDS = 10.0
"""Between two readings of groups and events, which cost the database more than the rest."""

Show = Callable[[Overview], None]


async def watch_status(operations: Operations, seconds: float, *, as_json: bool) -> int:
    """Show the status every few seconds until a signal."""
    await operations.ping()
    reader = _Reader(operations)
    in_place = not as_json and sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    with interrupt_signals() as interrupted, _screen() if in_place else _blocks(as_json=as_json) as show:
        while not interrupted.done():
            overview = await unless_interrupted(reader.read(), interrupted)
            if overview is not None:
                show(overview)
                await asyncio.wait({interrupted}, timeout=seconds)
    return 0


class _Reader:
    """Reads the status; while Redis does not answer, the last figures with their age."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._last: Overview | None = None
        self._figures_at = time.monotonic()
        self._next_details = 0.0

    async def read(self) -> Overview | None:
        """Read the overview; None if Redis has not answered once."""
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                snapshot = await self._operations.snapshot()
        except TimeoutError:
            return self._last_overview(f"no answer for {_TIMEOUT_SECONDS:g} s")
        except OPERATION_ERRORS as error:
            return self._last_overview(str(error))
        if snapshot.is_old:
            self._last = replace(self._last, snapshot=snapshot) if self._last is not None else None
            return self._last_overview(snapshot.redis.error or "")
        self._figures_at = time.monotonic()
        overview = replace(self._last, snapshot=snapshot, error=None) if self._last else Overview(snapshot)
        if time.monotonic() >= self._next_details:
            overview = await with_details(self._operations, overview)
            self._next_details = time.monotonic() + _DETAILS_SECONDS
        self._last = overview
        return overview

    def _last_overview(self, error: str) -> Overview | None:
        age = time.monotonic() - self._figures_at
        return replace(self._last, error=error, age=age) if self._last is not None else None


@contextmanager
def _screen() -> Iterator[Show]:
    """Show in place, on the terminal's other screen: the one before is there again at the end."""
    console = Console(theme=STYLES, highlight=False)
    overviews: list[Overview] = []
    loop = asyncio.get_running_loop()

    with Live(console=console, screen=True, auto_refresh=False, transient=True) as live:

        def show(overview: Overview) -> None:
            overviews[:] = [overview]
            live.update(Group(*status_parts(overview, width=console.width)), refresh=True)

        def show_again() -> None:
            for overview in overviews:
                show(overview)

        loop.add_signal_handler(signal.SIGWINCH, show_again)
        try:
            yield show
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)


@contextmanager
def _blocks(*, as_json: bool) -> Iterator[Show]:
    def show(overview: Overview) -> None:
        if as_json:
            output.print_json_line(status_document(overview.snapshot))
        else:
            output.write(f"{status_text(overview)}\n\n")

    yield show
