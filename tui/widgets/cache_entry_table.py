"""A window of cache entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message

from tui.text import cache as cache_text
from tui.text.format import escape
from tui.widgets.markable_table import Marking
from workers.operations.operations import CacheEntry


class EntryTable(Marking):
    """Entries that can be marked; the cursor stays on its entry."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Value"),
        Binding("x", "screen.evict", "Evict"),
    ]

    class Opened(Message):
        """The operator wants to see the entry's value."""

        def __init__(self, entry: CacheEntry) -> None:
            super().__init__()
            self.entry = entry

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.entries: tuple[CacheEntry, ...] = ()

    def show(self, entries: Sequence[CacheEntry], width: int) -> None:
        """Show these entries on ``width`` columns; on another window no range goes on."""
        if [each.key for each in entries] != [each.key for each in self.entries]:
            self.range_from = None
        self.entries = tuple(entries)
        columns = cache_text.entry_columns(width, max((len(escape(each.key)) for each in entries), default=0))
        rows = {
            each.key: cache_text.entry_cells(each, columns, marked=self.is_marked(each))
            for each in self.entries
        }
        self.fill(columns, rows, right=cache_text.RIGHT_ALIGNED)

    @property
    def shown(self) -> Sequence[CacheEntry]:
        """The entries."""
        return self.entries

    def id_of(self, item: CacheEntry) -> str:
        """Its key."""
        return item.key

    def sign_of(self, item: CacheEntry) -> Text:
        """A mark."""
        return cache_text.mark_cell(marked=self.is_marked(item))

    @property
    def selected(self) -> CacheEntry | None:
        """The entry under the cursor."""
        return self.entries[self.cursor_row] if 0 <= self.cursor_row < len(self.entries) else None

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click on the row under the cursor."""
        if self.selected is not None:
            self.post_message(self.Opened(self.selected))
