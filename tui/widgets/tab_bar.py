"""The line of tabs: a click opens a view."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events

from tui.navigation import OpenView
from tui.text.tabs import Tab, tab_line
from tui.widgets.line import Line
from workers.monitoring.snapshot import Snapshot


class TabBar(Line):
    """Shows the views that exist; the one that is open stands out."""

    def __init__(self, tabs: Sequence[Tab], *, id: str) -> None:
        super().__init__(id=id)
        self._tabs = tabs
        self.columns: dict[str, range] = {}
        """The span of each, by its name."""

    def on_mount(self) -> None:
        """Show the tabs at once: counts follow with a snapshot."""
        self.show_tabs(None, self.app.current_mode, self.app.size.width)

    def show_tabs(self, snapshot: Snapshot | None, current: str, width: int) -> None:
        """Show the counts of a snapshot, on ``width`` columns."""
        text, self.columns = tab_line(self._tabs, current, snapshot, width)
        self.show(text)

    def on_click(self, event: events.Click) -> None:
        """Open the view that was clicked."""
        for name, columns in self.columns.items():
            if event.x in columns:
                self.post_message(OpenView(name))
