"""A thin line with a title at its left, and a figure or keys at its right."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widget import Widget

from tui.keymap import with_keys
from tui.text.styles import ACCENT, MUTED, RULE

Keys = Sequence[tuple[str, str]]
"""Keys by their ids in braces, and what they do."""


class Rule(Widget):
    """Begins a section."""

    DEFAULT_CSS = "Rule { height: 1; margin-top: 1; }"

    def __init__(self, title: str = "", *, keys: Keys = (), id: str | None = None) -> None:
        super().__init__(id=id)
        self._title, self._detail, self._keys = title, "", tuple(keys)

    def show(self, title: str, detail: str = "", keys: Keys | None = None) -> None:
        """Replace what it shows; ``keys`` None: they stay."""
        content = (title, detail, self._keys if keys is None else tuple(keys))
        if content != (self._title, self._detail, self._keys):
            self._title, self._detail, self._keys = content
            self.refresh()

    def render(self) -> Text:
        """Render the line over the whole width; keys that have no room are left out."""
        width = self.size.width
        left = Text.assemble((f" {self._title}", "bold"))
        if self._detail:
            left.append(f" · {self._detail}", MUTED)
        left.append(" ")
        right = Text()
        for key, does in self._keys:
            right.append(f"  {with_keys(self, key)} ", ACCENT).append(does, MUTED)
        right.append(" ")
        if left.cell_len + right.cell_len + 2 > width:
            right = Text(" ")
        left.truncate(width, overflow="ellipsis")
        line = "─" * max(0, width - left.cell_len - right.cell_len)
        return Text.assemble(left, (line, RULE), right, no_wrap=True, overflow="crop")
