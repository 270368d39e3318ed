"""Keeps standard output and error off the terminal while the dashboard draws on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from tui.driver import is_terminal_blocked
from tui.text.glyphs import SCREEN_ERRORS, terminal_encoding

_STANDARD = (1, 2)


@contextmanager
def private_terminal(log: Path) -> Iterator[TextIO]:
    """Redirect descriptors 1 and 2 to the file ``log``, and yield a stream that writes to the terminal.

    Then nothing paints over the dashboard: no child process of a handler, no C library, no print.  At the end
    both descriptors are restored.
    """
    for name in ("COLUMNS", "LINES"):  # they may be old, or of another terminal: this one's size is queried
        os.environ.pop(name, None)
    before = [os.dup(number) for number in _STANDARD]
    encoding = terminal_encoding(sys.__stderr__ or sys.stderr)
    screen = open(os.dup(2), "w", encoding=encoding, errors=SCREEN_ERRORS, newline="")  # noqa: SIM115
    try:
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        _redirect([file, file])
        os.close(file)
        yield screen
    finally:
        _redirect(before)
        for number in before:
            os.close(number)
        if not is_terminal_blocked():  # else closing it would block as its writer does
            with suppress(OSError):
                screen.close()


def _redirect(targets: list[int]) -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    for number, target in zip(_STANDARD, targets, strict=True):
        os.dup2(target, number)
