"""One dead letter: payload, each attempt with its traceback, and its replays."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui.dialogs.edit_payload import payload_text
from tui.screens.dead_letters.actions import LetterActions
from tui.session import Session
from tui.text import dead_letters as letter_text
from tui.text.format import escape_lines
from tui.widgets.rule import Rule
from workers.operations.operations import DeadLetter


class LetterScreen(LetterActions):
    """A text to scroll through, with the actions on the letter."""

    HELP = "One dead letter: its payload, how each attempt ended, and how its replays ended."
    LEGEND = (letter_text.POISON_LEGEND,)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        Binding("R", "replay", "Replay"),
        Binding("e", "edit", "Edit"),
        Binding("d", "discard", "Discard"),
        Binding("u", "restore", "Undo a discard, restore", show=False),
        Binding("E", "export", "Export", show=False),
        Binding("y", "copy", "Copy the payload", show=False),
        Binding("Y", "copy_traceback", "Copy the last traceback", show=False),
    ]

    def __init__(self, session: Session, letter: DeadLetter) -> None:
        super().__init__(session)
        self._letter = letter

    @property
    def subject(self) -> str:
        """The name of what the screen is about."""
        return f"letter {self._letter.id}"

    def compose_body(self) -> ComposeResult:
        """Compose the text."""
        yield Rule(f"Dead letter {self._letter.id}")
        with VerticalScroll(id="detail"):
            yield Static(self._text(), id="letter", markup=False)

    def on_mount(self) -> None:
        """Fetch its replays."""
        self.fetch_letter()

    def refresh_data(self) -> None:
        """Fetch the letter as it is now."""
        self.fetch_letter()

    @work(exclusive=True, group="letter")
    async def fetch_letter(self) -> None:
        """Show the letter as it is now, with its replays."""
        lineage = await self.session.read(self.letters.lineage(self._letter.id))
        if lineage is None:
            return
        self._letter = next((letter for letter, _ in lineage if letter.id == self._letter.id), self._letter)
        self.query_one("#letter", Static).update(self._text(lineage))

    def _text(self, lineage: letter_text.Lineage | None = None) -> Text:
        return letter_text.letter_detail(self._letter, lineage, self.session.snapshot)

    def text_to_copy(self) -> str:
        """Return the payload, as JSON."""
        return payload_text(self._letter)

    def action_copy_traceback(self) -> None:
        """Copy the last traceback, or else the error."""
        letter = self._letter
        last = letter.attempt_errors[-1] if letter.attempt_errors else {}
        traceback = (
            last.get("traceback") or letter.traceback or f"{letter.error_type}: {letter.error_message}"
        )
        self.copy(escape_lines(str(traceback)))

    def action_replay(self) -> None:
        """Ask, then replay it."""
        self.run_exclusive(self.replay_one, self._letter)

    def action_edit(self) -> None:
        """Replay it with another payload."""
        self.run_exclusive(self.edit, self._letter)

    def action_discard(self) -> None:
        """Ask, then discard it."""
        self.run_exclusive(self.discard, (self._letter.id,), f"letter {self._letter.id}")

    def action_restore(self) -> None:
        """Restore it if it is discarded, else undo the last discard."""
        if self._letter.state == "discarded":
            self.run_exclusive(self.restore, (self._letter.id,))
        else:
            self.run_exclusive(self.undo_discard)

    def action_export(self) -> None:
        """Write it to a file."""
        self.run_exclusive(self.export, (self._letter.id,), f"letter {self._letter.id}")
