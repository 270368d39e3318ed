"""The changes of an edit to a payload: shown before it is replayed."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from tui.keymap import label_with_keys
from tui.text.payload_diff import changed_lines, payload_diff
from tui.widgets.line import Line
from workers.words import plural


class PayloadDiff(ModalScreen[bool]):
    """Asks the operator whether a letter is replayed with this payload; enter is no."""

    AUTO_FOCUS = "#no"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Replay"),
        Binding("n,escape", "answer(False)", "Edit again"),
        Binding("up,k", "scroll(-1)", "Up", show=False),
        Binding("down,j", "scroll(1)", "Down", show=False),
    ]

    def __init__(self, letter_id: int, before: Any, after: Any) -> None:
        super().__init__()
        self._letter_id = letter_id
        self._before, self._after = before, after

    def compose(self) -> ComposeResult:
        """Compose the lines, and two buttons."""
        removed, added = changed_lines(self._before, self._after)
        lines = f"{plural(removed, 'line')} removed, {added:,} added"
        question = f"Replay letter {self._letter_id} with this payload? {lines}"
        with Vertical(classes="dialog wide"):
            yield Static(question, classes="title", markup=False)
            with VerticalScroll(id="diff", can_focus=False):
                yield Line(id="diff-lines")
            with Horizontal(classes="buttons"):
                yield Button(label_with_keys(self, "Replay ({confirm.yes})"), id="yes", variant="primary")
                yield Button(label_with_keys(self, "Edit again ({confirm.no})"), id="no")

    def on_mount(self) -> None:
        """Show what differs."""
        self.query_one("#diff-lines", Line).show(payload_diff(self._before, self._after))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer by mouse or enter."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """Answer by key."""
        self.dismiss(yes)

    def action_scroll(self, lines: int) -> None:
        """Scroll the lines."""
        self.query_one("#diff").scroll_relative(y=lines, animate=False)
