"""The columns of tables fit the terminal, so that no table scrolls sideways."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tui.text.cache import entry_columns
from tui.text.dead_letters import group_columns, letter_columns
from tui.text.jobs import TABS, columns_for
from tui.text.plans import plan_columns

_SCROLL_BAR_CHARS = 1
_TABLES: dict[str, Callable[[int], Mapping[str, int]]] = {
    **{tab: lambda width, tab=tab: columns_for(tab, width) for tab in TABS},  # type: ignore[misc]
    "letters": letter_columns,
    "letters of all states": lambda width: letter_columns(width, marks=True, state=True),
    "groups": group_columns,
    "plans": plan_columns,
    "entries": entry_columns,
}


@pytest.mark.parametrize("table", _TABLES)
def test_columns_fit_every_width_of_a_terminal(table: str) -> None:
    for width in range(80, 241):
        columns = _TABLES[table](width)
        needed = sum(columns.values()) + 2 * len(columns) + _SCROLL_BAR_CHARS
        assert needed <= width, (width, columns)


def test_columns_that_do_not_fit_are_left_out_the_least_important_first() -> None:
    assert "expression" in columns_for("schedules", 160)
    assert {"function", "missed"}.isdisjoint(columns_for("schedules", 120))
    assert "last" in columns_for("schedules", 120)
    assert {"worker", "progress"} <= set(columns_for("running", 120))
    assert "function" not in columns_for("running", 120)
