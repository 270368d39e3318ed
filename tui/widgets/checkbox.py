"""A checkbox whose value can be seen without colours."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Checkbox


class PlainCheckbox(Checkbox):
    """``[X]`` or ``[ ]``, and a label."""

    def __init__(self, label: str, *, id: str | None = None) -> None:
        super().__init__(label, id=id, compact=True)

    def render(self) -> Content:
        """Render the value as a character, then the label."""
        return Content.assemble(f"[{'X' if self.value else ' '}] ", self._label)
