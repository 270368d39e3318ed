"""Handles the signals that stop the program; each phase of a run sets what they do.

The event loop handles them.  A forked child gets the default handlers back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from app.errors import InterruptedStartError

T = TypeVar("T")

START_INTERRUPT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 0, signal.SIGHUP: 0}
"""Exit codes of a start that a stop signal interrupted: no job was taken, so there is nothing to drain."""
_handlers: dict[signal.Signals, Any] = {}
"""The handlers of the signals that the event loop handles."""
_mask = threading.local()
"""``before``: the signals that a thread had blocked before it forked."""


def set_stop_action(
    action: Callable[[signal.Signals], object],
    *,
    while_blocked: Callable[[int, FrameType | None], None] | None = None,
) -> None:
    """Call ``action`` in the running event loop when SIGINT, SIGTERM or SIGHUP comes, from now on.

    ``while_blocked`` is called at once, in the main thread and during a ``time.sleep``, also while a handler
    blocks the event loop.
    """
    loop = asyncio.get_running_loop()
    for number in START_INTERRUPT_CODES:
        loop.add_signal_handler(number, action, number)
        if while_blocked is not None:
            signal.signal(number, while_blocked)  # the loop still gets the signal by its wake-up socket
            signal.siginterrupt(number, False)
        _handlers[number] = signal.getsignal(number)


async def run_interruptible(start: Coroutine[Any, Any, T]) -> T:
    """Await the start of the program.  Raises InterruptedStartError if a stop signal interrupts it.

    The start is cancelled once and then awaited, since its clean-up must not be interrupted.  If the
    cancellation is lost (`asyncio.wait_for` of Python 3.11 may lose it), the program ends after the start.
    """
    task = asyncio.ensure_future(start)
    received: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        if not received:
            received.append(number)
            task.cancel()

    set_stop_action(interrupt)
    await asyncio.wait({task})
    if received and (task.cancelled() or task.exception() is None):
        raise InterruptedStartError(START_INTERRUPT_CODES[received[0]])
    return task.result()


def _block() -> None:
    """Block the signals before a fork: none must reach the child while it has its parent's handlers."""
    if _handlers:
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _handlers)


def _unblock() -> None:
    """Unblock the signals in the parent, and in the child once it has its own handlers."""
    before = _mask.__dict__.pop("before", None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reset_in_child() -> None:
    """Give a forked child the default handlers: its signals must end it, not reach the parent's event loop.

    The child shares the socket by which a signal wakes that loop.
    """
    if _handlers:
        signal.set_wakeup_fd(-1)
        for number, handler in _handlers.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.SIG_DFL)
        _handlers.clear()
    _unblock()


os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_reset_in_child)
