"""A page of events: when, what kind, and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import BindingsMap, BindingType
from textual.message import Message
from textual.widgets import DataTable

from tui.text.events import SIGNS, describe
from tui.text.format import SHORT_TIME_CHARS, clip, clock_time, escape
from tui.text.styles import MUTED
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.markable_table import MarkableTable
from workers.operations.operations import Event

_KIND_CHARS = 18
_SCROLL_BAR_CHARS = 1
_MIN_KIND_WIDTH = 100
"""Columns of a terminal from which the kind has a column of its own."""


class EventTable(MarkableTable[Event], inherit_bindings=False):
    """Events are not marked: nothing is done to them."""

    newest_first = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *KeyedTable.BINDINGS,
        *(binding for _, binding in BindingsMap(DataTable.BINDINGS) if binding.key != "enter"),
    ]

    class Opened(Message):
        """The operator asked for what an event is about."""

        def __init__(self, event: Event) -> None:
            super().__init__()
            self.event = event

    def id_of(self, item: Event) -> int:
        """Return the id of the event."""
        return item.id

    def open_item(self, item: Event) -> None:
        """Ask for what it is about."""
        self.post_message(self.Opened(item))

    def show_events(self, events: Sequence[Event], width: int, now: float) -> None:
        """Show a page."""
        with_kind = width >= _MIN_KIND_WIDTH
        columns = {"": 1, "at": SHORT_TIME_CHARS, **({"kind": _KIND_CHARS} if with_kind else {})}
        used = sum(columns.values()) + 2 * (len(columns) + 1) + _SCROLL_BAR_CHARS
        columns["what happened"] = max(20, width - used)
        rows = {str(event.id): _cells(event, now, columns) for event in events}
        self.set_rows(events, columns, rows)


def _cells(event: Event, now: float, columns: dict[str, int]) -> list[Text]:
    sign, style = SIGNS.get(event.kind, ("·", MUTED))
    when = clock_time(event.at, now, SHORT_TIME_CHARS)
    cells = [Text(sign, style), Text(when, MUTED)]
    if "kind" in columns:
        cells.append(Text(clip(escape(event.kind), _KIND_CHARS), MUTED))
    return [*cells, describe(event)]
