"""Starts the interpreter of a handler process, with two sockets and a page of memory that both share."""

from __future__ import annotations

import asyncio
import errno
import json
import mmap
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import couturecast_handlers
from workers.errors import HandlerImportError

_OUTPUT_SECONDS = 0.05
"""Between two readings of what a process prints."""
_MAX_UNFINISHED_BYTES = 1000
"""Bytes of a line whose end has not come yet."""
_PROGRAM = str(Path(couturecast_handlers.__file__).with_name("__main__.py"))


@dataclass(frozen=True, slots=True)
class Streams:
    """A process in the foreground has our terminal, and ctrl-C."""

    stdout: int | None = None
    """The descriptor of its standard output; None: ours."""


@dataclass(frozen=True, slots=True)
class HandlerSource:
    """The function that handles a queue, and the place where it is found."""

    queue: str
    name: str
    """``module:function``."""
    python: str
    folders: tuple[str, ...] = ()
    streams: Streams | None = None
    """None: it runs in the background, and what it prints is logged."""
    writes_bytecode: bool = True
    """Whether Python may cache the team's modules in their folders."""


class HandlerProtocol(asyncio.SubprocessProtocol):
    """Notices the end of a process: asyncio's ``wait`` waits for its pipe, too, which others may hold.

    ``on_output`` gets the lines that the process prints past Python's streams, without their ends.
    """

    pid = 0
    """0 until it is known, which must not be killed: it names our own group."""

    def __init__(self) -> None:
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its exit code; negative: the signal that ended it."""
        self.on_output: Callable[[list[bytes]], None] = lambda _: None
        self._unfinished_line = b""
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.SubprocessTransport, transport)  # uvloop's is not a subclass of it
        self.pid = self._transport.get_pid() or 0

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        """Hand the output on, then pause: a flood stops the one who prints, not the event loop."""
        *lines, rest = (self._unfinished_line + cast(bytes, data)).split(b"\n")
        if len(rest) > _MAX_UNFINISHED_BYTES:
            lines, rest = [*lines, rest], b""
        self._unfinished_line = rest
        if lines:
            self.on_output(lines)
        pipe = self._pipe(fd)
        if pipe is not None and not self.exited.done():
            pipe.pause_reading()
            asyncio.get_running_loop().call_later(_OUTPUT_SECONDS, _resume, pipe)

    def finish_output(self) -> None:
        """Hand on a last line that has no end."""
        if self._unfinished_line:
            self.on_output([self._unfinished_line])
            self._unfinished_line = b""

    def _pipe(self, fd: int) -> asyncio.ReadTransport | None:
        """Return the pipe of its output; None in the foreground."""
        assert self._transport is not None  # noqa: S101
        return cast(asyncio.ReadTransport | None, self._transport.get_pipe_transport(fd))

    def process_exited(self) -> None:
        """Note how it ended, and read at once what it printed last."""
        assert self._transport is not None  # noqa: S101
        code = self._transport.get_returncode()
        if not self.exited.done():
            self.exited.set_result(1 if code is None else code)
        if (pipe := self._pipe(1)) is not None:
            _resume(pipe)


def _resume(pipe: asyncio.ReadTransport) -> None:
    if not pipe.is_closing():
        pipe.resume_reading()


@dataclass(frozen=True, slots=True)
class Launched:
    """A process that has begun to start, and our ends of what joins us to it."""

    transport: asyncio.SubprocessTransport
    protocol: HandlerProtocol
    jobs: socket.socket
    control: socket.socket
    culprit: mmap.mmap

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.protocol.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return not self.protocol.exited.done()

    def close(self) -> None:
        """Free the sockets, and the pipe, which a program that it started may keep open."""
        for connection in (self.jobs, self.control):
            connection.close()
        self.transport.close()


async def launch(source: HandlerSource) -> Launched:
    """Start a process.  Raises HandlerImportError if its interpreter cannot be started."""
    try:
        return await _launch(source)
    except OSError as error:
        problem = f"{source.python}: cannot be started: {error.strerror}"
        raise HandlerImportError(problem, fix=_fix(error)) from None


def _fix(error: OSError) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (ulimit -n)"
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return "free memory or end processes on this machine, or raise its limits"
    return "name a Python with COUTURECAST_HANDLERS_PYTHON"


async def _launch(source: HandlerSource) -> Launched:
    with ExitStack() as ours, ExitStack() as theirs:
        memory = theirs.enter_context(_open_memory())
        memory.truncate(mmap.PAGESIZE)
        culprit = ours.enter_context(mmap.mmap(memory.fileno(), mmap.PAGESIZE))
        jobs, their_jobs = _make_sockets(ours, theirs)
        control, their_control = _make_sockets(ours, theirs)
        started = await _start(source, their_jobs, their_control, memory.fileno())
        ours.pop_all()
        return Launched(*started, jobs, control, culprit)


def _make_sockets(ours: ExitStack, theirs: ExitStack) -> tuple[socket.socket, int]:
    """Return our end of a connection, and the descriptor of theirs; the stacks close them."""
    connection, other = socket.socketpair()
    ours.enter_context(connection).setblocking(False)
    return connection, theirs.enter_context(other).fileno()


def _open_memory() -> IO[bytes]:
    """Return a file in memory: with one on a full disk, a process that writes into its page is killed."""
    if sys.platform == "linux":
        return open(os.memfd_create("couturecast-handler"), "w+b", buffering=0)
    return tempfile.TemporaryFile()


def _working_directory() -> list[str]:
    """Return our working directory, if nobody has removed it."""
    try:
        return [os.getcwd()]
    except FileNotFoundError:
        return []


async def _start(
    source: HandlerSource, jobs: int, control: int, memory: int
) -> tuple[asyncio.SubprocessTransport, HandlerProtocol]:
    options = {
        "jobs": jobs,
        "control": control,
        "culprit": memory,
        "folders": [*source.folders, *_working_directory()],
        "foreground": source.streams is not None,
    }
    flags = "-u" if source.writes_bytecode else "-Bu"
    command = [source.python, flags, _PROGRAM, source.queue, source.name, json.dumps(options)]
    streams: dict[str, Any] = {
        "stdin": asyncio.subprocess.DEVNULL,
        "stdout": asyncio.subprocess.PIPE,
        "stderr": asyncio.subprocess.STDOUT,
        "start_new_session": True,  # ctrl-C is for the appliance
    }
    if source.streams is not None:
        streams = {"stdin": None, "stdout": source.streams.stdout, "stderr": None}
    return await asyncio.get_running_loop().subprocess_exec(
        HandlerProtocol, *command, pass_fds=(jobs, control, memory), **streams
    )
