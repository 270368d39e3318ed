"""A terminal driver that never blocks the event loop: the terminal may be slow or gone, the workers go on."""

from __future__ import annotations

import math
import os
import re
import select
import signal
import termios
import threading
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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

_MAX_WAITING_WRITES = 500
"""Minutes of frames."""
_CLOSE_SECONDS = 1.0
"""For the last frame to be written."""
_INPUT_WAIT_SECONDS = 0.1
"""After which an incomplete escape sequence counts as keys."""
_READ_BYTES = 4096
_PASTE_SECONDS = 2.0
"""Silence after which a paste has ended."""
_NO_KEYS = re.compile(
    rb"\x1b\[M[\x20-\xff]{3}"  # a mouse report in X10's form, as after a reattach: its bytes are not UTF-8
    rb"|\x1b[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)"  # an answer of the terminal without a question
)
_INCOMPLETE_REPORT = re.compile(rb"\x1b\[M[\x20-\xff]{0,2}\Z")

_MODES = b"?1000l ?1002l ?1003l ?1006l ?1015l ?1016l ?2004l ?7h ?2048l <u 0m ?1049l ?25h ?1004l"
"""Off: mouse, bracketed paste, sizes in band, keyboard protocol, colours, alternate screen, focus events.
On: line wrap, cursor."""
_RESTORE = b"".join(b"\x1b[" + mode for mode in _MODES.split())
_open: list[NonBlockingDriver] = []
"""The driver that shows the dashboard now, if any."""


def restore(message: str) -> None:
    """Restore the terminal and write ``message`` to it, without the event loop; for a thread.

    It blocks while the terminal accepts no output.
    """
    for driver in _open:
        with suppress(OSError, ValueError):
            os.write(driver.output, _RESTORE)
        if driver.attrs_before is not None:
            with suppress(termios.error):
                termios.tcsetattr(driver.fileno, termios.TCSANOW, driver.attrs_before)
        with suppress(OSError, ValueError):
            os.write(driver.output, f"{message}\n".encode())


def is_terminal_blocked() -> bool:
    """Return whether the terminal has not accepted the last frame: another write would block."""
    return any(isinstance(thread, NonBlockingWriter) for thread in threading.enumerate())


class NonBlockingWriter(WriterThread):
    """Writes in a thread of its own, and never blocks its caller.

    Textual's own writer blocks the event loop once 30 writes wait: while a connection hangs, and for ever if
    the terminal has gone.  This one drops writes when too many wait, and calls ``repaint``, in this thread,
    when the others are written.
    """

    def __init__(self, file: IO[str], repaint: Callable[[], None]) -> None:
        super().__init__(file)
        self._queue: Queue[str | None] = Queue(_MAX_WAITING_WRITES)
        self._repaint = repaint
        self._dropped = False

    def write(self, text: str) -> None:
        """Queue ``text``, or drop it."""
        try:
            self._queue.put_nowait(text)
        except Full:
            self._dropped = True

    def run(self) -> None:
        """Write until stopped; if the terminal has gone discard everything."""
        try:
            while (text := self._queue.get()) is not None:
                self._file.write(text)
                if self._queue.empty():
                    self._file.flush()
                    self._catch_up()
            self._file.flush()
        except (OSError, ValueError):  # ValueError: the file is closed
            self._discard_output()
            while self._queue.get() is not None:
                pass

    def stop(self) -> None:
        """Stop after the waiting writes, or after a second."""
        try:
            self._queue.put(None, timeout=_CLOSE_SECONDS)
        except Full:
            return
        self.join(_CLOSE_SECONDS)

    def _discard_output(self) -> None:
        """Lead the file to /dev/null: Python flushes it at exit, and a failure would change the exit code."""
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._file.fileno())
            os.close(null)

    def _catch_up(self) -> None:
        if self._dropped:
            self._dropped = False
            self._repaint()


