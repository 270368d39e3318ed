"""The columns by which a list can be sorted."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.keymap import with_keys
from tui.text.sorting import Order, Sorting

_AS_LISTED = "as listed"
"""The order of rows that no column sorts."""
_KEYS = "enter or {order.select} sort, on the present column reverse   {order.leave} leave"


class OrderDialog(ModalScreen[tuple[Order | None] | None]):
    """Returns the chosen order in a tuple, since it may be None; None if the operator leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "select", "Sort, again reverse"),
        Binding("k", "move(-1)", "Up", show=False),
        Binding("j", "move(1)", "Down", show=False),
        Binding("escape", "leave", "Leave"),
    ]

    def __init__(self, sorting: Sorting[Any], order: Order | None) -> None:
        super().__init__()
        self._sorting = sorting
        self._order = order
        self._columns: list[str | None] = [*([] if sorting.default else [None])]
        self._columns += [column.name for column in sorting.columns]

    def compose(self) -> ComposeResult:
        """Compose the columns; the cursor is on the present one, so that the same key again reverses it."""
        with Vertical(classes="dialog"):
            yield Static("Sort by", classes="title", markup=False)
            yield OptionList(
                *(Option(self._label(column)) for column in self._columns), markup=False, compact=True
            )
            if self._sorting.note:
                yield Static(self._sorting.note, classes="keys", markup=False)
            yield Static(with_keys(self, _KEYS), classes="keys", markup=False)

    def on_mount(self) -> None:
        """Put the cursor on the present column."""
        present = None if self._order is None else self._order.column
        self.query_one(OptionList).highlighted = (
            self._columns.index(present) if present in self._columns else 0
        )

    def _label(self, column: str | None) -> str:
        present = self._order is not None and column == self._order.column
        sign = "●" if present or (column is None and self._order is None) else " "
        return f"{sign} {self._order if present else column or _AS_LISTED}"

    def action_select(self) -> None:
        """Choose the column under the cursor."""
        self.query_one(OptionList).action_select()

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        columns = self.query_one(OptionList)
        columns.action_cursor_down() if step > 0 else columns.action_cursor_up()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Return the order."""
        column = self._columns[event.option_index]
        self.dismiss((None if column is None else self._sorting.choose(column, self._order),))

    def action_leave(self) -> None:
        """Keep the present order."""
        self.dismiss(None)
