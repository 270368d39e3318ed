"""The actions on an event, for every screen that shows some."""

from __future__ import annotations

from tui.navigation import OpenLetter
from tui.screens.base import DashboardScreen
from tui.screens.events.targets import target
from workers.operations.operations import Event


class EventActions(DashboardScreen):
    """An event leads to what it is about."""

    async def open_event(self, event: Event) -> None:
        """Open the queue, worker, plan, letters or alerts of an event; else notify that there is no more."""
        if event.kind.startswith("alert-"):
            await self.app.run_action("alerts")
        elif event.kind == "letters-replayed" and event.subject and event.subject.isdecimal():
            letter = await self.session.run(self.session.operations.dead_letters.get(int(event.subject)))
            if letter is not None:
                self.post_message(OpenLetter(letter))
        elif (message := target(event)) is not None:
            self.post_message(message)
        else:
            self.notify(f"all that is known of this {event.kind} is in its line", markup=False)
