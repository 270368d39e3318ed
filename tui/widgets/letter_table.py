"""A page of dead letters, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from tui.navigation import OpenLetter
from tui.text import dead_letters as letter_text
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.markable_table import MarkableTable
from workers.operations.operations import DeadLetter


class LetterTable(KeyedTable[DeadLetter]):
    """Above its first row the cursor leaves for the widget above."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Detail", key_display="enter"),
        Binding("R", "screen.replay", "Replay"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns: dict[str, int] = {}

    def show_letters(
        self, letters: Sequence[DeadLetter], now: float, width: int, *, state: bool = False
    ) -> None:
        """Show these letters on ``width`` columns, with a column of their ``state`` if asked for.

        If nothing differs nothing is painted.
        """
        columns = self.columns_for(width, state=state)
        if (tuple(letters), columns, self.order) == (self.items, self._columns, self.shown_order):
            return
        self._columns = columns
        self.newest_first = self.order in (None, letter_text.NEWEST_LETTERS_FIRST)
        rows = {
            str(letter.id): letter_text.letter_cells(letter, columns, now=now, marked=self.is_marked(letter))
            for letter in letters
        }
        self.set_rows(letters, columns, rows)

    def columns_for(self, width: int, *, state: bool) -> dict[str, int]:
        """Return the columns and their widths."""
        return letter_text.letter_columns(width, state=state)

    def open_item(self, item: DeadLetter) -> None:
        """Show all of a letter."""
        self.post_message(OpenLetter(item))

    def action_cursor_up(self) -> None:
        """Move up; from the first row focus the widget above."""
        if self.cursor_row <= 0:
            self.screen.focus_previous()
        else:
            super().action_cursor_up()


class MarkableLetterTable(LetterTable, MarkableTable[DeadLetter]):
    """Letters that can be marked."""

    def show_letters(
        self, letters: Sequence[DeadLetter], now: float, width: int, *, state: bool = False
    ) -> None:
        """Show these letters; on another page no range continues."""
        if tuple(letters) != self.items:
            self.range_start = None
        super().show_letters(letters, now, width, state=state)

    def columns_for(self, width: int, *, state: bool) -> dict[str, int]:
        """Return the columns and their widths, with one for the marks."""
        return letter_text.letter_columns(width, marks=True, state=state)

    def id_of(self, item: DeadLetter) -> int:
        """Return its id in the database."""
        return item.id

    def mark_cell(self, item: DeadLetter) -> Text:
        """Return its mark, and its sign if it is poison."""
        return letter_text.mark_cell(item, marked=self.is_marked(item))
