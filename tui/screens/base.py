"""The base of all screens: header, tabs, verdict or banner, footer, and one action at a time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, ParamSpec

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import DataTable, Static

from tui.dialogs.order import OrderDialog
from tui.keymap import key_name
from tui.session import Session
from tui.text import snapshot as snapshot_text
from tui.text.format import SMALLEST_TERMINAL, count, escape
from tui.text.sorting import Order, Sorting
from tui.widgets.key_bar import KeyBar
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.line import Line
from tui.widgets.row_list import RowList
from tui.widgets.tab_bar import TabBar
from workers.monitoring.snapshot import Snapshot

P = ParamSpec("P")

_MAX_COPIED_CHARS = 70_000
"""In base64 less than the 100,000 bytes that common terminals take."""
_MAX_NAMED_CHARS = 60
_ACTION = "action"
"""Group of the workers that run actions."""
_SLOW_SECONDS = 1.0
"""An action that takes longer is mentioned if another one is asked for."""


class DashboardScreen(Screen[None]):
    """The dashboard hands it one snapshot a second."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "freeze", "Freeze", show=False),
        Binding("s", "sort", "Sort by a column", show=False),
        Binding("y", "copy", "Copy the id", show=False),
    ]
    HELP: ClassVar[str] = ""
    """The purpose of the screen, for the help."""
    LEGEND: ClassVar[tuple[str, ...]] = (
        "●  runs       ◐  beyond its threshold, not for long enough yet",
        "‖  paused     ▲  alert: beyond its threshold, or no progress",
        "◌  no worker  –  nothing measured yet",
    )
    """The meaning of its signs, for the help."""
    NOT_SORTED: ClassVar[str] = "there is nothing to sort here"
    """Why its rows have one order only."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._busy_with = ""
        """The running action in words, once the operator has confirmed it."""
        self._focused_before: Widget | None = None
        """The widget that had the focus until the terminal was too small."""
        self._began = 0.0
        """When the last action began, by the monotonic clock."""

    def in_footer(self, binding: Binding) -> bool:
        """Return whether the footer shows a key."""
        return binding.show

    @property
    def subject(self) -> str:
        """Name of the thing that the screen shows, for the palette; empty for a list."""
        return ""

    def compose(self) -> ComposeResult:
        """Compose the frame around `compose_body`."""
        yield Line(id="header")
        yield TabBar(self.session.tabs, id="tabs")
        yield Line(id="verdict")
        yield Line(id="banner")
        yield from self.compose_body()
        yield KeyBar(shows=self.in_footer)
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
        self._show_too_small(columns < min_columns or rows < min_rows)
        self.query_one("#too-small", Static).update(
            f"terminal too small: {min_columns}x{min_rows} needed, this is {columns}x{rows}"
        )
        self.update_snapshot(self.session.snapshot, self.session.snapshot_error)

    def _show_too_small(self, too_small: bool) -> None:
        """Hide everything, or show it; what is hidden loses the focus, and gets it back."""
        if too_small and not self.has_class("-too-small"):
            self._focused_before = self.focused
        self.set_class(too_small, "-too-small")
        if not too_small and self._focused_before is not None:
            self.call_after_refresh(self._focused_before.focus)
            self._focused_before = None

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot; ``error`` is why it is old or missing."""
        self.show_frame()

    def show_frame(self) -> None:
        """Show header, tabs, verdict and banner: while figures are old, each second."""
        session, width = self.session, self.size.width
        snapshot, error = session.snapshot, session.snapshot_error
        self.query_one("#header", Line).show(
            snapshot_text.header(snapshot, width, error, read_only=session.operations.read_only)
        )
        self.query_one(TabBar).show_tabs(snapshot, self.app.current_mode, width)
        key = partial(key_name, self)
        verdict = self.query_one("#verdict", Line)
        verdict.show(
            snapshot_text.verdict_line(
                snapshot, width, error, key=key, well_for=session.well_for, age=session.figures_age
            )
        )
        text = snapshot_text.banner(
            session.newest if session.frozen else snapshot,
            width,
            session.figures_age,
            frozen_for=session.frozen_for if session.frozen else None,
            key=key,
        )
        banner = self.query_one("#banner", Line)
        banner.show(text or "")
        banner.display, verdict.display = text is not None, text is None
        self.set_class(session.figures_are_old, "-old")

    async def on_click(self, event: events.Click) -> None:
        """List the alerts: a click on their key, at the right end of the verdict."""
        verdict, words = self.query_one("#verdict", Line), f"{key_name(self, 'app.alerts')} alerts "
        if event.widget is verdict and event.x >= verdict.size.width - len(words):
            await self.run_action("app.alerts")

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

    # Sorting

    @property
    def sorting(self) -> Sorting[Any] | None:
        """The columns by which the rows can be sorted; None if there is one order only."""
        return None

    @property
    def order(self) -> Order | None:
        """The order that was chosen."""
        return None if self.sorting is None else self.remembered_order(self.sorting)

    def remembered_order(self, sorting: Sorting[Any]) -> Order | None:
        """Return the order that was chosen last, maybe in a run before."""
        return sorting.parse(self.session.state.get(f"sort-{sorting.name}"))

    def order_changed(self) -> None:
        """Show the rows in the order that was chosen."""
        self.update_snapshot(self.session.snapshot, self.session.snapshot_error)

    def action_sort(self) -> None:
        """Choose a column."""
        if self.sorting is None:
            self.notify(self.NOT_SORTED)
        else:
            self.run_exclusive(self._choose_order, self.sorting)

    async def _choose_order(self, sorting: Sorting[Any]) -> None:
        choice = await self.app.push_screen_wait(OrderDialog(sorting, self.order))
        if choice is not None:
            self._sort_by(sorting, choice[0])

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by the column whose heading was clicked."""
        sorting = self.sorting
        order = sorting.choose(str(event.column_key.value), self.order) if sorting is not None else None
        if sorting is None or order is None:
            self.notify(
                self.NOT_SORTED if sorting is None else sorting.note or "by this column nothing is sorted"
            )
        else:
            self._sort_by(sorting, order)

    def _sort_by(self, sorting: Sorting[Any], order: Order | None) -> None:
        self.session.state.set(f"sort-{sorting.name}", "" if order == sorting.default else str(order))
        self.order_changed()

    # Copying

    def text_to_copy(self) -> str | None:
        """Return what ``y`` copies: the id of the row under the cursor; None if there is no row."""
        rows = self.focused
        key = rows.selected_key if isinstance(rows, KeyedTable | RowList) else None
        return None if key is None else escape(key.rpartition("\0")[2])  # a job has its queue before it

    def action_copy(self) -> None:
        """Copy by OSC 52: the terminal has the clipboard, also over SSH."""
        text = self.text_to_copy()
        if text is None:
            self.notify("there is nothing to copy here: the cursor is on no row")
        else:
            self.copy(text)

    def copy(self, text: str) -> None:
        """Copy a text, which must have no control characters, since it may be pasted into a shell."""
        if len(text) > _MAX_COPIED_CHARS:
            self.notify(
                f"{count(len(text))} characters are more than terminals take: "
                f"{key_name(self, 'letters.export')} exports",
                severity="warning",
            )
            return
        self.app.copy_to_clipboard(text)
        short = "\n" not in text and len(text) <= _MAX_NAMED_CHARS
        summary = text if short else f"{count(len(text))} characters"
        self.notify(f"copied: {summary}", markup=False)

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
