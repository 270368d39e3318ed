"""Actions on queues, for every screen that shows some."""

from __future__ import annotations

from tui.dialogs.prompt import Prompt
from tui.screens.base import DashboardScreen
from workers.monitoring.snapshot import QueueSnapshot


class QueueActions(DashboardScreen):
    """Pause asks for a reason; resume asks nothing."""

    async def toggle_pause(self, queue: QueueSnapshot) -> None:
        """Pause or resume a queue."""
        if not self.session.may_change():
            return
        operations = self.session.operations
        if queue.paused is not None:
            if await self.session.run(operations.queues.resume(queue.name)) is not None:
                self.notify(f"{queue.name} runs again")
        else:
            question = Prompt(
                f"Pause {queue.name}?",
                "No job of it starts, in any process, until it is resumed. Running jobs go on.",
                "pause",
                placeholder="reason, shown to all operators; may be empty",
            )
            reason = await self.app.push_screen_wait(question)
            if reason is None or await self.session.run(operations.queues.pause(queue.name, reason)) is None:
                return
            self.notify(f"{queue.name} is paused")
        self.session.refresh()
