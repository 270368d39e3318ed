"""The table of queues: a line for each, and one more for each reason why it makes no progress."""

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
    """Shows the queues of ``snapshot``; their sparklines show ``metric``."""

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
        """The operator asked to pause the queue, or to resume it."""

        def __init__(self, queue: QueueSnapshot) -> None:
            super().__init__()
            self.queue = queue

    @property
    def selected(self) -> QueueSnapshot | None:
        """The queue under the cursor."""
        queues = self.snapshot.queues if self.snapshot else ()
        return queues[min(self.cursor, len(queues) - 1)] if queues else None

    def render(self) -> Text:
        """Render the heading and the rows."""
        width = self.size.width
        lines = [queue_text.heading(width)]
        for index, rows in enumerate(self._rows(width)):
            if self.has_focus and index == self.cursor:
                rows[0].pad_right(max(0, width - rows[0].cell_len))
                rows[0].stylize(self.get_component_rich_style("queue-table--cursor", partial=True))
            lines += rows
        return Text("\n", no_wrap=True, overflow="crop").join(lines)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """Return the number of lines."""
        return 1 + sum(map(len, self._rows(width)))

    def action_move(self, step: int) -> None:
        """Move the cursor; from the last queue focus the widget below."""
        queues = self.snapshot.queues if self.snapshot else ()
        if self.cursor + step >= len(queues):
            self.screen.focus_next()
        else:
            self.cursor = max(0, self.cursor + step)

    def action_pause(self) -> None:
        """Ask to pause or resume the queue under the cursor."""
        if self.selected is not None:
            self.post_message(self.PauseRequested(self.selected))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the queue that was clicked."""
        line = 1
        for index, rows in enumerate(self._rows(self.size.width)):
            if line <= event.y < line + len(rows):
                self.cursor = index
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
