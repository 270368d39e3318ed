"""The terminal, as one that may be slow, stand still or go away: the workers share the event loop with it."""

from __future__ import annotations

import math
import os
import re
import select
import termios
import threading
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Full, Queue
from typing import IO, Any, cast

import structlog
from textual import events
from textual._xterm_parser import BRACKETED_PASTE_END, XTermParser
from textual.app import App
from textual.drivers._writer_thread import WriterThread
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message
from textual.messages import InBandWindowResize

log = structlog.get_logger(__name__)

_MOST_WRITES = 500
"""Writes that wait for the terminal: minutes of frames."""
_PARTING = 1.0
"""Seconds that the last frame gets."""
_INPUT_WAIT_SECONDS = 0.1
"""After which a sequence that was begun counts as keys."""
_READ_BYTES = 4096
_PASTE_SECONDS = 2.0
"""Of silence that end a paste."""
_NO_KEYS = re.compile(
    rb"\x1b\[M[\x20-\xff]{3}"  # a mouse report in X10's form, as after a reattach: its bytes are no UTF-8
    rb"|\x1b[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)"  # an answer of the terminal that nobody asked for
)
_REPORT_BEGUN = re.compile(rb"\x1b\[M[\x20-\xff]{0,2}\Z")

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
    """Textual's driver with our writer, and with a reader that takes whatever arrives."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        """Draws on the app's ``terminal`` where it has one, else on standard error."""
        super().__init__(app, **options)
        self._file = getattr(app, "terminal", None) or self._file

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
        """Whether the other end of the terminal is closed: there will be no more keys."""
        watched = select.poll()
        watched.register(self.fileno, 0)
        return bool(watched.poll(0))

    def redraw(self) -> None:
        """Clear the terminal, set its modes again (another program may have changed them), paint all."""
        self.write("\x1b[?1049h\x1b[?25l\x1b[2J")
        self._enable_mouse_support()
        self._enable_bracketed_paste()
        self._repaint()

    def run_input_thread(self) -> None:
        """Turn what arrives into events until the driver stops reading."""
        keys = select.poll()
        keys.register(self.fileno, select.POLLIN)
        reader = Keys(self._debug)
        while not self.exit_event.is_set():
            try:
                ready = keys.poll(_INPUT_WAIT_SECONDS * 1000)
                data = os.read(self.fileno, _READ_BYTES) if ready else b""
                if ready and not data:
                    raise OSError("end of input")  # noqa: TRY301 - as other terminals that are gone say it
                for event in reader.events(data):
                    self.process_message(event)
            except OSError:  # the terminal is gone, which the dashboard notices by itself
                self.exit_event.wait(_INPUT_WAIT_SECONDS)
            except Exception:
                log.exception("what arrived at the terminal is passed over")
                reader = Keys(self._debug)

    def process_message(self, message: Message) -> None:
        """Hand on all but sizes: what a terminal writes of its size is not trusted, it is asked instead."""
        if not isinstance(message, events.Resize | InBandWindowResize):
            super().process_message(message)

    def _query_in_band_window_resize(self) -> None:
        """Do not ask for what is not used."""

    def _get_terminal_size(self) -> tuple[int, int]:
        """Columns and rows of the terminal itself; COLUMNS and LINES count where it does not know."""
        with suppress(OSError):
            size = os.get_terminal_size(cast(IO[str], self._file).fileno())
            if all(size):
                return size.columns, size.lines
        return super()._get_terminal_size()

    def _repaint(self) -> None:
        app: Any = self._app
        app.call_later(app.refresh, layout=True)


class Keys:
    """Textual's parser, fed with bytes of any kind."""

    def __init__(self, debug: bool = False) -> None:
        self._parser = XTermParser(debug)
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._held = b""
        self._paste_until = math.inf

    def events(self, data: bytes) -> Iterator[Message]:
        """The events of ``data``, which is empty where nothing has come for a while."""
        if data:
            self._paste_until = time.monotonic() + _PASTE_SECONDS
            data = _NO_KEYS.sub(b"", self._held + data)
            begun = _REPORT_BEGUN.search(data)
            end = begun.start() if begun is not None else len(data)
            data, self._held = data[:end], data[end:]
        else:  # what was begun does not go on
            data, self._held = self._held, b""
        if text := self._decode(data):
            yield from self._parser.feed(text)
        yield from self._parser.tick()
        if time.monotonic() > self._paste_until:  # of a paste that was cut off: all keys would belong to it
            self._paste_until = math.inf
            yield from self._parser.feed(BRACKETED_PASTE_END)
        self._parser.mouse_pixels = False  # it has just read what claims to be a size
