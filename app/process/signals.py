"""Signals that the event loop handles; in a child that is forked they are its own."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_handled: dict[signal.Signals, Any] = {}
"""The handlers of the signals that the event loop handles."""
_mask = threading.local()
"""``before``: the signals that a thread had blocked before it forked."""


def handle(
    number: signal.Signals,
    callback: Callable[..., object],
    *args: Any,
    while_blocked: Callable[[int, FrameType | None], None] | None = None,
) -> None:
    """Call ``callback`` in the running event loop when the signal comes; not in children that are forked.

    ``while_blocked`` is called at once, in the main thread and in the midst of a ``time.sleep``, also while a
    handler blocks the event loop.
    """
    asyncio.get_running_loop().add_signal_handler(number, callback, *args)
    if while_blocked is not None:
        signal.signal(number, while_blocked)  # the loop hears of the signal by its wake-up socket, as before
        signal.siginterrupt(number, False)
    _handled[number] = signal.getsignal(number)


def _block() -> None:
    """Before a fork: a signal must not reach the child while it has the handlers of its parent."""
    if _handled:
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _handled)


def _unblock() -> None:
    """In the parent, and in the child once its handlers are its own: what came meanwhile takes effect."""
    before = _mask.__dict__.pop("before", None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forget() -> None:
    """In a forked child: signals that are meant for it end it, and do not reach the parent's event loop.

    The child shares the socket by which a signal wakes that loop.
    """
    if _handled:
        signal.set_wakeup_fd(-1)
        for number, handler in _handled.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.SIG_DFL)
        _handled.clear()
    _unblock()


os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_forget)
