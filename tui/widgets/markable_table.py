"""A table whose rows can be marked: the next action applies to them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message

from tui.widgets.keyed_table import ItemT, KeyedTable


class MarkableTable(KeyedTable[ItemT]):
    """Rows are marked one by one or in ranges; marks stay when another page is shown.

    The first column has no heading: it shows the marks.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark(1)", "Mark"),
        Binding("shift+down", "mark(1, True)", "Mark and go down", show=False),
        Binding("shift+up", "mark(-1, True)", "Mark and go up", show=False),
        Binding("v", "range", "Mark from here; v again: to here", show=False),
        Binding("U", "unmark", "Unmark all", show=False),
    ]

    class MarksChanged(Message):
        """The operator marked or unmarked rows, or began a range."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.marks: dict[Any, ItemT] = {}
        """The marked items, by id, as they were when they were marked."""
        self.range_start: int | None = None
        """The row from which a range is being marked."""

    def id_of(self, item: ItemT) -> Hashable:
        """Return the id by which an item is marked."""
        raise NotImplementedError

    def mark_cell(self, item: ItemT) -> Text:
        """Return the first cell of an item's row."""
        raise NotImplementedError

    def is_marked(self, item: ItemT) -> bool:
        """Return whether it was marked."""
        return self.id_of(item) in self.marks

    def unmark(self, ids: Iterable[Hashable] | None = None) -> None:
        """Remove these marks, or all."""
        removed = set(self.marks if ids is None else ids)
        self.range_start = None
        self.marks = {id_: item for id_, item in self.marks.items() if id_ not in removed}
        self._repaint([row for row, item in enumerate(self.items) if self.id_of(item) in removed])

    def action_mark(self, step: int, keep: bool = False) -> None:
        """Mark the row under the cursor, or unmark it unless ``keep``; then move the cursor."""
        item = self.selected
        if item is None:
            return
        if self.is_marked(item) and not keep:
            del self.marks[self.id_of(item)]
        else:
            self.marks[self.id_of(item)] = item
        self._repaint([self.cursor_row])
        if 0 <= self.cursor_row + step < len(self.items):
            self.move_cursor(row=self.cursor_row + step, animate=False)

    def action_range(self) -> None:
        """Begin a range at the cursor, or mark all rows up to it."""
        if self.range_start is None:
            self.range_start = self.cursor_row if self.items else None
            self.post_message(self.MarksChanged())
            return
        rows = range(min(self.range_start, self.cursor_row), max(self.range_start, self.cursor_row) + 1)
        self.range_start = None
        self.marks |= {self.id_of(item): item for item in (self.items[row] for row in rows)}
        self._repaint(rows)

    def action_unmark(self) -> None:
        """Unmark all."""
        if not self.marks:
            self.notify("nothing is marked")
        self.unmark()

    def _repaint(self, rows: Iterable[int]) -> None:
        for row in rows:
            self.update_cell(self.keys[row], "", self.mark_cell(self.items[row]))
        self.post_message(self.MarksChanged())
