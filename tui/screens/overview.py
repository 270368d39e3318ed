"""Overview: the queues, their last hour, and the newest dead letters."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from tui.dialogs.prompt import Prompt
from tui.screens.dead_letters.actions import LetterActions
from tui.session import Session
from tui.text import dead_letters as letter_text
from tui.text import queues as queue_text
from tui.text.styles import WIDE
from tui.widgets.letter_table import LetterTable
from tui.widgets.queue_table import QueueTable
from workers.monitoring.snapshot import QueueSnapshot, Snapshot

_METRICS = ("depth", "throughput")
_MAX_LETTERS = 50
_HISTORY_MIN_HEIGHT = 28
"""Lines of a terminal from which the last hour has lines of its own."""


class OverviewScreen(LetterActions):
    """Shows whether the queues are healthy, which is not, and why."""

    HELP = "The four queues at this moment, the last hour of each, and the newest dead letters."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "metric", "Metric"),
        Binding("r", "reload", "Snapshot now", show=False),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._metric = _METRICS[0]
        self._letters_key: object = None
        """The counters and the width for which the letters were fetched; None: fetch them."""

    def compose_body(self) -> ComposeResult:
        """Compose the queues, their last hour, and the letters."""
        yield QueueTable(id="queues")
        with Vertical(id="history"):
            yield Static("", id="history-title", classes="rule", markup=False)
            yield Static("", id="history-rows")
        yield Static("Dead letters", id="list-title", classes="rule", markup=False)
        yield LetterTable(id="letters")
        yield Static("  not read yet", id="list-empty")

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot; fetch the letters again if its counters have changed."""
        super().update_snapshot(snapshot, error)
        if snapshot is None:
            return
        self.query_one(QueueTable).snapshot = snapshot
        self._show_history(snapshot)
        died = sum(queue.dead_lettered for queue in snapshot.queues)
        key = (snapshot.dead_letters, snapshot.letters_waiting, died, self.size.width)
        if key != self._letters_key and snapshot.database.error is None:
            self._letters_key = key
            self.fetch_letters(snapshot)

    def action_reload(self) -> None:
        """Take a snapshot now."""
        self.session.refresh(screens=True)

    def refresh_data(self) -> None:
        """Fetch the letters again with the next snapshot."""
        self._letters_key = None

    @work(exclusive=True, group="letters")
    async def fetch_letters(self, snapshot: Snapshot) -> None:
        """Show the newest letters."""
        page = await self.session.run(self.letters.page(limit=_MAX_LETTERS))
        if page is None:
            self._letters_key = None
            return
        table, empty = self.query_one(LetterTable), self.query_one("#list-empty", Static)
        table.show_letters(page.items, snapshot.taken_at, self.size.width)
        table.display = bool(page.items)
        empty.update("  nothing has died")
        empty.display = not page.items
        title = letter_text.newest_title(snapshot, page.items, complete=page.next is None)
        self.query_one("#list-title", Static).update(f"─ {title} ── 2 all ")

    def action_replay(self) -> None:
        """Replay the letter under the cursor."""
        letter = self.query_one(LetterTable).selected
        if letter is not None:
            self.run_exclusive(self.replay_one, letter)

    def action_metric(self) -> None:
        """Show another metric in the sparklines."""
        self._metric = _METRICS[(_METRICS.index(self._metric) + 1) % len(_METRICS)]
        self.query_one(QueueTable).metric = self._metric
        if self.session.snapshot is not None:
            self._show_history(self.session.snapshot)

    def on_queue_table_pause_requested(self, message: QueueTable.PauseRequested) -> None:
        """Ask for the reason, then pause; resume without a question."""
        self.toggle_pause(message.queue)

    @work
    async def toggle_pause(self, queue: QueueSnapshot) -> None:
        """Pause or resume a queue."""
        operations = self.session.operations
        if queue.paused is not None:
            if await self.session.run(operations.resume(queue.name)) is not None:
                self.notify(f"{queue.name} runs again")
        else:
            question = Prompt(
                f"Pause {queue.name}?",
                "No job of it starts, in any process, until it is resumed. Running jobs go on.",
                "pause",
                placeholder="reason, shown to all operators; may be empty",
            )
            reason = await self.app.push_screen_wait(question)
            if reason is None or await self.session.run(operations.pause(queue.name, reason)) is None:
                return
            self.notify(f"{queue.name} is paused")
        self.session.refresh()

    def _show_history(self, snapshot: Snapshot) -> None:
        width = self.size.width
        box = self.query_one("#history")
        box.display = width >= WIDE and self.size.height >= _HISTORY_MIN_HEIGHT
        unit = "depth" if self._metric == "depth" else "completed a minute"
        self.query_one("#history-title", Static).update(f"─ Last hour · {unit} ── m next metric ")
        rows = [queue_text.history_row(queue, self._metric, width) for queue in snapshot.queues]
        self.query_one("#history-rows", Static).update(Text("\n").join(rows))
