"""The filter of a list: shown as a line, and edited as an input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Static

from tui.keymap import key_name, with_keys
from tui.text.completion import Values, candidates, complete
from tui.text.format import clip, escape
from tui.widgets.message_line import MessageLine
from workers.operations.operations import OPERATION_ERRORS

_MAX_FILTER_CHARS = 1_000
_KEYS = "enter apply · {filter.cancel} cancel"


class _Completion(Suggester):
    """Shows behind the cursor how the word that is being written goes on."""

    def __init__(self, values: Callable[[], Values]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._values = values

    async def get_suggestion(self, value: str) -> str | None:
        """Return the text with its last word completed."""
        return complete(value, self._values())


class FilterBar(Vertical):
    """Shows the filter if there is one; `open` turns it into an input.

    ``parse`` turns text into a filter, or raises one of OPERATION_ERRORS.  ``values`` returns the names of
    its fields, and what is known of their values.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Keep the filter", show=False),
        Binding("tab", "complete", "Complete the word", show=False),
    ]

    class Submitted(Message):
        """The operator entered this filter."""

        def __init__(self, filter: Any) -> None:
            super().__init__()
            self.filter = filter

    class Cancelled(Message):
        """The operator keeps the filter."""

    def __init__(
        self,
        *,
        parse: Callable[[str], Any],
        placeholder: str,
        values: Callable[[], Values] = dict,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._values = values
        self._parse = parse
        self._placeholder = placeholder

    def compose(self) -> ComposeResult:
        """Compose the line as text, as input, and a hint below."""
        field = Input(
            placeholder=self._placeholder,
            id="filter-input",
            max_length=_MAX_FILTER_CHARS,
            compact=True,
            suggester=_Completion(self._values),
        )
        field.display = self.display = False
        field.can_focus = False  # else it would be focused although it is not shown
        yield Static("", id="filter-text", markup=False)
        yield field
        yield MessageLine(id="filter-hint")

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
        self._show_candidates()
        self._hint.display = True
        self.display = True
        field.focus()

    def close(self, text: str) -> None:
        """Hide the input, and show the filter's text, if any."""
        field = self.query_one(Input)
        field.display = field.can_focus = False
        self._hint.display = False
        line = self.query_one("#filter-text", Static)
        line.update(f" / {escape(text)}")
        line.display = self.display = bool(text)

    def on_input_changed(self) -> None:
        """Show what the word can become; the text may have no error any more."""
        if self.is_open:
            self._show_candidates()

    def _show_candidates(self) -> None:
        words = "  ".join(escape(word) for word in candidates(self.query_one(Input).value, self._values()))
        keys = with_keys(self, _KEYS)
        if words:
            keys += f" · {key_name(self, 'filter.complete')} completes: {words}"
        width = self.size.width or self.screen.size.width  # the first time it is not laid out yet
        self._hint.show(clip(keys, max(20, width - 4)))

    def action_complete(self) -> None:
        """Complete the last word."""
        field = self.query_one(Input)
        text = complete(field.value, self._values())
        if text is not None:
            field.value = text
            field.cursor_position = len(text)

    def show_error(self, message: str) -> None:
        """Show what is wrong with the filter."""
        self._hint.show_error(message)

    @property
    def _hint(self) -> MessageLine:
        return self.query_one(MessageLine)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Submit the filter if the text is one."""
        event.stop()
        try:
            filter_ = self._parse(event.value)
        except OPERATION_ERRORS as error:
            self.show_error(escape(str(error)))
            return
        self._hint.show("reading …")
        self.post_message(self.Submitted(filter_))

    def action_cancel(self) -> None:
        """Keep the filter."""
        self.post_message(self.Cancelled())
