"""The table of queues: a line for each, and a second one for what has no room on it."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from tui.navigation import OpenQueue
from tui.text import queues as queue_text
from tui.text.sorting import Order
from tui.text.verdict import queue_verdict
from tui.widgets.row_list import Row, RowList
from workers.monitoring.snapshot import QueueSnapshot, Snapshot


class QueueTable(RowList[QueueSnapshot]):
    """Shows the queues of a snapshot."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", key_display="enter"),
        Binding("p", "pause", "Pause"),
    ]

    class PauseRequested(Message):
        """The operator asked to pause the queue, or to resume it."""

        def __init__(self, queue: QueueSnapshot) -> None:
            super().__init__()
            self.queue = queue

    def show_queues(
        self, snapshot: Snapshot, width: int, *, only: str | None = None, order: Order | None = None
    ) -> None:
        """Show all queues, or ``only`` one."""
        offline = snapshot.weather_provider == "offline"
        judged = [
            (queue, queue_verdict(queue, snapshot.alerts, snapshot.taken_at, snapshot.workers))
            for queue in snapshot.queues
            if only in (None, queue.name)
        ]
        rows = []
        for queue, verdict in queue_text.QUEUE_SORTING.sort(judged, order):
            lines = queue_text.rows(queue, verdict, snapshot.alerts, offline=offline, width=width)
            rows.append(Row(queue.name, queue, lines))
        self.show_rows(rows, heading=[queue_text.heading(width, order)])

    def action_open(self) -> None:
        """Show all of the queue under the cursor."""
        if self.selected is not None:
            self.post_message(OpenQueue(self.selected.name))

    def action_pause(self) -> None:
        """Ask to pause or resume the queue under the cursor."""
        if self.selected is not None:
            self.post_message(self.PauseRequested(self.selected))
