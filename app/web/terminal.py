"""A program in a pseudo-terminal: it ends with the terminal, however this process ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

log = structlog.get_logger(__name__)

_READ_BYTES = 65_536
_WRITE_SECONDS = 10.0
"""After which a program that reads no input counts as stuck."""
_END_SECONDS = 3.0
"""Between the signal that its terminal has gone and the one that kills."""


class TerminalProgram:
    """The running program, and our end of its terminal."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int) -> None:
        self._process = process
        self._terminal = terminal

    @classmethod
    async def start(
        cls, command: Sequence[str], environment: Mapping[str, str], size: tuple[int, int]
    ) -> TerminalProgram:
        """Start ``command`` in a terminal of ``size`` columns and lines.  Raises OSError."""
        master, slave = pty.openpty()
        try:
            _set_size(master, size)
            os.set_blocking(master, False)
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=environment,
                start_new_session=True,
                preexec_fn=partial(fcntl.ioctl, 0, termios.TIOCSCTTY, 0),
            )
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        return cls(process, master)

    async def read(self) -> bytes:
        """Return what the program has written, once there is any; nothing when it has ended."""
        while True:
            try:
                return os.read(self._terminal, _READ_BYTES)
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._wait(loop.add_reader, loop.remove_reader)
            except OSError:  # nobody holds the other end
                return b""

    async def write(self, data: bytes) -> None:
        """Type ``data``.  Raises TimeoutError if the program reads nothing, OSError if it has ended."""
        async with asyncio.timeout(_WRITE_SECONDS):
            while data:
                try:
                    data = data[os.write(self._terminal, data) :]
                except BlockingIOError:
                    loop = asyncio.get_running_loop()
                    await self._wait(loop.add_writer, loop.remove_writer)

    def resize(self, size: tuple[int, int]) -> None:
        """Set the columns and lines of the terminal; the kernel signals the program."""
        _set_size(self._terminal, size)

    async def close(self) -> None:
        """Close the terminal, which ends the program, and kill what does not end."""
        os.close(self._terminal)
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            log.warning("a dashboard in a browser did not end: killed", pid=self._process.pid)
        finally:
            with suppress(ProcessLookupError):  # not its group: the embedded Valkey serves others, too
                self._process.kill()

    async def _wait(self, add: Callable[..., Any], remove: Callable[[int], Any]) -> None:
        """Wait until the terminal can be read or written."""
        ready = asyncio.Event()
        add(self._terminal, ready.set)
        try:
            await ready.wait()
        finally:
            remove(self._terminal)


def _set_size(terminal: int, size: tuple[int, int]) -> None:
    columns, lines = size
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
