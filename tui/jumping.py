"""The targets of jump mode: all that can be focused, and the tabs."""

from __future__ import annotations

from functools import partial
from typing import Any

from textual.geometry import Offset
from textual.screen import Screen

from tui.navigation import OpenView
from tui.widgets.jump import Target
from tui.widgets.state_bar import StateBar
from tui.widgets.tab_bar import TabBar


def jump_targets(screen: Screen[Any]) -> list[Target]:
    """Return the parts of a screen that are shown."""
    region = screen.size.region
    targets = [
        Target(widget.region.offset, partial(widget.focus))
        for widget in screen.focus_chain
        if widget.region.overlaps(region)
    ]
    for bar in (*screen.query(TabBar), *screen.query(StateBar)):
        message = OpenView if isinstance(bar, TabBar) else StateBar.Chosen
        for name, columns in bar.columns.items():
            position = bar.region.offset + Offset(columns.start, 0)
            targets.append(Target(position, partial(bar.post_message, message(name))))
    return targets
