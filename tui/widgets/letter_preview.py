"""The dead letter or the group under the cursor, beside the list."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll

from tui.text.letter_preview import group_preview, letter_preview
from tui.widgets.line import Line
from tui.widgets.rule import Rule
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import DeadLetter, FailureGroup


class LetterPreview(Vertical):
    """A letter is painted again only if it is another one, a group also for its age."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._item: DeadLetter | FailureGroup | None = None

    def compose(self) -> ComposeResult:
        """Compose a title and a text to scroll through."""
        yield Rule(id="preview-title")
        with VerticalScroll(id="preview-text", can_focus=False):
            yield Line(id="preview")

    def show(
        self, item: DeadLetter | FailureGroup | None, now: float, snapshot: Snapshot | None = None
    ) -> None:
        """Show an item, or nothing."""
        self.set_class(item is None, "-empty")
        is_other, self._item = item is not self._item, item
        if item is None or not (is_other or isinstance(item, FailureGroup)):
            return
        title, line = self.query_one(Rule), self.query_one("#preview", Line)
        if isinstance(item, DeadLetter):
            title.show(f"Letter {item.id}", keys=(("{list.open}", "all of it"),))
            line.show(letter_preview(item, snapshot))
        else:
            title.show(f"Group {item.fingerprint}", keys=(("{list.open}", "its letters"),))
            line.show(group_preview(item, now))
        if is_other:
            self.query_one("#preview-text").scroll_home(animate=False)
