"""An exception in a handler of a message ends neither the widget that it belongs to nor the dashboard."""

from __future__ import annotations

from typing import Any

from textual.events import InputEvent
from textual.message import Message
from textual.message_pump import MessagePump

_dispatch = MessagePump._dispatch_message


async def _dispatch_contained(self: MessagePump, message: Message) -> None:
    try:
        await _dispatch(self, message)
    except Exception as error:  # any defect
        self._mounted_event.set()  # somebody may wait for what failed while it was mounted
        app: Any = self.app
        if isinstance(message, InputEvent):  # a key that is held down is no reason to give up
            app.report_defect(error)
        else:
            app._handle_exception(error)


def contain_errors() -> None:
    """Have each widget go on with its next message after one whose handler raised.

    Textual ends a widget's loop, and with it the app, at the first exception; it offers no place
    where this could be changed for its own widgets, too.  The app, a `Dashboard`, reports the error.
    """
    MessagePump._dispatch_message = _dispatch_contained  # type: ignore[method-assign]
