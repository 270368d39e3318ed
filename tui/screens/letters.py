"""Dead letters: all of them, a page at a time, the newest first."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from tui.format import MISSING, count
from tui.screens.view import View
from tui.widgets.letters import LetterTable
from workers.snapshot import Snapshot

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
        self._reading: list[str | None] | None = None
        """What ``_cursors`` will be when the page that is being read has arrived."""

    def body(self) -> ComposeResult:
        """A title and the table."""
        yield Static("", id="letters-title", classes="rule", markup=False)
        yield LetterTable(id="letters")
        yield Static("  not read yet", id="no-letters")

    def on_screen_resume(self) -> None:
        """The page that was shown, as it is now."""
        super().on_screen_resume()
        self.look_again()

    def show(self, snapshot: Snapshot | None, problem: str | None) -> None:
        """The title has the snapshot's total."""
        super().show(snapshot, problem)
        total = count(snapshot.dead_letters) if snapshot else MISSING
        more = " · more with n" if self._next else ""
        self.query_one("#letters-title", Static).update(
            f"─ Dead letters · {total} · page {len(self._cursors)}{more} "
        )

    def look_again(self) -> None:
        """Read the page that is shown anew."""
        self.read_page(self._cursors)

    def action_reload(self) -> None:
        """The first page, as it is now."""
        self.read_page([None])

    def action_page(self, by: int) -> None:
        """The next page, or the one before."""
        if by > 0 and self._next is not None:
            cursors = [*self._cursors, self._next]
        elif by < 0 and len(self._cursors) > 1:
            cursors = self._cursors[:-1]
        else:
            self.notify("this is the last page" if by > 0 else "this is the first page")
            return
        if cursors != self._reading:  # a key that is held down must not begin the same page again and again
            self.read_page(cursors)

    @work(exclusive=True, group="letters")
    async def read_page(self, cursors: list[str | None]) -> None:
        """Read the page at the last of ``cursors``; until it has arrived the page before stays as it is."""
        self._reading = cursors
        try:
            page = await self.dashboard.attempt(
                self.dashboard.operations.letters.page(limit=_PAGE, cursor=cursors[-1])
            )
        finally:
            if self._reading is cursors:  # else another page is being read already
                self._reading = None
        if page is None:
            return
        if not page.items and len(cursors) > 1:  # all of it was replayed
            self.read_page(cursors[:-1])
            return
        self._cursors, self._next = cursors, page.next
        snapshot = self.dashboard.snapshot
        table = self.query_one(LetterTable)
        table.show(page.items, snapshot.taken_at if snapshot else 0.0, self.size.width)
        table.display = bool(page.items)
        self.query_one("#no-letters", Static).update("  nothing has died")
        self.query_one("#no-letters").display = not page.items
        self.show(snapshot, self.dashboard.problem)
        if page.items and self.focused is None:
            table.focus()
