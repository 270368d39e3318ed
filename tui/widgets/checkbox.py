"""A box that is ticked or not, which can be seen without colours, too."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Checkbox


class Tick(Checkbox):
    """``[X]`` or ``[ ]``, and what it means."""

    def __init__(self, label: str, *, id: str | None = None) -> None:
        super().__init__(label, id=id, compact=True)

    def render(self) -> Content:
        """The sign goes with the value."""
        return Content.assemble(f"[{'X' if self.value else ' '}] ", self._label)
