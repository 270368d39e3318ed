"""The queue rows: one line a queue, the focused one marked."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tui.text import queues as queue_text
from workers.monitoring.snapshot import QueueSnapshot, Snapshot


class QueueTable(Widget, can_focus=True):
    """Shows ``snapshot``'s queues; ``metric`` is what the sparklines beside them show."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"queue-table--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("p", "pause", "Pause"),
    ]
    snapshot: reactive[Snapshot | None] = reactive(None, layout=True)
    metric: reactive[str] = reactive("depth")
    cursor: reactive[int] = reactive(0)

    class PauseRequested(Message):
        """The operator wants to pause the queue, or to resume it."""

        def __init__(self, queue: QueueSnapshot) -> None:
            super().__init__()
            self.queue = queue

    @property
    def selected(self) -> QueueSnapshot | None:
        """The queue under the cursor."""
        queues = self.snapshot.queues if self.snapshot else ()
        return queues[min(self.cursor, len(queues) - 1)] if queues else None

    def render(self) -> Text:
        """Heading and rows."""
        width = self.size.width
        lines = [queue_text.heading(width)]
        for number, rows in enumerate(self._rows(width)):
            if self.has_focus and number == self.cursor:
                rows[0].pad_right(max(0, width - rows[0].cell_len))
                rows[0].stylize(self.get_component_rich_style("queue-table--cursor", partial=True))
            lines += rows
        return Text("\n", no_wrap=True, overflow="crop").join(lines)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """As many lines as there are rows."""
        return 1 + sum(map(len, self._rows(width)))

    def action_move(self, by: int) -> None:
        """Move the cursor; past the end the focus goes to what lies there."""
        queues = self.snapshot.queues if self.snapshot else ()
        if self.cursor + by >= len(queues):
            self.screen.focus_next()
        else:
            self.cursor = max(0, self.cursor + by)

    def action_pause(self) -> None:
        """Ask for a pause, or a resumption."""
        if self.selected is not None:
            self.post_message(self.PauseRequested(self.selected))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the row that was clicked."""
        line = 1
        for number, rows in enumerate(self._rows(self.size.width)):
            if line <= event.y < line + len(rows):
                self.cursor = number
            line += len(rows)

    def _rows(self, width: int) -> list[list[Text]]:
        if self.snapshot is None:
            return []
        offline = self.snapshot.weather_provider == "offline"
        return [
            queue_text.rows(
                queue, offline=offline, width=width, metric=self.metric, now=self.snapshot.taken_at
            )
            for queue in self.snapshot.queues
        ]
