"""The base of all screens: header, tabs, verdict or banner, footer, and one action at a time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, ParamSpec

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from tui.session import Session
from tui.text import snapshot as snapshot_text
from tui.text.format import SMALLEST_TERMINAL
from tui.widgets.key_bar import KeyBar
from tui.widgets.line import Line
from tui.widgets.tab_bar import TabBar
from workers.monitoring.snapshot import Snapshot

P = ParamSpec("P")

_ACTION = "action"
"""Group of the workers that run actions."""
_SLOW_SECONDS = 1.0
"""An action that takes longer is mentioned if another one is asked for."""


class DashboardScreen(Screen[None]):
    """The dashboard hands it one snapshot a second."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "freeze", "Freeze", show=False)]
    HELP: ClassVar[str] = ""
    """The purpose of the screen, for the help."""
    LEGEND: ClassVar[tuple[str, ...]] = (
        "●  runs       ◐  beyond its threshold, not for long enough yet",
        "‖  paused     ▲  alert: beyond its threshold, or no progress",
        "◌  no worker  –  nothing measured yet",
    )
    """The meaning of its signs, for the help."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._busy_with = ""
        """The running action in words, once the operator has confirmed it."""
        self._began = 0.0
        """When the last action began, by the monotonic clock."""

    @property
    def about(self) -> str:
        """The name of what the screen is about, for the palette; empty for a list."""
        return ""

    def compose(self) -> ComposeResult:
        """Compose the frame around `compose_body`."""
        yield Line(id="header")
        yield TabBar(self.session.tabs, id="tabs")
        yield Line(id="verdict")
        yield Line(id="banner")
        yield from self.compose_body()
        yield KeyBar()
        yield Static(id="too-small")

    def compose_body(self) -> ComposeResult:
        """Compose the screen's own widgets."""
        yield from ()

    def on_screen_resume(self) -> None:
        """Show the snapshot that was taken while another screen was shown."""
        self.update_snapshot(self.session.snapshot, self.session.snapshot_error)

    def on_resize(self, event: events.Resize) -> None:
        """Fit the lines to the width; below the smallest size show only that it is too small."""
        columns, rows = event.size
        min_columns, min_rows = SMALLEST_TERMINAL
        self.set_class(columns < min_columns or rows < min_rows, "-too-small")
        self.query_one("#too-small", Static).update(
            f"terminal too small: {min_columns}x{min_rows} needed, this is {columns}x{rows}"
        )
        self.update_snapshot(self.session.snapshot, self.session.snapshot_error)

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot; ``error`` is why it is old or missing."""
        session, width = self.session, self.size.width
        self.query_one("#header", Line).show(snapshot_text.header(snapshot, width, error))
        self.query_one(TabBar).show_tabs(snapshot, self.app.current_mode, width)
        views = [tab.key for tab in session.tabs]
        verdict = self.query_one("#verdict", Line)
        verdict.show(
            snapshot_text.verdict_line(
                snapshot, width, error, well_for=session.well_for, age=session.figures_age, views=views
            )
        )
        text = snapshot_text.banner(snapshot, width, session.figures_age, frozen=session.frozen)
        banner = self.query_one("#banner", Line)
        banner.show(text or "")
        banner.display, verdict.display = text is not None, text is None
        self.set_class(session.figures_are_old, "-old")

    def action_freeze(self) -> None:
        """Hold what is shown, or go on."""
        if self.session.operations.draining:
            self.notify("this process drains: its countdown is not held")
        elif self.session.frozen:
            self.session.refresh()
        else:
            self.session.frozen = True
            self.update_snapshot(self.session.snapshot, self.session.snapshot_error)

    def refresh_data(self) -> None:
        """Fetch again what is not in the snapshot."""

    def run_exclusive(self, action: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run an action unless one is running, so that a held-down key does not open two dialogs.

        It continues when the screen is left.  It is a function and not a coroutine, which would never be
        awaited if the dashboard ended before the action began.
        """
        if any(worker.group == _ACTION and worker.is_running for worker in self.app.workers):
            if self._busy_with:
                self.notify(f"still {self._busy_with}")
            elif time.monotonic() - self._began > _SLOW_SECONDS:
                self.notify("the action before has not ended yet")
        else:
            self._began = time.monotonic()
            self.app.run_worker(partial(action, *args, **kwargs), group=_ACTION)

    @contextmanager
    def busy_with(self, doing: str) -> Iterator[None]:
        """Tell what the running action does if another one is asked for."""
        self._busy_with = doing
        try:
            yield
        finally:
            self._busy_with = ""
