"""Signals that the event loop handles; in a child that is forked they are its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

_handled: dict[signal.Signals, Any] = {}
"""The handlers of the signals that the event loop handles."""


def handle(number: signal.Signals, callback: Callable[..., object], *args: Any) -> None:
    """Call ``callback`` in the running event loop when the signal comes; not in children that are forked."""
    asyncio.get_running_loop().add_signal_handler(number, callback, *args)
    _handled[number] = signal.getsignal(number)


def _forget() -> None:
    """In a forked child: signals that are meant for it end it, and do not reach the parent's event loop.

    The child shares the socket by which a signal wakes that loop.
    """
    if not _handled:
        return
    signal.set_wakeup_fd(-1)
    for number, handler in _handled.items():
        if signal.getsignal(number) == handler:
            signal.signal(number, signal.SIG_DFL)
    _handled.clear()


os.register_at_fork(after_in_child=_forget)
