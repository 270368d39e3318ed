"""The newest replay plans, and how each goes."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui.keymap import with_keys
from tui.screens.base import DashboardScreen
from tui.widgets.plan_table import PlanTable
from tui.widgets.rule import Rule
from workers.monitoring.snapshot import Snapshot
from workers.words import plural

_MAX_PLANS = 50

_NONE_YET = "none yet: {letters.replay} replays letters by a plan"


class PlansScreen(DashboardScreen):
    """Enter opens a plan, which can then be paused, resumed and cancelled."""

    NOT_SORTED = "plans have one order only: the newest first"
    HELP = "Replay plans, the newest first: which letters, and how their replays ended."
    LEGEND = (
        "▸  running     ●  all letters are enqueued     ‖  paused     ×  cancelled",
        "▲  halted by its limit, or interrupted: no process runs it; {list.open}, then {plan.pause} resumes",
        "?  Redis does not answer whether a process runs it",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "reload", "Reload", show=False),
        Binding("escape,backspace", "app.pop_screen", "Back"),
    ]

    def compose_body(self) -> ComposeResult:
        """Compose a title and the table."""
        yield Rule("Plans", id="plans-title")
        yield PlanTable(id="plans")

    def on_screen_resume(self) -> None:
        """Fetch the plans as they are now."""
        self.action_reload()

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot; fetch the plans again while one should run, since its process may come and go."""
        super().update_snapshot(snapshot, error)
        if self.is_active and any(plan.state == "running" for plan in self.query_one(PlanTable).items):
            self.action_reload()

    def action_reload(self) -> None:
        """Fetch the plans, unless they are being fetched."""
        if not any(worker.group == "plans" and worker.is_running for worker in self.workers):
            self.fetch_plans()

    @work(group="plans")
    async def fetch_plans(self) -> None:
        """Show the plans as they are now."""
        plans = await self.session.run(self.session.operations.replays.plans(_MAX_PLANS))
        if plans is None:
            return
        table = self.query_one(PlanTable)
        table.show_plans(plans, self.size.width)
        label = plural(len(plans), "plan") if plans else with_keys(self, _NONE_YET)
        self.query_one("#plans-title", Rule).show("Plans", label)
        if self.focused is None:
            table.focus()
