"""The footer: the keys of what is focused, then those of every screen."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.screen import Screen

from tui.text.styles import ACCENT, MUTED
from tui.widgets.line import Line

_GAP = "  "
_ALWAYS = frozenset({"help", "quit"})
"""The actions whose keys always have room: one lists all others, the other ends the program."""


class KeyBar(Line):
    """Leaves out whole keys if there is no room; a click presses a key."""

    DEFAULT_CSS = "KeyBar { dock: bottom; height: 1; }"

    def __init__(self, *, shows: Callable[[Binding], bool] = attrgetter("show")) -> None:
        """``shows`` chooses the keys, for which there may be no room."""
        super().__init__()
        self._shows = shows
        self._keys: dict[str, range] = {}
        """The span of each key."""

    def on_mount(self) -> None:
        """Follow the focus."""
        self.screen.bindings_updated_signal.subscribe(self, self._show_keys)
        self._show_keys(self.screen)

    def on_resize(self) -> None:
        """Fit the keys to the width."""
        self._show_keys(self.screen)

    def _show_keys(self, screen: Screen[Any]) -> None:
        if screen is not self.screen:
            return
        entries: dict[str, tuple[str, Text]] = {}
        for active in screen.active_bindings.values():
            binding = active.binding
            if self._shows(binding) and active.enabled and binding.action not in entries:
                label = Text.assemble(
                    (self.app.get_key_display(binding), ACCENT), (f" {binding.description}", MUTED)
                )
                entries[binding.action] = (binding.key, label)
        self._keys = {}
        text = Text(" ", no_wrap=True, overflow="crop")
        for key, label in _fitting_keys(entries, self.size.width or self.app.size.width):
            text.append(_GAP if self._keys else "")
            self._keys[key] = range(text.cell_len, text.cell_len + label.cell_len)
            text.append_text(label)
        self.show(text)

    def on_click(self, event: events.Click) -> None:
        """Press the key that was clicked."""
        for key, columns in self._keys.items():
            if event.x in columns:
                self.app.simulate_key(key)


def _fitting_keys(entries: dict[str, tuple[str, Text]], width: int) -> list[tuple[str, Text]]:
    """Return the first keys for which there is room, and those that always have it."""
    width_left = width - 1 + len(_GAP)  # none follows the last one
    width_left -= sum(entries[action][1].cell_len + len(_GAP) for action in _ALWAYS & entries.keys())
    fitting = []
    for action, (key, label) in entries.items():
        needed = 0 if action in _ALWAYS else label.cell_len + len(_GAP)
        if needed <= width_left:
            fitting.append((key, label))
            width_left -= needed
    return fitting
