"""Keeps an exception in a message handler from ending its widget and the dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from textual._callback import invoke
from textual.events import InputEvent
from textual.message import Message
from textual.message_pump import MessagePump

from tui.removed_widgets import misses_removed_widget

Handler = Callable[[Message], Awaitable[Any]]

_handlers_of = MessagePump._get_dispatch_methods
_dispatch = MessagePump._dispatch_message


def contain_errors() -> None:
    """Let each widget continue with its next handler, and its next message, after one that raised.

    Textual ends a widget's loop, and with it the app, at the first exception.  It has no setting for its
    own widgets, so its methods are replaced.  The app, a `Dashboard`, reports the error.
    """
    MessagePump._get_dispatch_methods = _contained_handlers  # type: ignore[assignment, method-assign]
    MessagePump._dispatch_message = _dispatch_contained  # type: ignore[method-assign]


def _contained_handlers(self: MessagePump, name: str, message: Message) -> Iterable[tuple[type, Handler]]:
    for owner, handler in _handlers_of(self, name, message):
        yield owner, _contain(self, handler)


def _contain(pump: MessagePump, handler: Handler) -> Handler:
    async def handle(message: Message) -> None:
        try:
            await invoke(handler, message)
        except Exception as error:  # any defect
            _report(pump, message, error)

    return handle


async def _dispatch_contained(self: MessagePump, message: Message) -> None:
    try:
        await _dispatch(self, message)
    except Exception as error:  # any defect outside the handlers
        _report(self, message, error)
    if isinstance(message, InputEvent):  # a flood of input is handled without a pause otherwise,
        await asyncio.sleep(0)  # and the workers would stop for that long


def _report(pump: MessagePump, message: Message, error: Exception) -> None:
    app: Any = pump.app
    if misses_removed_widget(error, pump):
        return
    if isinstance(message, InputEvent):  # a held-down key must not close the dashboard
        app.report_defect(error)
    else:
        app._handle_exception(error)
