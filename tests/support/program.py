"""Runs the installed program, as its users do: as a process, with an environment that is spelled out."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import fcntl
import functools
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import IO, Any

import redis

from app.servers.embedded_valkey import EmbeddedServer
from tests.support.fork_server import ForkedProcess, ForkServer
from tests.support.processes import alive
from tests.support.waiting import eventually
from workers.engine.keys import QueueKeys

PROGRAM = Path(sys.executable).parent / "couturecast-tui"
_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>])")
RUN_SECONDS = 60.0  # s: no run of the program takes that long
LANG = "C.UTF-8"

COLOR = "color-extraction"
MODERATION = "moderation-review"
QUEUES = ["weather-ingestion", "alert-fanout", COLOR, MODERATION]
Process = subprocess.Popen[bytes] | ForkedProcess
Streams = tuple[int | None, int | None, int | None]
"""Descriptors for standard input, output and errors, or `subprocess.DEVNULL`; None for a closed one."""


def fork_server() -> ForkServer | None:
    """Starts the program without importing it each time; None if it is to be started as users start it."""
    return _fork_server() if ForkServer.enabled else None


@functools.cache
def _fork_server() -> ForkServer:
    made = ForkServer(
        PROGRAM, {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "LANG": LANG, "TZ": "UTC"}
    )
    atexit.register(made.close)
    return made


@dataclass(frozen=True)
class Done:
    """How a run of the program ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        """The lines on standard error that say why it failed."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


class Program:
    """The program with a data directory and a working directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "data"
        self.directory = directory / "work"
        self.directory.mkdir(exist_ok=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "LANG": LANG,
            "TZ": "UTC",
            "COUTURECAST_START_PATIENCE": "20",
            "COUTURECAST_HTTP": "none",
        }
        self.headless: list[Headless] = []

    def run(self, *arguments: str, stdin: bytes | None = None, **environment: str) -> Done:
        """Run it to its end, on this data directory unless the arguments name another."""
        command, variables = self.command(arguments), self.environment | environment
        forks = fork_server()
        if forks is not None and forks.can_start(variables):
            done = forks.run(
                command[1:], environment=variables, cwd=self.directory, stdin=stdin, timeout=RUN_SECONDS
            )
        else:
            done = subprocess.run(
                command,
                env=variables,
                cwd=self.directory,
                input=stdin,
                stdin=None if stdin is not None else DEVNULL,
                capture_output=True,
                timeout=RUN_SECONDS,
                check=False,
            )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        own = () if "--data-dir" in arguments else ("--data-dir", str(self.data_dir))
        return [str(PROGRAM), *arguments, *own]

    def popen(
        self, *arguments: str, streams: Streams, new_session: bool = False, **environment: str
    ) -> Process:
        """Start it with these streams."""
        command, variables = self.command(arguments), self.environment | environment
        forks = fork_server()
        if forks is not None and forks.can_start(variables):
            with open(os.devnull, "r+b") as null:
                return forks.popen(
                    command[1:],
                    environment=variables,
                    cwd=self.directory,
                    streams=[null.fileno() if stream == DEVNULL else stream for stream in streams],
                    new_session=new_session,
                )
        stdin, stdout, stderr = streams

        def close() -> None:
            for number, stream in enumerate(streams):
                if stream is None:
                    os.close(number)

        return subprocess.Popen(
            command,
            env=variables,
            cwd=self.directory,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=new_session,
            preexec_fn=close if None in streams else None,
        )

    def spawn(self, *arguments: str, log: IO[bytes], **environment: str) -> tuple[Process, IO[bytes]]:
        """Start it with ``log`` as its standard error; the process, and its standard output."""
        reader, writer = os.pipe()
        with open(writer, "wb"):
            streams = (DEVNULL, writer, log.fileno())
            process = self.popen(*arguments, streams=streams, **environment)
        return process, open(reader, "rb")

    async def start(self, *arguments: str, **environment: str) -> Headless:
        """Start it without a screen; it is ready when this returns."""
        logs = (self.directory / f"log-{len(self.headless)}").open("w+b")
        process, out = self.spawn("--no-ui", *arguments, log=logs, **environment)
        started = Headless(process, out, logs)
        self.headless.append(started)
        line = await asyncio.wait_for(asyncio.to_thread(out.readline), RUN_SECONDS)
        assert line == b"ready\n", started.err
        return started

    async def status(self) -> dict[str, Any]:
        """Return the document of ``status --json``."""
        done = await asyncio.to_thread(self.run, "status", "--json")
        assert done.code == 0, done.err
        found: dict[str, Any] = done.json
        return found


