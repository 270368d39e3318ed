"""A window of dead letters, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message

from tui.text import dead_letters as letter_text
from tui.widgets.keyed_table import Rows
from tui.widgets.markable_table import Marking
from workers.operations.operations import DeadLetter


class LetterTable(Rows):
    """The cursor stays on its letter, and past the first row goes to what lies above."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Detail"),
        Binding("R", "screen.replay", "Replay"),
    ]

    class Opened(Message):
        """The operator wants to see all of the letter."""

        def __init__(self, letter: DeadLetter) -> None:
            super().__init__()
            self.letter = letter

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.letters: tuple[DeadLetter, ...] = ()
        self._columns: dict[str, int] = {}

    def show(self, letters: Sequence[DeadLetter], now: float, width: int, *, state: bool = False) -> None:
        """Show these letters on ``width`` columns, with a column of their ``state`` where wanted.

        Nothing is painted where all is the same.
        """
        columns = self.columns_for(width, state=state)
        if tuple(letters) == self.letters and columns == self._columns:
            return
        self.letters = tuple(letters)
        self._columns = columns
        rows = {
            str(letter.id): letter_text.letter_cells(letter, columns, now=now, marked=self.is_marked(letter))
            for letter in letters
        }
        self.fill(columns, rows)

    def columns_for(self, width: int, *, state: bool) -> dict[str, int]:
        """The columns and their widths."""
        return letter_text.letter_columns(width, state=state)

    @property
    def selected(self) -> DeadLetter | None:
        """The letter under the cursor."""
        return self.letters[self.cursor_row] if 0 <= self.cursor_row < len(self.letters) else None

    def action_cursor_up(self) -> None:
        """Past the first row the focus goes to what lies above."""
        if self.cursor_row <= 0:
            self.screen.focus_previous()
        else:
            super().action_cursor_up()

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click on the row under the cursor."""
        if self.selected is not None:
            self.post_message(self.Opened(self.selected))


class MarkedTable(LetterTable, Marking):
    """Letters that can be marked."""

    def show(self, letters: Sequence[DeadLetter], now: float, width: int, *, state: bool = False) -> None:
        """On another window no range goes on."""
        if tuple(letters) != self.letters:
            self.range_from = None
        super().show(letters, now, width, state=state)

    def columns_for(self, width: int, *, state: bool) -> dict[str, int]:
        """With one for the signs."""
        return letter_text.letter_columns(width, marks=True, state=state)

    @property
    def shown(self) -> Sequence[DeadLetter]:
        """The letters."""
        return self.letters

    def id_of(self, item: DeadLetter) -> int:
        """As the database has it."""
        return item.id

    def sign_of(self, item: DeadLetter) -> Text:
        """A mark, and poison."""
        return letter_text.mark_cell(item, marked=self.is_marked(item))
