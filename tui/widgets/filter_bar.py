"""The filter of a list: shown as a line, and edited as an input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from tui.text.format import escape
from workers.operations.operations import OPERATION_ERRORS


class FilterBar(Vertical):
    """Shows the filter if there is one; `open` turns it into an input.

    ``parse`` turns text into a filter, or raises one of OPERATION_ERRORS.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Keep the filter", show=False)]

    class Submitted(Message):
        """The operator entered this filter."""

        def __init__(self, filter: Any) -> None:
            super().__init__()
            self.filter = filter

    class Cancelled(Message):
        """The operator keeps the filter."""

    def __init__(self, *, parse: Callable[[str], Any], placeholder: str, id: str | None = None) -> None:
        super().__init__(id=id)
        self._parse = parse
        self._placeholder = placeholder

    def compose(self) -> ComposeResult:
        """Compose the line as text, as input, and a hint below."""
        field = Input(placeholder=self._placeholder, id="filter-input", compact=True)
        field.display = self.display = False
        field.can_focus = False  # else it would be focused although it is not shown
        yield Static("", id="filter-text", markup=False)
        yield field
        yield Static("", id="filter-hint", markup=False)

    @property
    def is_open(self) -> bool:
        """Whether the input is shown."""
        return any(field.display for field in self.query(Input))

    def open(self, text: str) -> None:
        """Show the input with this text."""
        field = self.query_one(Input)
        field.value = text
        field.display = True
        field.can_focus = True
        field.cursor_position = len(text)
        self.query_one("#filter-text").display = False
        self.show_hint("enter apply · esc cancel")
        self.display = True
        field.focus()

    def close(self, text: str) -> None:
        """Hide the input, and show the filter's text, if any."""
        field = self.query_one(Input)
        field.display = field.can_focus = False
        self.query_one("#filter-hint").display = False
        line = self.query_one("#filter-text", Static)
        line.update(f" / {escape(text)}")
        line.display = self.display = bool(text)

    def show_hint(self, message: str) -> None:
        """Show a message below the input."""
        self._show(message, wrong=False)

    def show_error(self, message: str) -> None:
        """Show what is wrong with the filter."""
        self._show(f"▲ {message}", wrong=True)

    def _show(self, message: str, *, wrong: bool) -> None:
        hint = self.query_one("#filter-hint", Static)
        hint.update(f"   {escape(message)}")
        hint.set_class(wrong, "-wrong")
        hint.display = True

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Submit the filter if the text is one."""
        event.stop()
        try:
            filter_ = self._parse(event.value)
        except OPERATION_ERRORS as error:
            self.show_error(str(error))
            return
        self.show_hint("reading …")
        self.post_message(self.Submitted(filter_))

    def action_cancel(self) -> None:
        """Keep the filter."""
        self.post_message(self.Cancelled())
