"""Overview: are the queues healthy, which is not, and why."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from tui.dialogs.common import Ask
from tui.screens.dead_letters.actions import Acts
from tui.text import dead_letters as letter_text
from tui.text import queues as queue_text
from tui.text.styles import WIDE
from tui.widgets.letter_table import LetterTable
from tui.widgets.queue_table import QueueTable
from workers.monitoring.snapshot import QueueSnapshot, Snapshot

_METRICS = ("depth", "throughput")
_NEWEST = 50


class Overview(Acts):
    """Queue rows, the last hour, the newest dead letters."""

    HELP = "The four queues at this moment, the last hour of each, and what died last."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "metric", "Metric"),
        Binding("r", "reload", "Snapshot now", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._metric = _METRICS[0]
        self._seen: object = None

    def body(self) -> ComposeResult:
        """From the state to its causes."""
        yield QueueTable(id="queues")
        with Vertical(id="history"):
            yield Static("", id="history-title", classes="rule", markup=False)
            yield Static("", id="history-rows")
        yield Static("Dead letters", id="letters-title", classes="rule", markup=False)
        yield LetterTable(id="letters")
        yield Static("  not read yet", id="no-letters")

    def show(self, snapshot: Snapshot | None, problem: str | None) -> None:
        """One snapshot for all."""
        super().show(snapshot, problem)
        if snapshot is None:
            return
        self.query_one(QueueTable).snapshot = snapshot
        self._show_history(snapshot)
        # Letters are read again when a counter says that there are others.
        died = sum(queue.dead_lettered for queue in snapshot.queues)
        seen = (snapshot.dead_letters, snapshot.letters_waiting, died, self.size.width)
        if seen != self._seen and snapshot.database.error is None:
            self._seen = seen
            self.read_letters(snapshot)

    def action_reload(self) -> None:
        """Do not wait for the next snapshot."""
        self.dashboard.look_again(letters=True)

    def look_again(self) -> None:
        """Read the letters anew at the next snapshot."""
        self._seen = None

    @work(exclusive=True, group="letters")
    async def read_letters(self, snapshot: Snapshot) -> None:
        """The newest letters."""
        page = await self.dashboard.attempt(self.dashboard.operations.letters.page(limit=_NEWEST))
        if page is None:
            self._seen = None
            return
        self.query_one(LetterTable).show(page.items, snapshot.taken_at, self.size.width)
        self.query_one(LetterTable).display = bool(page.items)
        self.query_one("#no-letters", Static).update("  nothing has died")
        self.query_one("#no-letters").display = not page.items
        title = letter_text.newest_title(snapshot, page.items, complete=page.next is None)
        self.query_one("#letters-title", Static).update(f"─ {title} ── 2 all ")

    def action_replay(self) -> None:
        """The letter under the cursor."""
        letter = self.query_one(LetterTable).selected
        if letter is not None:
            self.act(self.replay_one, letter)

    def action_metric(self) -> None:
        """What the sparklines show."""
        self._metric = _METRICS[(_METRICS.index(self._metric) + 1) % len(_METRICS)]
        self.query_one(QueueTable).metric = self._metric
        if self.dashboard.snapshot is not None:
            self._show_history(self.dashboard.snapshot)

    def on_queue_table_pause_requested(self, message: QueueTable.PauseRequested) -> None:
        """Ask for the reason, then pause; resume without a question."""
        self.pause(message.queue)

    @work
    async def pause(self, queue: QueueSnapshot) -> None:
        """Pause or resume a queue."""
        operations = self.dashboard.operations
        if queue.paused is not None:
            if await self.dashboard.attempt(operations.resume(queue.name)) is not None:
                self.notify(f"{queue.name} runs again")
        else:
            question = Ask(
                f"Pause {queue.name}?",
                "Nothing of it starts, in any process, until it is resumed. What runs goes on.",
                "pause",
                placeholder="reason, shown to all who look; may be empty",
            )
            reason = await self.app.push_screen_wait(question)
            if reason is None or await self.dashboard.attempt(operations.pause(queue.name, reason)) is None:
                return
            self.notify(f"{queue.name} is paused")
        self.dashboard.look_again()

    def _show_history(self, snapshot: Snapshot) -> None:
        width = self.size.width
        box = self.query_one("#history")
        box.display = width >= WIDE and self.size.height >= 28
        unit = "depth" if self._metric == "depth" else "completed a minute"
        self.query_one("#history-title", Static).update(f"─ Last hour · {unit} ── m next metric ")
        rows = [queue_text.history_row(queue, self._metric, width) for queue in snapshot.queues]
        self.query_one("#history-rows", Static).update(Text("\n").join(rows))
