"""A table of one page of items."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.strip import Strip
from textual.widgets import DataTable

from tui.text.sorting import Order, heading

ItemT = TypeVar("ItemT")


class KeyedTable(DataTable[Text], Generic[ItemT]):
    """Rows are replaced together; the cursor stays on the row of its key, else on its line."""

    newest_first: bool = False
    """Whether new rows come first: then a cursor on the first row stays there, so that they are seen."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Open", key_display="enter"),
        Binding("k", "cursor_up", "Up", show=False),
        Binding("j", "cursor_down", "Down", show=False),
        Binding("home", "scroll_top", "First row", show=False),
        Binding("end", "scroll_bottom", "Last row", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False, show_row_labels=False, cell_padding=1)
        self.items: tuple[ItemT, ...] = ()
        self.keys: list[str] = []
        """Keys of the rows, in the order of the items."""
        self.order: Order | None = None
        """The order of the rows that are shown next: the heading of its column has an arrow."""
        self.shown_order: Order | None = None

    @property
    def selected(self) -> ItemT | None:
        """The item under the cursor."""
        return self.items[self.cursor_row] if 0 <= self.cursor_row < len(self.items) else None

    @property
    def selected_key(self) -> str | None:
        """The key of the row under the cursor."""
        return None if self.selected is None else self.keys[self.cursor_row]

    def is_marked(self, item: ItemT) -> bool:
        """Return whether the next action applies to the item."""
        return False

    def open_item(self, item: ItemT) -> None:
        """Show all of an item."""

    def action_select_cursor(self) -> None:
        """Open the row under the cursor; without one, show a message."""
        if self.items:
            super().action_select_cursor()
        else:
            self.notify("nothing is listed: there is nothing to open")

    def on_click(self, event: events.Click) -> None:
        """Let a click on any column of the row under the cursor open it: the base class compares cells."""
        meta = event.style.meta
        if meta.get("row") == self.cursor_row and "column" in meta:
            self.cursor_coordinate = Coordinate(self.cursor_row, meta["column"])

    def on_data_table_row_selected(self) -> None:
        """Open the item under the cursor: enter, or a click on its row."""
        if self.selected is not None:
            self.open_item(self.selected)

    def set_rows(
        self,
        items: Sequence[ItemT],
        columns: Mapping[str, int],
        rows: Mapping[str, Sequence[Text]],
        *,
        right_aligned: Collection[str] = (),
    ) -> None:
        """Show ``items``, whose ``rows`` have a key each, in ``columns`` of these widths."""
        keys, row = self.keys, self.cursor_row
        self.clear(columns=True)
        for name, width in columns.items():
            label = heading(name, self.order, width)
            label = label.rjust(width) if name in right_aligned else label
            self.add_column(label, key=name, width=width)
        for key, cells in rows.items():
            self.add_row(*cells, key=key)
        self.items, self.keys, self.shown_order = tuple(items), list(rows), self.order
        if 0 <= row < len(keys):
            stays = keys[row] in rows and not (self.newest_first and row == 0)
            self.move_cursor(row=self.keys.index(keys[row]) if stays else row, animate=False)

    def render_line(self, y: int) -> Strip:
        """Render a row without Rich's way for each of its cells: a page takes 24 ms instead of 65.

        The base class renders the heading, the rows under the cursor and the mouse, and a table that is
        wider than its widget.
        """
        row = y - self.header_height + self.scroll_offset.y
        is_plain = row < self.row_count and row not in (self.cursor_row, self.hover_row)
        if y < self.header_height or not is_plain or self.scroll_offset.x:
            return super().render_line(y)
        style = self.rich_style + Style.from_meta({"row": row, "column": 0})  # where a click leads
        padding, segments = Segment(" " * self.cell_padding, style), list[Segment]()
        for column, cell in zip(self.ordered_columns, self.get_row_at(row), strict=True):
            if cell.cell_len > column.width:
                cell = cell.copy()
                cell.truncate(column.width)
            own = style + self.app.console.get_style(cell.style)
            parts = list(Segment.apply_style(cell.render(self.app.console), own))
            segments += [padding, *Segment.adjust_line_length(parts, column.width, style), padding]
        return Strip(segments).adjust_cell_length(self.size.width, style).simplify()
