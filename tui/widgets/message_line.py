"""A line that shows a hint or an error."""

from __future__ import annotations

from textual.widgets import Static


class MessageLine(Static):
    """An error has a sign, so that it can be seen without colours."""

    def __init__(self, text: str = "", *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(text, id=id, classes=classes, markup=False)

    def show(self, message: str) -> None:
        """Show a hint."""
        self.update(message)
        self.remove_class("-wrong")

    def show_error(self, message: str) -> None:
        """Show an error."""
        self.update(f"▲ {message}")
        self.add_class("-wrong")
