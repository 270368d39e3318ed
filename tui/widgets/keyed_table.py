"""A table of one window of rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable


class Rows(DataTable[object]):
    """Rows are replaced as a whole, and the cursor stays on the row of its key, else where it was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Open"),
        Binding("k", "cursor_up", "Up", show=False),
        Binding("j", "cursor_down", "Down", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False, show_row_labels=False, cell_padding=1)
        self.keys: list[str] = []
        """Of the rows, in their order."""

    def is_marked(self, item: Any) -> bool:
        """Whether what a row shows is one of those that the next act is about."""
        return False

    def fill(
        self,
        columns: Mapping[str, int],
        rows: Mapping[str, Sequence[Text]],
        *,
        right: Collection[str] = (),
    ) -> None:
        """Show ``rows``, by key, in ``columns`` of these widths; the titles of some stand on the right."""
        before, place = self.keys, self.cursor_row
        self.clear(columns=True)
        for name, room in columns.items():
            self.add_column(name.rjust(room) if name in right else name, key=name, width=room)
        for key, cells in rows.items():
            self.add_row(*cells, key=key)
        self.keys = list(rows)
        if 0 <= place < len(before):
            stays = before[place] in rows
            self.move_cursor(row=self.keys.index(before[place]) if stays else place, animate=False)