class Headless:
    """A running program without a screen."""

    def __init__(self, process: Process, out: IO[bytes], logs: IO[bytes]) -> None:
        self.process = process
        self._out = out
        self._logs = logs

    @property
    def err(self) -> str:
        """Return its standard error so far."""
        return Path(self._logs.name).read_text()

    @property
    def logged(self) -> list[dict[str, Any]]:
        """Its log.  Fails if a line is not JSON."""
        return [json.loads(line) for line in self.err.splitlines()]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, *, within: float = 20.0) -> int:
        """Its exit code.  Fails if it wrote anything after ``ready``."""
        code = await asyncio.to_thread(self.process.wait, within)
        assert await asyncio.to_thread(self._out.read) == b""
        return code

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._out.close()
        self._logs.close()

    async def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return await self.ended()


def server_pid(data_dir: Path) -> int | None:
    """The embedded server of a data directory, if one lives."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int((data_dir / "valkey" / "pid").read_text())
        if alive(pid):
            return pid
    return None


def stop_server(data_dir: Path) -> None:
    """End what a test left behind on purpose."""
    pid = server_pid(data_dir)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def client(data_dir: Path) -> Iterator[redis.Redis]:
    """A client of the embedded server."""
    with redis.Redis.from_url(EmbeddedServer(data_dir).url) as found:
        yield found


def total(data_dir: Path, queue: str, outcome: str) -> int:
    """Jobs of a queue that came to an outcome, by the embedded server's books."""
    with client(data_dir) as valkey:
        return int(valkey.hget(QueueKeys.of(queue).totals, outcome) or 0)  # type: ignore[arg-type]


class Terminal:
    """The program in a terminal of its own, as large as is said."""

    def __init__(self, program: Program, *arguments: str, size: tuple[int, int], **environment: str) -> None:
        self.output = b""
        columns, rows = size
        self._screen, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.modes = termios.tcgetattr(inside)
        self._inside = inside
        os.set_blocking(self._screen, False)
        self.process = program.popen(
            *arguments,
            streams=(inside, inside, inside),
            new_session=True,
            **({"TERM": "xterm-256color"} | environment),
        )

    def read(self) -> bytes:
        """All that it has written so far."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._screen, 65_536):
                self.output += chunk
        return self.output

    @property
    def text(self) -> str:
        """Return its output so far, without colours and cursor moves."""
        return self.text_since(0)

    def text_since(self, position: int) -> str:
        """The same of what followed the first so many bytes."""
        return _SEQUENCE.sub("", self.read()[position:].decode(errors="replace"))

    async def shows(self, text: str, *, within: float = 30.0) -> None:
        """Wait until it has shown ``text``.  Fails if it ends before."""

        def shown() -> bool:
            ended = self.ended()
            assert not ended or text in self.text, self.text
            return text in self.text

        await eventually(shown, within=within, what=text)

    def press(self, keys: str) -> None:
        os.write(self._screen, keys.encode())

    def send(self, data: bytes) -> int:
        """Have bytes arrive; how many did.  Raises BlockingIOError if the terminal is full."""
        return os.write(self._screen, data)

    def resize(self, columns: int, rows: int) -> None:
        """As if its window is drawn larger or smaller."""
        fcntl.ioctl(self._inside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def modes_restored(self) -> bool:
        """Whether lines are read and echoed as they were before."""
        return termios.tcgetattr(self._inside) == self.modes

    def ended(self) -> bool:
        self.read()  # else a full terminal would keep it waiting
        return self.process.poll() is not None

    async def code(self, *, within: float = 20.0) -> int:
        """Its exit code."""
        await eventually(self.ended, within=within, what="the program ends")
        self.read()
        return int(self.process.returncode)

    def lose(self) -> None:
        """As if a connection breaks."""
        for end in (self._screen, self._inside):
            os.close(end)
        self._screen = self._inside = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._screen >= 0:
            os.close(self._screen)
            os.close(self._inside)


OpenTerminal = Callable[..., Terminal]


async def many(
    program: Program, *runs: tuple[str, ...], stdin: bytes | None = None, **environment: str
) -> list[Done]:
    """Commands at the same time, on one data directory."""
    calls = (asyncio.to_thread(program.run, *words, stdin=stdin, **environment) for words in runs)
    return await asyncio.gather(*calls)
