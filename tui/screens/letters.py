"""Dead letters: all of them, a page at a time, the newest first."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from tui.format import count
from tui.screens.view import View
from tui.widgets.letters import LetterTable

_PAGE = 100


class Letters(View):
    """One window of rows; ``n`` and ``b`` go to the next and back."""

    HELP = "Every dead letter, the newest first, a page at a time."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "page(1)", "Next"),
        Binding("b", "page(-1)", "Page before", show=False),
        Binding("r", "reload", "Reload", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._cursors: list[str | None] = [None]
        """Of the pages from the first to the one that is shown."""
        self._next: str | None = None

    def body(self) -> ComposeResult:
        """A title and the table."""
        yield Static("", id="letters-title", classes="rule", markup=False)
        yield LetterTable(id="letters")
        yield Static("  nothing has died", id="no-letters")

    def on_screen_resume(self) -> None:
        """The first page, as it is now."""
        super().on_screen_resume()
        self.look_again()

    def look_again(self) -> None:
        """Read the page that is shown anew."""
        self.read_page()

    def action_reload(self) -> None:
        """The first page, as it is now."""
        self._cursors = [None]
        self.read_page()

    def action_page(self, by: int) -> None:
        """The next page, or the one before."""
        if by > 0 and self._next is not None:
            self._cursors.append(self._next)
        elif by < 0 and len(self._cursors) > 1:
            self._cursors.pop()
        else:
            self.notify("this is the last page" if by > 0 else "this is the first page")
            return
        self.read_page()

    @work(exclusive=True, group="letters")
    async def read_page(self) -> None:
        """Read the page at the last cursor."""
        page = await self.dashboard.attempt(
            self.dashboard.operations.dead_letters(limit=_PAGE, cursor=self._cursors[-1])
        )
        if page is None:
            return
        self._next = page.next
        snapshot = self.dashboard.snapshot
        table = self.query_one(LetterTable)
        table.show(page.items, snapshot.taken_at if snapshot else 0.0, self.size.width)
        table.display = bool(page.items)
        self.query_one("#no-letters").display = not page.items
        total = count(snapshot.dead_letters) if snapshot else "–"
        more = " · more with n" if page.next else ""
        self.query_one("#letters-title", Static).update(
            f"─ Dead letters · {total} · page {len(self._cursors)}{more} "
        )
        if page.items and self.focused is None:
            table.focus()
