"""The newest events, one a line, beside other things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.text.events import event_line, event_lines, short_time
from tui.widgets.row_list import Row, RowList
from workers.operations.operations import Event


class EventList(RowList[Event]):
    """Enter opens what an event is about."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "Open", key_display="enter")]

    def show_events(self, events: Sequence[Event] | None, now: float) -> None:
        """Show these events; None if they were not read."""
        chars = max((len(short_time(event, now)) for event in events or ()), default=0)
        rows = [Row(str(event.id), event, [event_line(event, now, chars)]) for event in events or ()]
        self.can_focus = bool(rows)
        self.show_rows(rows, heading=[] if rows else [event_lines(events, now)])
