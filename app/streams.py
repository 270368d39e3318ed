"""Writes to standard output and error within a time, and silences them when they cannot be written."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TextIO


def write_within(seconds: float, stream: TextIO, text: str) -> None:
    """Write, waiting at most ``seconds`` for a reader that does not read."""
    try:
        descriptor = stream.fileno()
    except OSError:  # it is in memory
        stream.write(text)
        return
    encoded = text.encode(stream.encoding, "backslashreplace")

    def write() -> None:  # not to the stream, whose lock would be waited for at the end of the process
        with suppress(OSError):
            os.write(descriptor, encoded)

    thread = threading.Thread(target=write, name=f"writes to {stream.name}", daemon=True)
    thread.start()
    thread.join(seconds)


def silence(stream: TextIO) -> None:
    """Drop what is written to ``stream`` from now on, and what could not be written.

    Otherwise the interpreter would try to write it at exit, with a traceback or another exit code.
    """
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
