"""A window of dead letters, the newest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from tui import letter_text
from tui.widgets.rows import Rows
from workers.operations import DeadLetter


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

    def is_marked(self, letter: DeadLetter) -> bool:
        """Whether the letter is one of those that the next act is about."""
        return False

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


class MarkedTable(LetterTable):
    """Letters can be marked, one or from here to there; the marks stay when another page is shown."""

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
        self.marks: dict[int, DeadLetter] = {}
        """The marked letters, by id, as they were when they were marked."""
        self.range_from: int | None = None
        """The row from which a range is marked."""

    def show(self, letters: Sequence[DeadLetter], now: float, width: int, *, state: bool = False) -> None:
        """On another window no range goes on."""
        if tuple(letters) != self.letters:
            self.range_from = None
        super().show(letters, now, width, state=state)

    def columns_for(self, width: int, *, state: bool) -> dict[str, int]:
        """With one for the signs."""
        return letter_text.letter_columns(width, signs=True, state=state)

    def is_marked(self, letter: DeadLetter) -> bool:
        """Whether it was marked."""
        return letter.id in self.marks

    def unmark(self, ids: Iterable[int] | None = None) -> None:
        """Take the marks of these letters away, or all."""
        gone = set(self.marks if ids is None else ids)
        self.range_from = None
        self.marks = {number: letter for number, letter in self.marks.items() if number not in gone}
        self._repaint([row for row, letter in enumerate(self.letters) if letter.id in gone])

    def action_mark(self, by: int, keep: bool = False) -> None:
        """Mark the letter under the cursor, or unmark it unless it is to ``keep`` its mark; go on."""
        letter = self.selected
        if letter is None:
            return
        if letter.id in self.marks and not keep:
            del self.marks[letter.id]
        else:
            self.marks[letter.id] = letter
        self._repaint([self.cursor_row])
        if 0 <= self.cursor_row + by < len(self.letters):
            self.move_cursor(row=self.cursor_row + by, animate=False)

    def action_range(self) -> None:
        """Begin a range at the cursor, or mark all up to it."""
        if self.range_from is None:
            self.range_from = self.cursor_row if self.letters else None
            self.post_message(self.MarksChanged())
            return
        rows = range(min(self.range_from, self.cursor_row), max(self.range_from, self.cursor_row) + 1)
        self.range_from = None
        self.marks |= {letter.id: letter for letter in (self.letters[row] for row in rows)}
        self._repaint(rows)

    def action_unmark(self) -> None:
        """Unmark all."""
        self.unmark()

    def _repaint(self, rows: Iterable[int]) -> None:
        for row in rows:
            letter = self.letters[row]
            sign = letter_text.signs(letter, marked=self.is_marked(letter))
            self.update_cell(str(letter.id), "", sign)
        self.post_message(self.MarksChanged())
