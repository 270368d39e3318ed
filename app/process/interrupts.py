"""Sets what ctrl-C does before an event loop handles it.  Imports next to nothing, for the entry."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

_INTERRUPTED_EXIT_CODE = 130
"""Exit code of a command that ctrl-C ended."""


def exit_on_interrupt() -> None:
    """Let ctrl-C end the process at once, while there is nothing to clean up.

    An exception cannot be trusted during imports: it may come at any line of any library, and some catch it.
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
    os._exit(_INTERRUPTED_EXIT_CODE)
