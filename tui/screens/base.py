"""What all views share: header, alert line, drain banner, footer, and what a small terminal shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Footer, Static

from tui.text import snapshot as text
from tui.text.format import SMALLEST_TERMINAL
from workers.monitoring.snapshot import Snapshot

if TYPE_CHECKING:
    from tui.app import Dashboard


class View(Screen[None]):
    """Fed with one snapshot a second by the app."""

    BINDINGS: ClassVar[list[BindingType]] = []
    HELP: ClassVar[str] = ""
    """What this view is for, in the help."""
    SIGNS: ClassVar[tuple[str, ...]] = (
        "●  runs          ▲  beyond its threshold, or no worker",
        "‖  paused        –  nothing measured yet",
    )
    """What its signs mean, in the help."""

    def compose(self) -> ComposeResult:
        """The frame around `body`."""
        yield Static(id="header")
        yield Static(id="alerts")
        yield Static(id="banner")
        yield from self.body()
        yield Footer(show_command_palette=False, compact=True)
        yield Static(id="too-small")

    def body(self) -> ComposeResult:
        """The view's own widgets."""
        yield from ()

    @property
    def dashboard(self) -> Dashboard:
        """The app, as what it is."""
        return cast("Dashboard", self.app)

    def on_screen_resume(self) -> None:
        """What came in while another view was shown."""
        self.show(self.dashboard.snapshot, self.dashboard.problem)

    def on_resize(self, event: events.Resize) -> None:
        """Lines depend on the width; below the smallest size only a word is shown."""
        columns, rows = event.size
        least_columns, least_rows = SMALLEST_TERMINAL
        small = columns < least_columns or rows < least_rows
        self.set_class(small, "-too-small")
        self.query_one("#too-small", Static).update(
            f"terminal too small: {least_columns}x{least_rows} needed, this is {columns}x{rows}"
        )
        self.show(self.dashboard.snapshot, self.dashboard.problem)

    def show(self, snapshot: Snapshot | None, problem: str | None) -> None:
        """Show a snapshot, or why there is none."""
        width = self.size.width
        self.query_one("#header", Static).update(text.header(snapshot, width, problem))
        self.query_one("#alerts", Static).update(text.alert_line(snapshot, width, problem))
        banner = text.drain_banner(snapshot)
        strip = self.query_one("#banner", Static)
        strip.display = banner is not None
        strip.update(banner or "")

    def look_again(self) -> None:
        """Read anew what is not in the snapshot."""
