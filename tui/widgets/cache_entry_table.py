"""A page of cache entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from tui.navigation import OpenCacheEntry
from tui.text import cache as cache_text
from tui.text.format import escape
from tui.widgets.markable_table import MarkableTable
from workers.operations.operations import CacheEntry


class CacheEntryTable(MarkableTable[CacheEntry]):
    """Entries that can be marked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Value", key_display="enter"),
        Binding("x", "screen.evict", "Evict"),
    ]

    def show_entries(self, entries: Sequence[CacheEntry], width: int) -> None:
        """Show these entries on ``width`` columns; on another page no range continues."""
        if [entry.key for entry in entries] != [entry.key for entry in self.items]:
            self.range_start = None
        longest_key = max((len(escape(entry.key)) for entry in entries), default=0)
        columns = cache_text.entry_columns(width, longest_key)
        rows = {
            entry.key: cache_text.entry_cells(entry, columns, marked=self.is_marked(entry))
            for entry in entries
        }
        self.set_rows(entries, columns, rows, right_aligned=cache_text.RIGHT_ALIGNED)

    def open_item(self, item: CacheEntry) -> None:
        """Show the entry's value."""
        self.post_message(OpenCacheEntry(item))

    def id_of(self, item: CacheEntry) -> str:
        """Return its key."""
        return item.key

    def mark_cell(self, item: CacheEntry) -> Text:
        """Return its mark."""
        return cache_text.mark_cell(marked=self.is_marked(item))
