"""The newest replay plans: what became of each."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from tui.dialogs.plan import Progress
from tui.screens.base import View
from tui.text import plans as plan_text
from tui.text.words import plural
from tui.widgets.keyed_table import Rows
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import Plan

_NEWEST = 50


class Plans(View):
    """Enter opens a plan, where it can be paused, resumed and cancelled."""

    HELP = "Replay plans, the newest first: what was selected, what became of it."
    SIGNS = (
        "▸  is carried out     ●  all are enqueued     ‖  paused     ×  cancelled",
        "▲  halted by itself, or interrupted: nobody carries it out; enter, then space goes on",
        "?  Redis does not say whether a process carries it out",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "reload", "Reload", show=False),
        Binding("escape,backspace", "app.pop_screen", "Back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._plans: list[Plan] = []

    def body(self) -> ComposeResult:
        """A title and the table."""
        yield Static("─ Plans ", id="plans-title", classes="rule", markup=False)
        yield Rows(id="plans")

    def on_screen_resume(self) -> None:
        """The plans as they are now."""
        super().on_screen_resume()
        self.action_reload()

    def show(self, snapshot: Snapshot | None, problem: str | None) -> None:
        """As long as one should run the list is read with each snapshot: its process may come and go."""
        super().show(snapshot, problem)
        if self.is_active and any(plan.state == "running" for plan in self._plans):
            self.action_reload()

    def action_reload(self) -> None:
        """Read the list, unless it is being read."""
        if not any(worker.group == "plans" and worker.is_running for worker in self.workers):
            self.read()

    @work(group="plans")
    async def read(self) -> None:
        """Read the list."""
        plans = await self.dashboard.attempt(self.dashboard.operations.letters.plans(_NEWEST))
        if plans is None:
            return
        self._plans = plans
        table = self.query_one(Rows)
        columns = plan_text.plan_columns(self.size.width)
        rows = {str(plan.id): plan_text.plan_cells(plan, columns) for plan in plans}
        table.fill(columns, rows, right=plan_text.RIGHT_ALIGNED)
        said = plural(len(plans), "plan") if plans else "none yet: R replays letters by a plan"
        self.query_one("#plans-title", Static).update(f"─ Plans · {said} ")
        if self.focused is None:
            table.focus()

    def on_data_table_row_selected(self, event: Rows.RowSelected) -> None:
        """Enter, or a click on the row under the cursor: how the plan goes."""
        if event.cursor_row < len(self._plans):
            self.app.push_screen(Progress(self._plans[event.cursor_row].id))
