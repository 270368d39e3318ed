"""Starts the interpreter of a handler process, with two sockets and a page of memory that both share."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

import couturecast_handlers
from workers.errors import HandlerImportError

_PROGRAM = str(Path(couturecast_handlers.__file__).with_name("__main__.py"))


@dataclass(frozen=True, slots=True)
class Streams:
    """A process in the foreground has our terminal, and ctrl-C."""

    stdout: int | None = None
    """The descriptor of its standard output; None: ours."""


@dataclass(frozen=True, slots=True)
class HandlerSource:
    """Which function handles a queue, and where it is found."""

    queue: str
    name: str
    """``module:function``."""
    python: str
    folders: tuple[str, ...] = ()
    streams: Streams | None = None
    """None: it runs in the background, and what it prints is logged."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A process that has begun to start, and our ends of what joins us to it."""

    process: asyncio.subprocess.Process
    jobs: socket.socket
    control: socket.socket
    culprit: mmap.mmap

    def close(self) -> None:
        """Free the sockets."""
        for connection in (self.jobs, self.control):
            connection.close()


async def launch(source: HandlerSource) -> Launched:
    """Start a process.  Raises HandlerImportError if its interpreter cannot be started."""
    jobs, their_jobs = socket.socketpair()
    control, their_control = socket.socketpair()
    with tempfile.TemporaryFile() as memory:
        memory.truncate(mmap.PAGESIZE)
        culprit = mmap.mmap(memory.fileno(), mmap.PAGESIZE)
        try:
            process = await _start(source, their_jobs.fileno(), their_control.fileno(), memory.fileno())
        except BaseException as error:
            for ours in (jobs, control, culprit):
                ours.close()
            if isinstance(error, OSError):
                raise HandlerImportError(
                    f"{source.python}: cannot be started: {error.strerror}",
                    fix="name a Python with COUTURECAST_HANDLERS_PYTHON",
                ) from None
            raise
        finally:
            their_jobs.close()
            their_control.close()
    jobs.setblocking(False)
    control.setblocking(False)
    return Launched(process, jobs, control, culprit)


async def _start(source: HandlerSource, jobs: int, control: int, memory: int) -> asyncio.subprocess.Process:
    options = {
        "jobs": jobs,
        "control": control,
        "culprit": memory,
        "folders": [*source.folders, os.getcwd()],
        "foreground": source.streams is not None,
    }
    command = [source.python, "-u", _PROGRAM, source.queue, source.name, json.dumps(options)]
    descriptors = (jobs, control, memory)
    if source.streams is not None:
        stdout = source.streams.stdout
        return await asyncio.create_subprocess_exec(*command, stdout=stdout, pass_fds=descriptors)
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        pass_fds=descriptors,
        start_new_session=True,  # ctrl-C is for the appliance
    )
