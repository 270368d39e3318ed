"""Groups of dead letters: what went wrong, how often, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from tui.text import dead_letters as letter_text
from tui.widgets.keyed_table import Rows
from workers.operations.operations import FailureGroup


class GroupTable(Rows):
    """Those with the most letters first; the cursor stays on its group."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Its letters"),
        Binding("R", "screen.replay", "Replay"),
    ]

    class Opened(Message):
        """The operator wants to see the group's letters."""

        def __init__(self, group: FailureGroup) -> None:
            super().__init__()
            self.group = group

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.groups: tuple[FailureGroup, ...] = ()

    def show(self, groups: Sequence[FailureGroup], now: float, width: int) -> None:
        """Show these groups on ``width`` columns."""
        self.groups = tuple(groups)
        columns = letter_text.group_columns(width)
        rows = {group.fingerprint: letter_text.group_cells(group, columns, now=now) for group in groups}
        self.fill(columns, rows, right=("count",))

    @property
    def selected(self) -> FailureGroup | None:
        """The group under the cursor."""
        return self.groups[self.cursor_row] if 0 <= self.cursor_row < len(self.groups) else None

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click on the row under the cursor."""
        if self.selected is not None:
            self.post_message(self.Opened(self.selected))
