"""The part of the dashboard that screens and dialogs use, so that none of them imports it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from textual.app import App

from tui.text.format import clip, escape
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import OPERATION_ERRORS, Operations, Selection

T = TypeVar("T")

_SNAPSHOT_TIMEOUT_SECONDS = 5.0
_MAX_ERROR_CHARS = 300
"""An error's text may hold a job's key, which may have thousands."""


@dataclass(frozen=True, slots=True)
class Discard:
    """A discard, and how many letters it hid."""

    selection: Selection
    number: int


class Session:
    """The operations, the newest snapshot, and a way to run a verb whose error is shown."""

    def __init__(self, operations: Operations, app: App[Any], refresh: Callable[[bool], None]) -> None:
        """``refresh`` takes a snapshot, and if it is given True the open screens fetch their data again."""
        self.operations = operations
        self.snapshot: Snapshot | None = None
        self.snapshot_error: str | None = None
        """Why the newest snapshot is old; None if it is not."""
        self.last_discard: Discard | None = None
        self._app = app
        self._refresh = refresh

    @property
    def now(self) -> float:
        """Unix seconds of the newest snapshot: the time in the header."""
        return self.snapshot.taken_at if self.snapshot is not None else time.time()

    def refresh(self, *, screens: bool = False) -> None:
        """Take a snapshot now; with ``screens`` the open screens also fetch their own data again."""
        self._refresh(screens)

    async def take_snapshot(self) -> None:
        """Replace the newest snapshot, or note why it is missing."""
        try:
            async with asyncio.timeout(_SNAPSHOT_TIMEOUT_SECONDS):
                self.snapshot = await self.operations.snapshot()
            self.snapshot_error = None
        except TimeoutError:
            self.snapshot_error = f"no answer for {_SNAPSHOT_TIMEOUT_SECONDS:g} s"
        except OPERATION_ERRORS as error:
            self.snapshot_error = one_line(f"{type(error).__name__}: {error}")

    async def run(self, verb: Awaitable[T], *, on_error: Callable[[str], None] | None = None) -> T | None:
        """Return the verb's result; if it fails, show its error on one line, or call ``on_error``.

        None also if the dashboard has ended in the meantime: there is no screen to show it on.
        """
        try:
            result = await verb
        except OPERATION_ERRORS as error:
            (on_error or self._show_error)(one_line(str(error)))
            return None
        return result if self._app.is_running else None

    def _show_error(self, message: str) -> None:
        self._app.notify(message, severity="error", markup=False)


def one_line(text: str) -> str:
    """An error's text on one line of limited length, without control characters."""
    return clip(escape(text), _MAX_ERROR_CHARS)
