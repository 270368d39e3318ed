"""Tables of replay plans, and of the letters of one."""

from __future__ import annotations

from collections.abc import Sequence

from tui.navigation import OpenPlan
from tui.text import plans as plan_text
from tui.widgets.keyed_table import KeyedTable
from workers.operations.operations import Plan, PlanItem


class PlanTable(KeyedTable[Plan]):
    """The newest plans first."""

    def show_plans(self, plans: Sequence[Plan], width: int) -> None:
        """Show these plans on ``width`` columns."""
        columns = plan_text.plan_columns(width)
        rows = {str(plan.id): plan_text.plan_cells(plan, columns) for plan in plans}
        self.set_rows(plans, columns, rows, right_aligned=plan_text.RIGHT_ALIGNED)

    def open_item(self, item: Plan) -> None:
        """Show how a plan goes."""
        self.post_message(OpenPlan(item.id))


class PlanItemTable(KeyedTable[PlanItem]):
    """The letters of one plan."""

    def show_items(self, items: Sequence[PlanItem]) -> None:
        """Show these letters."""
        columns = plan_text.item_columns(self.size.width)
        rows = {str(item.id): plan_text.item_cells(item, columns) for item in items}
        self.set_rows(items, columns, rows, right_aligned=("letter",))
