"""The letters of one plan, by state, a page at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.text import plans as plan_text
from tui.text.words import REPLAY_STATE_LABELS, replay_state
from tui.widgets.keyed_table import Rows
from workers.operations.operations import PlanItem

if TYPE_CHECKING:
    from tui.app import Dashboard

_PAGE = 100
_STATES = (None, *REPLAY_STATE_LABELS)


class LedgerList(ModalScreen[None]):
    """Letters of one state, which ``s`` changes, or of all; enter opens one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "state(1)", "Next state"),
        Binding("S", "state(-1)", "State before"),
        Binding("n", "page(1)", "Next page"),
        Binding("b", "page(-1)", "Page before"),
        Binding("escape,l", "leave", "Close"),
    ]

    def __init__(self, plan_id: int) -> None:
        super().__init__()
        self._plan_id = plan_id
        self._state: str | None = None
        self._after = [0]
        """The items after which the pages begin, up to the one that is shown."""
        self._items: list[PlanItem] = []
        self._next_state: str | None = None
        """The state that was asked for last: its page may not have arrived."""

    def compose(self) -> ComposeResult:
        """A title and the table."""
        with Vertical(classes="dialog wide"):
            yield Static(f"Plan {self._plan_id}", id="ledger-title", classes="title", markup=False)
            yield Rows(id="items")
            yield Static("s next state   n b pages   enter the letter   esc close", classes="keys")

    def on_mount(self) -> None:
        """The first page."""
        self.call_after_refresh(self.read, self._state, self._after)

    @property
    def dashboard(self) -> Dashboard:
        """The app, as what it is."""
        return cast("Dashboard", self.app)

    @work(exclusive=True, group="items")
    async def read(self, state: str | None, after: list[int]) -> None:
        """One page; until it has arrived the one before stays as it is."""
        items = await self.dashboard.attempt(
            self.dashboard.operations.letters.plan_items(
                self._plan_id, state=state, limit=_PAGE, after=after[-1]
            )
        )
        if items is None:
            self._next_state = self._state
            return
        if not items and len(after) > 1:
            self.notify("this is the last page")
            return
        self._state, self._after, self._items = state, after, items
        table = self.query_one(Rows)
        columns = plan_text.item_columns(table.size.width)
        table.fill(
            columns, {str(item.id): plan_text.item_cells(item, columns) for item in items}, right=("letter",)
        )
        of = replay_state(state) if state else "all"
        self.query_one("#ledger-title", Static).update(
            f"Plan {self._plan_id}: {of}{'' if items else ': none'} · page {len(after)}"
        )

    def action_state(self, by: int) -> None:
        """The letters of the next state."""
        place = _STATES.index(self._next_state)
        self._next_state = _STATES[(place + by) % len(_STATES)]
        self.read(self._next_state, [0])

    def action_page(self, by: int) -> None:
        """The next page, or the one before."""
        if by > 0 and len(self._items) == _PAGE:
            self.read(self._state, [*self._after, self._items[-1].id])
        elif by < 0 and len(self._after) > 1:
            self.read(self._state, self._after[:-1])
        else:
            self.notify("this is the last page" if by > 0 else "this is the first page")

    @work(exclusive=True, group="letter")
    async def on_data_table_row_selected(self, event: Rows.RowSelected) -> None:
        """All of the letter."""
        from tui.screens.dead_letters.letter import LetterView

        if event.cursor_row >= len(self._items):
            return
        letter_id = self._items[event.cursor_row].letter_id
        letter = await self.dashboard.attempt(self.dashboard.operations.letters.get(letter_id))
        if letter is not None:
            self.app.push_screen(LetterView(letter))

    def action_leave(self) -> None:
        """Back to the plan."""
        self.dismiss(None)
