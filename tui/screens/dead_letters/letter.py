"""One dead letter: payload, every attempt with its traceback, and what it came of."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui.screens.dead_letters.actions import Acts
from tui.text import dead_letters as letter_text
from workers.operations.operations import DeadLetter


class LetterView(Acts):
    """Scrolls; ``R`` replays it."""

    HELP = "One dead letter: what it was asked to do, how each attempt ended, and what it came of."
    SIGNS = ("×3 poison: died so often in a row of the same error; a plan leaves it out",)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        Binding("R", "replay", "Replay"),
        Binding("e", "edit", "Edit"),
        Binding("d", "discard", "Discard"),
        Binding("u", "restore", "Undo a discard, restore", show=False),
        Binding("E", "export", "Export", show=False),
    ]

    def __init__(self, letter: DeadLetter) -> None:
        super().__init__()
        self._letter = letter

    def body(self) -> ComposeResult:
        """One long text."""
        yield Static(f"─ Dead letter {self._letter.id} ", classes="rule", markup=False)
        with VerticalScroll(id="detail"):
            yield Static(letter_text.letter_detail(self._letter), id="letter", markup=False)

    def on_mount(self) -> None:
        """What it came of is read meanwhile."""
        self.read()

    def look_again(self) -> None:
        """The letter as it is now."""
        self.read()

    @work(exclusive=True, group="letters")
    async def read(self) -> None:
        """The letter as it is now, with its replays."""
        lineage = await self.dashboard.attempt(self.letters.lineage(self._letter.id))
        if lineage is None:
            return
        self._letter = next((each for each, _ in lineage if each.id == self._letter.id), self._letter)
        self.query_one("#letter", Static).update(letter_text.letter_detail(self._letter, lineage))

    def action_replay(self) -> None:
        """Ask, then replay."""
        self.act(self.replay_one, self._letter)

    def action_edit(self) -> None:
        """Replay it with another payload."""
        self.act(self.edit, self._letter)

    def action_discard(self) -> None:
        """Ask, then hide it."""
        self.act(self.discard, (self._letter.id,), f"letter {self._letter.id}")

    def action_restore(self) -> None:
        """This one, where it was discarded, else what was discarded last."""
        if self._letter.state == "discarded":
            self.act(self.restore, (self._letter.id,))
        else:
            self.act(self.restore_last)

    def action_export(self) -> None:
        """Into a file."""
        self.act(self.export, (self._letter.id,), f"letter {self._letter.id}")
