"""A question that is answered with yes or no."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from tui.keymap import label_with_keys


class Confirm(ModalScreen[bool]):
    """Asks for yes or no, after a sentence about the consequence; enter is no."""

    AUTO_FOCUS = "#no"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def __init__(self, title: str, consequence: str, verb: str, *, no: str = "Cancel") -> None:
        """``no``: the other button, for a question about cancelling."""
        super().__init__()
        self._title = title
        self._consequence = consequence
        self._verb, self._no = verb, no

    def compose(self) -> ComposeResult:
        """Compose the question and two buttons."""
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="title", markup=False)
            yield Static(self._consequence, markup=False)
            with Horizontal(classes="buttons"):
                yield Button(
                    label_with_keys(self, f"{self._verb} ({{confirm.yes}})"), id="yes", variant="primary"
                )
                yield Button(label_with_keys(self, f"{self._no} ({{confirm.no}})"), id="no")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer by mouse or enter."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """Answer by key."""
        self.dismiss(yes)
