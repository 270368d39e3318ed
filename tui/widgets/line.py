"""A line of text that is painted again only when it has changed."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static


class Line(Static):
    """Shows text literally: markup in it is not interpreted."""

    def __init__(self, text: str = "", *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(text, id=id, classes=classes, markup=False)
        self._shown: object = text

    def show(self, text: Text | str) -> None:
        """Replace the text."""
        content = text if isinstance(text, str) else (text.plain, tuple(text.spans), text.style)
        if content != self._shown:
            self._shown = content
            self.update(text)
