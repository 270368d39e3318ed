"""Signals: an interrupt while the program starts, those that drain it, and none of them in its children."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

_INTERRUPTED = 130
"""Exit code of a command that ctrl-C ended."""

_handled: dict[signal.Signals, Any] = {}
"""The handlers of the signals that the event loop handles."""


def exit_on_interrupt() -> None:
    """End the process at once when ctrl-C comes: for the time in which there is nothing to clean up.

    An exception is no way out of imports: it may come at any line of any library, some of which catch it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        signal.signal(signal.SIGINT, _exit)


def raise_on_interrupt() -> None:
    """Let ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"error: interrupted\n")
    os._exit(_INTERRUPTED)


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
