"""The terminal, as one that may be slow, stand still or go away: the workers share the event loop with it."""

from __future__ import annotations

import os
import select
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Full, Queue
from typing import IO, Any, cast

from textual.drivers._writer_thread import WriterThread
from textual.drivers.linux_driver import LinuxDriver

_MOST_WRITES = 500
"""Writes that wait for the terminal: minutes of frames."""
_PARTING = 1.0
"""Seconds that the last frame gets."""

_MODES = b"?1000l ?1002l ?1003l ?1006l ?1015l ?1016l ?2004l ?7h ?2048l <u 0m ?1049l ?25h ?1004l"
"""Off: mouse, bracketed paste, sizes in band, keyboard protocol, colours, alternate screen, focus events.
On: line wrap, cursor."""
_RESTORE = b"".join(b"\x1b[" + mode for mode in _MODES.split())
_open: list[Terminal] = []
"""The terminal that shows the dashboard now."""


def restore(message: str) -> None:
    """Give the terminal back as it was, with ``message`` on it, without the event loop; for a thread.

    It may block for as long as the terminal takes nothing.
    """
    for terminal in _open:
        with suppress(OSError, ValueError):
            os.write(terminal.output, _RESTORE)
        if terminal.attrs_before is not None:
            with suppress(termios.error):
                termios.tcsetattr(terminal.fileno, termios.TCSANOW, terminal.attrs_before)
        with suppress(OSError, ValueError):
            os.write(terminal.output, f"{message}\n".encode())


def stands_still() -> bool:
    """Whether a terminal holds the last frame, and would hold whoever writes to it now."""
    return any(isinstance(thread, Writer) for thread in threading.enumerate())


class Writer(WriterThread):
    """Writes in a thread of its own, and never keeps its caller waiting.

    Textual's own holds the event loop once 30 writes wait: for as long as a connection hangs, and for good
    where the terminal is gone.  Here what is too much is dropped, and ``repaint`` is called, in this thread,
    when all that waited is written.
    """

    def __init__(self, file: IO[str], repaint: Callable[[], None]) -> None:
        super().__init__(file)
        self._queue: Queue[str | None] = Queue(_MOST_WRITES)
        self._repaint = repaint
        self._dropped = False

    def write(self, text: str) -> None:
        """Have ``text`` written, or dropped."""
        try:
            self._queue.put_nowait(text)
        except Full:
            self._dropped = True

    def run(self) -> None:
        """Until it is stopped; a terminal that is gone takes all, and shows nothing."""
        try:
            while (text := self._queue.get()) is not None:
                self._file.write(text)
                if self._queue.empty():
                    self._file.flush()
                    self._catch_up()
            self._file.flush()
        except (OSError, ValueError):  # ValueError: of a file that is closed
            self._give_up()
            while self._queue.get() is not None:
                pass

    def stop(self) -> None:
        """Stop, after what waits has been written, if that takes no longer than a second."""
        try:
            self._queue.put(None, timeout=_PARTING)
        except Full:
            return
        self.join(_PARTING)

    def _give_up(self) -> None:
        """What could not be written would be tried again at exit, and spoil the exit code of a good drain."""
        with suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._file.fileno())
            os.close(nothing)

    def _catch_up(self) -> None:
        if self._dropped:
            self._dropped = False
            self._repaint()


class Terminal(LinuxDriver):
    """Textual's driver with our writer."""

    @property
    def _writer_thread(self) -> WriterThread | None:
        """What the driver has put here, as ours."""
        return self.__dict__.get("writer")

    @_writer_thread.setter
    def _writer_thread(self, made: WriterThread | None) -> None:
        self.__dict__["writer"] = None if made is None else Writer(cast(IO[str], self._file), self._repaint)

    @property
    def output(self) -> int:
        """The descriptor to which it is written."""
        return cast(IO[str], self._file).fileno()

    def start_application_mode(self) -> None:
        """Show the dashboard."""
        _open[:] = [self]
        show: Callable[[], None] = super().start_application_mode
        show()

    def stop_application_mode(self) -> None:
        """Give the terminal back."""
        super().stop_application_mode()
        _open.clear()

    @property
    def gone(self) -> bool:
        """Whether the other end of the terminal is closed: Textual's reader would wait in a loop for keys."""
        watched = select.poll()
        watched.register(self.fileno, 0)
        return bool(watched.poll(0))

    def _repaint(self) -> None:
        app: Any = self._app
        app.call_later(app.refresh, layout=True)
