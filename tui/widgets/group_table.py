"""A table of groups of dead letters: what went wrong, how often, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from tui.text import dead_letters as letter_text
from tui.widgets.keyed_table import KeyedTable
from workers.operations.operations import FailureGroup


class GroupTable(KeyedTable[FailureGroup]):
    """The groups with the most letters first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Its letters", key_display="enter"),
        Binding("R", "screen.replay", "Replay"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns: dict[str, int] = {}

    class Opened(Message):
        """The operator asked for the group's letters."""

        def __init__(self, group: FailureGroup) -> None:
            super().__init__()
            self.group = group

    def show_groups(self, groups: Sequence[FailureGroup], now: float, width: int) -> None:
        """Show these groups on ``width`` columns; if nothing differs nothing is painted."""
        columns = letter_text.group_columns(width)
        if (tuple(groups), columns, self.order) == (self.items, self._columns, self.shown_order):
            return
        self._columns = columns
        rows = {group.fingerprint: letter_text.group_cells(group, columns, now=now) for group in groups}
        self.set_rows(groups, columns, rows, right_aligned=("count",))

    def open_item(self, item: FailureGroup) -> None:
        """Ask for the group's letters."""
        self.post_message(self.Opened(item))
