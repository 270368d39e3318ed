"""The line of lists within a view: a click shows one."""

from __future__ import annotations

from collections.abc import Mapping

from textual import events
from textual.message import Message

from tui.text.jobs import tab_bar
from tui.widgets.line import Line


class StateBar(Line):
    """Shows the states of jobs with their counts; the one that is listed stands out."""

    class Chosen(Message):
        """The operator clicked a state."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.columns: dict[str, range] = {}
        """The span of each, by its name."""

    def show_states(self, current: str, counts: Mapping[str, int | None], query: str, width: int) -> None:
        """Show these counts."""
        text, self.columns = tab_bar(current, counts, query, width)
        self.show(text)

    def on_click(self, event: events.Click) -> None:
        """Choose the state that was clicked."""
        for name, columns in self.columns.items():
            if event.x in columns:
                self.post_message(self.Chosen(name))
