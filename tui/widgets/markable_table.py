"""Marks on the rows of a table: what the next act is about."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message

from tui.widgets.keyed_table import Rows


class Marking(Rows):
    """Rows can be marked, one or from here to there; the marks stay when another page is shown.

    What is shown has ids, which marks go by, and a column without a title for the signs.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark(1)", "Mark"),
        Binding("shift+down", "mark(1, True)", "Mark and go down", show=False),
        Binding("shift+up", "mark(-1, True)", "Mark and go up", show=False),
        Binding("v", "range", "Mark from here; v again: to here", show=False),
        Binding("U", "unmark", "Unmark all", show=False),
    ]

    class MarksChanged(Message):
        """Others are marked than before."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.marks: dict[Any, Any] = {}
        """What is marked, by id, as it was when it was marked."""
        self.range_from: int | None = None
        """The row from which a range is marked."""

    @property
    def shown(self) -> Sequence[Any]:
        """What the rows show, in their order."""
        raise NotImplementedError

    def id_of(self, item: Any) -> Hashable:
        """By which it is marked."""
        raise NotImplementedError

    def sign_of(self, item: Any) -> Text:
        """What stands before it."""
        raise NotImplementedError

    def is_marked(self, item: Any) -> bool:
        """Whether it was marked."""
        return self.id_of(item) in self.marks

    def unmark(self, ids: Iterable[Hashable] | None = None) -> None:
        """Take these marks away, or all."""
        gone = set(self.marks if ids is None else ids)
        self.range_from = None
        self.marks = {each: item for each, item in self.marks.items() if each not in gone}
        self._repaint([row for row, item in enumerate(self.shown) if self.id_of(item) in gone])

    def action_mark(self, by: int, keep: bool = False) -> None:
        """Mark the row under the cursor, or unmark it unless it is to ``keep`` its mark; go on."""
        if not 0 <= self.cursor_row < len(self.shown):
            return
        item = self.shown[self.cursor_row]
        if self.is_marked(item) and not keep:
            del self.marks[self.id_of(item)]
        else:
            self.marks[self.id_of(item)] = item
        self._repaint([self.cursor_row])
        if 0 <= self.cursor_row + by < len(self.shown):
            self.move_cursor(row=self.cursor_row + by, animate=False)

    def action_range(self) -> None:
        """Begin a range at the cursor, or mark all up to it."""
        if self.range_from is None:
            self.range_from = self.cursor_row if self.shown else None
            self.post_message(self.MarksChanged())
            return
        rows = range(min(self.range_from, self.cursor_row), max(self.range_from, self.cursor_row) + 1)
        self.range_from = None
        self.marks |= {self.id_of(item): item for item in (self.shown[row] for row in rows)}
        self._repaint(rows)

    def action_unmark(self) -> None:
        """Unmark all."""
        self.unmark()

    def _repaint(self, rows: Iterable[int]) -> None:
        for row in rows:
            self.update_cell(self.keys[row], "", self.sign_of(self.shown[row]))
        self.post_message(self.MarksChanged())
