"""The base of screens with charts: which figure they show, over which range."""

from __future__ import annotations

from typing import ClassVar

from textual import events, work
from textual.binding import Binding, BindingType

from tui.screens.queues.actions import QueueActions
from tui.screens.queues.details import Details
from tui.session import Session
from tui.text.charts import FIGURES, RANGES, Chart, ChartFigure, marks_of
from tui.text.verdict import CHART_STYLES, queue_verdict
from workers.monitoring.snapshot import QueueSnapshot, Snapshot

_DEFAULT_RANGE_SECONDS = 3_600
RANGE_KEYS = ("{queues.range-previous} {queues.range-next}", "range")
SIDE_BY_SIDE_WIDTH = 110
"""Columns of a terminal from which two lists are beside each other."""


class ChartedScreen(QueueActions):
    """Fetches details while it is shown, and remembers figure and range."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "range(-1)", "Shorter range", key_display="[", show=False),
        Binding("right_square_bracket", "range(1)", "Longer range", key_display="]", show=False),
        Binding("space", "freeze", "Freeze"),
        Binding("r", "reload", "Read again", show=False),
    ]

    def __init__(self, session: Session, queue: str | None = None) -> None:
        super().__init__(session)
        self.details = Details(session, queue)

    def show_details(self, snapshot: Snapshot) -> None:
        """Show what was fetched, and the charts."""
        raise NotImplementedError

    @property
    def range_seconds(self) -> int:
        """Over how many seconds the charts go."""
        remembered = self.session.state.get("chart_range") or ""
        is_number = remembered.isascii() and remembered.isdecimal() and len(remembered) < 9
        seconds = int(remembered) if is_number else 0
        return seconds if seconds in RANGES else _DEFAULT_RANGE_SECONDS

    @property
    def figure(self) -> ChartFigure:
        """The figure that was chosen."""
        name = self.session.state.get("chart_figure")
        return next((figure for figure in FIGURES if figure.name == name), FIGURES[0])

    def chart(self, queue: QueueSnapshot, figure: ChartFigure, title: str, steps: int) -> Chart:
        """Return one figure of a queue as a chart; it takes the colour of the queue's state."""
        snapshot = self.session.snapshot
        alerts, workers = ((), ()) if snapshot is None else (snapshot.alerts, snapshot.workers)
        verdict = queue_verdict(queue, alerts, self.session.now, workers)
        return Chart(
            title,
            self.details.series(queue.name, figure.name, self.range_seconds, steps),
            figure.form,
            CHART_STYLES[verdict.tone],
            now=figure.now(queue),
            threshold=figure.limit(queue),
            marks=marks_of(self.details.marks, queue.name),
        )

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot, and fetch the details when they are due; none while another screen is shown."""
        super().update_snapshot(snapshot, error)
        if snapshot is None or not self.is_current or self.session.frozen:
            return
        if self.details.begin_if_due(snapshot):
            self.fetch_details()

    @work(group="details")
    async def fetch_details(self) -> None:
        """Fetch and show the details."""
        await self.details.fetch(self.range_seconds)
        self._show_again()

    @work(exclusive=True, group="histories")
    async def fetch_histories(self) -> None:
        """Fetch the histories of another range, and show them."""
        await self.details.fetch_histories(self.range_seconds)
        self._show_again()

    def _show_again(self) -> None:
        if self.session.snapshot is not None and self.is_mounted:
            self.show_details(self.session.snapshot)

    def on_resize(self, event: events.Resize) -> None:
        """Choose what the size has room for, once the layout is known."""
        self.call_after_refresh(self._show_again)

    def on_chart_grid_resized(self) -> None:
        """Fit the charts to their size."""
        self._show_again()

    def refresh_data(self) -> None:
        """Fetch the details with the next snapshot."""
        self.details.invalidate()

    def is_without_charts(self) -> bool:
        """Return whether there is no room for charts; then a message shows that."""
        if not self.has_class("-compact"):
            return False
        self.notify("no room for charts: they need a terminal with more lines", severity="warning")
        return True

    def action_reload(self) -> None:
        """Take a snapshot now, and fetch the details."""
        self.session.refresh(screens=True)

    def action_range(self, step: int) -> None:
        """Show a longer or shorter range."""
        if self.is_without_charts():
            return
        ranges = list(RANGES)
        target = ranges.index(self.range_seconds) + step
        if not 0 <= target < len(ranges):
            self.notify(f"this is the {'longest' if step > 0 else 'shortest'} range")
            return
        self.session.state.set("chart_range", str(ranges[target]))
        self.details.invalidate()
        self.fetch_histories()
