"""A window of dead letters, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable
from textual.widgets.data_table import RowDoesNotExist

from tui import text
from workers.operations import DeadLetter


class LetterTable(DataTable[object]):
    """Rows are replaced as a whole, and the cursor stays on its letter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Detail"),
        Binding("R", "replay", "Replay"),
        Binding("k", "cursor_up", "Up", show=False),
        Binding("j", "cursor_down", "Down", show=False),
    ]

    class ReplayRequested(Message):
        """The operator wants to replay the letter."""

        def __init__(self, letter: DeadLetter) -> None:
            super().__init__()
            self.letter = letter

    class Opened(Message):
        """The operator wants to see all of the letter."""

        def __init__(self, letter: DeadLetter) -> None:
            super().__init__()
            self.letter = letter

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False, show_row_labels=False, cell_padding=1)
        self.letters: tuple[DeadLetter, ...] = ()
        self._columns: dict[str, int] = {}

    def show(self, letters: Sequence[DeadLetter], now: float, width: int) -> None:
        """Show these letters on ``width`` columns; nothing is painted where all is the same."""
        columns = text.letter_columns(width)
        if tuple(letters) == self.letters and columns == self._columns:
            return
        selected, place = self.selected, self.cursor_row
        self.letters = tuple(letters)
        self.clear(columns=True)
        self._columns = columns
        for name, room in columns.items():
            self.add_column(name, key=name, width=room)
        for letter in letters:
            self.add_row(*text.letter_cells(letter, columns, now=now), key=str(letter.id))
        if selected is not None:
            try:
                self.move_cursor(row=self.get_row_index(str(selected.id)), animate=False)
            except RowDoesNotExist:  # replayed, for instance: the cursor stays where it was
                self.move_cursor(row=place, animate=False)

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

    def action_select_cursor(self) -> None:
        """Open the letter."""
        if self.selected is not None:
            self.post_message(self.Opened(self.selected))

    def on_data_table_row_selected(self) -> None:
        """A click on the row under the cursor opens it, too."""
        self.action_select_cursor()

    def action_replay(self) -> None:
        """Ask for a replay."""
        if self.selected is not None:
            self.post_message(self.ReplayRequested(self.selected))
