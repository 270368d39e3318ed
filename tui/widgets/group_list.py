"""Groups of dead letters, the largest first: two lines for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.text.groups import group_lines
from tui.widgets.row_list import Row, RowList
from workers.operations.operations import FailureGroup


class GroupList(RowList[FailureGroup]):
    """Enter opens the letters of a group."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Its letters", key_display="enter"),
        Binding("R", "screen.replay", "Replay"),
    ]

    def show_groups(self, groups: Sequence[FailureGroup], now: float, width: int) -> None:
        """Show these groups on ``width`` columns."""
        self.show_rows(
            [Row(group.fingerprint, group, group_lines(group, now=now, width=width)) for group in groups]
        )
