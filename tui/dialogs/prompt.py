"""A question that is answered with a line of text."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui.keymap import key_name
from tui.widgets.message_line import MessageLine


class Prompt(ModalScreen[str | None]):
    """Asks for a line of text; None if the operator cancels.

    ``check`` returns what is wrong with an answer, or an empty text; a wrong answer keeps the dialog open.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(
        self,
        title: str,
        consequence: str,
        verb: str,
        *,
        value: str = "",
        placeholder: str = "",
        check: Callable[[str], str] = lambda _: "",
    ) -> None:
        super().__init__()
        self._title = title
        self._consequence = consequence
        self._verb = verb
        self._value = value
        self._placeholder = placeholder
        self._check = check

    def compose(self) -> ComposeResult:
        """Compose the question and an input."""
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="title", markup=False)
            yield Static(self._consequence, markup=False)
            yield Input(self._value, placeholder=self._placeholder, max_length=200)
            yield MessageLine(id="message")
            yield Static(
                f"enter {self._verb}   {key_name(self, 'prompt.cancel')} cancel", classes="keys", markup=False
            )

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer, unless something is wrong with the text."""
        answer = event.value.strip()
        problem = self._check(answer)
        if problem:
            self.query_one(MessageLine).show_error(problem)
        else:
            self.dismiss(answer)

    def action_cancel(self) -> None:
        """Cancel."""
        self.dismiss(None)
