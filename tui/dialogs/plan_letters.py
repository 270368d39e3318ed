"""The letters of one plan, by state, a page at a time."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.keymap import with_keys
from tui.navigation import OpenLetter
from tui.session import Session
from tui.text.words import REPLAY_STATE_LABELS, replay_state
from tui.widgets.plan_table import PlanItemTable

_PAGE_ROWS = 100
_STATES = (None, *REPLAY_STATE_LABELS)
_KEYS = (
    "{plan-letters.state-next} next state   {plan-letters.page-next} {plan-letters.page-previous} pages   "
    "{list.open} the letter   {plan-letters.leave} close"
)


class PlanLettersDialog(ModalScreen[None]):
    """Shows letters of one state, or all; ``t`` changes the state, enter opens a letter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "state(1)", "Next state"),
        Binding("T", "state(-1)", "State before"),
        Binding("n", "page(1)", "Next page"),
        Binding("b", "page(-1)", "Page before"),
        Binding("escape,l", "leave", "Close"),
    ]

    def __init__(self, session: Session, plan_id: int) -> None:
        super().__init__()
        self.session = session
        self._operations = session.operations
        self._plan_id = plan_id
        self._state: str | None = None
        self._target_state: str | None = None
        """The state that was asked for last: its page may not have arrived."""
        self._history = [0]
        """The items after which the pages begin, from the first page to this one."""

    def compose(self) -> ComposeResult:
        """Compose a title and the table."""
        with Vertical(classes="dialog wide"):
            yield Static(f"Plan {self._plan_id}", id="plan-letters-title", classes="title", markup=False)
            yield PlanItemTable(id="items")
            yield Static(with_keys(self, _KEYS), classes="keys", markup=False)

    def on_mount(self) -> None:
        """Fetch the first page when the width is known."""
        self.call_after_refresh(self.fetch_page, self._state, self._history)

    @work(exclusive=True, group="items")
    async def fetch_page(self, state: str | None, history: list[int]) -> None:
        """Show a page; until it has arrived the one before stays."""
        items = await self.session.run(
            self._operations.replays.plan_items(
                self._plan_id, state=state, limit=_PAGE_ROWS, after=history[-1]
            )
        )
        if items is None:
            self._target_state = self._state
            return
        if not items and len(history) > 1:
            self.notify("this is the last page")
            return
        self._state, self._history = state, history
        self.query_one(PlanItemTable).show_items(items)
        label = f"{replay_state(state) if state else 'all'}{'' if items else ': none'}"
        title = f"Plan {self._plan_id}: {label} · page {len(history)}"
        self.query_one("#plan-letters-title", Static).update(title)

    def action_state(self, step: int) -> None:
        """Show the letters of the next state."""
        index = _STATES.index(self._target_state)
        self._target_state = _STATES[(index + step) % len(_STATES)]
        self.fetch_page(self._target_state, [0])

    def action_page(self, step: int) -> None:
        """Show the next page, or the one before."""
        items = self.query_one(PlanItemTable).items
        if step > 0 and len(items) == _PAGE_ROWS:
            self.fetch_page(self._state, [*self._history, items[-1].id])
        elif step < 0 and len(self._history) > 1:
            self.fetch_page(self._state, self._history[:-1])
        else:
            self.notify("this is the last page" if step > 0 else "this is the first page")

    @work(exclusive=True, group="letter")
    async def on_data_table_row_selected(self) -> None:
        """Show all of the letter under the cursor."""
        item = self.query_one(PlanItemTable).selected
        if item is None:
            return
        letter = await self.session.run(self._operations.dead_letters.get(item.letter_id))
        if letter is not None:
            self.post_message(OpenLetter(letter))

    def action_leave(self) -> None:
        """Go back to the plan."""
        self.dismiss(None)