class NonBlockingDriver(LinuxDriver):
    """Textual's driver with our writer, and a reader that accepts any bytes."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        """Draw on the app's ``terminal`` if it has one, else on standard error."""
        super().__init__(app, **options)
        self._file = getattr(app, "terminal", None) or self._file

    @property
    def _writer_thread(self) -> WriterThread | None:
        """The writer; the driver sets its own, and ours takes its place."""
        return self.__dict__.get("writer")

    @_writer_thread.setter
    def _writer_thread(self, writer: WriterThread | None) -> None:
        file = cast(IO[str], self._file)
        self.__dict__["writer"] = None if writer is None else NonBlockingWriter(file, self._repaint)

    @property
    def can_suspend(self) -> bool:
        """Whether another program, such as an editor, may have the terminal for a time."""
        session = getattr(self._app, "session", None)
        return not getattr(session, "remote", False) and super().can_suspend

    @property
    def output(self) -> int:
        """The descriptor of the terminal."""
        return cast(IO[str], self._file).fileno()

    def start_application_mode(self) -> None:
        """Show the dashboard."""
        _open[:] = [self]
        show: Callable[[], None] = super().start_application_mode
        show()

    def stop_application_mode(self) -> None:
        """Restore the terminal."""
        super().stop_application_mode()
        _open.clear()

    def _sigcont_application(self, *_: object) -> None:
        """Show the dashboard again.  SIGSTOP, unlike ctrl-Z's signal, gave no chance to leave the terminal.

        Else a second writer and reader would be started, and the modes of now kept as those to restore.
        """
        if self._auto_restart and self._writer_thread is not None:
            if self._is_in_background:
                os.kill(os.getpid(), signal.SIGSTOP)  # as at any change of the terminal's modes
                return
            self.suspend_application_mode()
        super()._sigcont_application()
        self._repaint()

    @property
    def _is_in_background(self) -> bool:
        """Whether the terminal is another job's of the shell."""
        try:
            return os.tcgetpgrp(self.fileno) != os.getpgrp()
        except OSError:  # no shell has given it to us
            return False

    @contextmanager
    def suspend(self) -> Iterator[None]:
        """Give the terminal to another program: no input is read and no frame written until it is done.

        The event loop goes on, unlike in Textual's own ``App.suspend`` it also resumes after an exception.
        """
        with self.no_automatic_restart():
            self.suspend_application_mode()
            try:
                yield
            finally:
                self.resume_application_mode()
                self._repaint()

    @property
    def is_disconnected(self) -> bool:
        """Whether the other end of the terminal is closed: there will be no more keys."""
        poll = select.poll()
        poll.register(self.fileno, 0)
        return bool(poll.poll(0))

    def redraw(self) -> None:
        """Clear the terminal, set its modes again, which another program may have changed, and repaint."""
        self.write("\x1b[?1049h\x1b[?25l\x1b[2J")
        self._enable_mouse_support()
        self._enable_bracketed_paste()
        self._repaint()

    def run_input_thread(self) -> None:
        """Turn input into events until the driver stops."""
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        parser = InputParser(self._debug)
        while not self.exit_event.is_set():
            try:
                ready = poll.poll(_INPUT_WAIT_SECONDS * 1000)
                data = os.read(self.fileno, _READ_BYTES) if ready else b""
                if ready and not data:
                    raise OSError("end of input")  # noqa: TRY301 - other terminals that have gone raise it themselves
                for event in parser.events(data):
                    self.process_message(event)
            except OSError:  # the terminal has gone: the dashboard checks that by itself
                self.exit_event.wait(_INPUT_WAIT_SECONDS)
            except Exception:
                log.exception("input of the terminal is ignored")
                parser = InputParser(self._debug)

    def process_message(self, message: Message) -> None:
        """Pass on all messages but sizes: a terminal's own report may be wrong, so its size is queried."""
        if not isinstance(message, events.Resize | InBandWindowResize):
            super().process_message(message)

    def _query_in_band_window_resize(self) -> None:
        """Do not ask for reports of the size, which are ignored."""

    def _get_terminal_size(self) -> tuple[int, int]:
        """Return the columns and rows of the terminal; COLUMNS and LINES if it reports none."""
        with suppress(OSError):
            size = os.get_terminal_size(cast(IO[str], self._file).fileno())
            if all(size):
                return size.columns, size.lines
        return super()._get_terminal_size()

    def _repaint(self) -> None:
        app: Any = self._app
        app.call_later(app.refresh, layout=True)


class InputParser:
    """Textual's parser, for bytes of any kind."""

    def __init__(self, debug: bool = False) -> None:
        self._parser = XTermParser(debug)
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._incomplete_report = b""
        self._paste_until = math.inf

    def events(self, data: bytes) -> Iterator[Message]:
        """Yield the events of ``data``; empty ``data``: nothing has arrived for a while."""
        if data:
            self._paste_until = time.monotonic() + _PASTE_SECONDS
            data = _NO_KEYS.sub(b"", self._incomplete_report + data)
            incomplete = _INCOMPLETE_REPORT.search(data)
            end = incomplete.start() if incomplete is not None else len(data)
            data, self._incomplete_report = data[:end], data[end:]
        else:  # an incomplete report stays incomplete
            data, self._incomplete_report = self._incomplete_report, b""
        if text := self._decode(data):
            yield from self._parser.feed(text)
        yield from self._parser.tick()
        if time.monotonic() > self._paste_until:  # the paste was cut off: all further keys would belong to it
            self._paste_until = math.inf
            yield from self._parser.feed(BRACKETED_PASTE_END)
        self._parser.mouse_pixels = False  # an input that looks like a size may have set it
