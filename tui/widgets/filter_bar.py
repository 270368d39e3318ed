"""What is shown, as a line that can be rewritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from tui.text.format import escape
from workers.operations.operations import OPERATION_ERRORS, LetterFilter

_WORDS = "queue: function: state:dead|replayed|discarded|all since:2h arg.NAME: poison:yes, words"


class FilterLine(Vertical):
    """Shows the filter where there is one; `edit` turns it into an input.

    ``read`` makes a filter of what was written, and raises one of FAILURES where it is none; ``words`` say
    what may be written.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave it", show=False)]

    class Wanted(Message):
        """The operator wants to see what this filter means."""

        def __init__(self, filter: Any) -> None:
            super().__init__()
            self.filter = filter

    class Left(Message):
        """The filter stays as it was."""

    def __init__(
        self, *, read: Callable[[str], Any] = LetterFilter.parse, words: str = _WORDS, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._read = read
        self._words = words

    def compose(self) -> ComposeResult:
        """The line as text, as input, and what is wrong with it."""
        field = Input(placeholder=self._words, id="filter-input", compact=True)
        field.display = self.display = False
        field.can_focus = False  # else it would be focused although it is not shown
        yield Static("", id="filter-text", markup=False)
        yield field
        yield Static("", id="filter-hint", markup=False)

    @property
    def is_open(self) -> bool:
        """Whether it is being rewritten."""
        return any(field.display for field in self.query(Input))

    def edit(self, line: str) -> None:
        """Open the input with ``line``."""
        field = self.query_one(Input)
        field.value = line
        field.display = True
        field.can_focus = True
        field.cursor_position = len(line)
        self.query_one("#filter-text").display = False
        self.tell("enter apply · esc leave it as it was")
        self.display = True
        field.focus()

    def close(self, line: str) -> None:
        """Close the input, and show the filter that holds, if there is one."""
        field = self.query_one(Input)
        field.display = field.can_focus = False
        self.query_one("#filter-hint").display = False
        shown = self.query_one("#filter-text", Static)
        shown.update(f" / {escape(line)}")
        shown.display = self.display = bool(line)

    def tell(self, message: str, *, wrong: bool = False) -> None:
        """A word below the input."""
        hint = self.query_one("#filter-hint", Static)
        hint.update(f"   {'▲ ' if wrong else ''}{escape(message)}")
        hint.set_class(wrong, "-wrong")
        hint.display = True

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """What was written, if it is a filter."""
        event.stop()
        try:
            wanted = self._read(event.value)
        except OPERATION_ERRORS as error:
            self.tell(str(error), wrong=True)
            return
        self.tell("reading …")
        self.post_message(self.Wanted(wanted))

    def action_leave(self) -> None:
        """Leave the filter as it was."""
        self.post_message(self.Left())
