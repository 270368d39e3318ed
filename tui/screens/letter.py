"""One dead letter: payload, and every attempt with its traceback."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui import text
from tui.screens.view import View
from workers.operations import DeadLetter


class LetterView(View):
    """Scrolls; ``R`` replays it."""

    HELP = "One dead letter: what it was asked to do, and how each attempt ended."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        Binding("R", "replay_it", "Replay"),
    ]

    def __init__(self, letter: DeadLetter) -> None:
        super().__init__()
        self._letter = letter

    def body(self) -> ComposeResult:
        """One long text."""
        yield Static(f"─ Dead letter {self._letter.id} ", classes="rule", markup=False)
        with VerticalScroll(id="detail"):
            yield Static(text.letter_detail(self._letter), markup=False)

    def action_replay_it(self) -> None:
        """Ask, then replay."""
        self.replay(self._letter)
