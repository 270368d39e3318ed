"""What ctrl-C does before an event loop handles it.  Imports next to nothing: the entry needs it first."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

_INTERRUPTED = 130
"""Exit code of a command that ctrl-C ended."""


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
