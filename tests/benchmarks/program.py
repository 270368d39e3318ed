"""Starts the real ``couturecast-tui``, headless or with the dashboard in a terminal that nobody looks at."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

from tests.benchmarks.errors import BenchmarkError
from tests.benchmarks.peer import ROOT

_ROWS, _COLUMNS = 36, 120
_START_SECONDS = 30.0
PROGRAM = (str(Path(sys.executable).with_name("couturecast-tui")),)


@contextmanager
def headless(data_dir: Path, settings: Mapping[str, str]) -> Iterator[int]:
    """Its process id, from the moment at which it says ``ready`` until the block ends."""
    process = subprocess.Popen(
        [*PROGRAM, "--no-ui", "--data-dir", str(data_dir)],
        cwd=data_dir,
        env=_environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
        if not readable or process.stdout.readline() != b"ready\n":
            raise BenchmarkError("couturecast-tui --no-ui does not get ready")
        yield process.pid
    finally:
        _end(process)


@contextmanager
def dashboard(data_dir: Path, settings: Mapping[str, str]) -> Iterator[int]:
    """Its process id, from its first paint until the block ends."""
    with terminal(data_dir, settings) as (pid, screen):
        Thread(target=_look_away, args=(screen,), daemon=True).start()
        yield pid


@contextmanager
def terminal(
    data_dir: Path, settings: Mapping[str, str], size: tuple[int, int] = (_COLUMNS, _ROWS)
) -> Iterator[tuple[int, int]]:
    """Its process id, and the descriptor of what it paints: from its first paint until the block ends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    process = subprocess.Popen(
        [*PROGRAM, "--data-dir", str(data_dir)],
        cwd=data_dir,
        env=_environment({"TERM": "xterm-256color", **settings}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        readable, _, _ = select.select([ours], [], [], _START_SECONDS)
        if not readable:
            raise BenchmarkError("couturecast-tui does not paint")
        yield process.pid, ours
    finally:
        _end(process)
        os.close(ours)


def pss_megabytes(pid: int) -> float:
    """Memory of one process, its share of what is shared with others included."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkError(f"process {pid} has no memory")


def cpu_seconds(pid: int) -> float:
    """Processor time of one process so far, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def command(data_dir: Path, *words: str, settings: Mapping[str, str]) -> None:
    """Run one of its commands to the end.  Raises BenchmarkError."""
    done = subprocess.run(
        [*PROGRAM, *words, "--data-dir", str(data_dir)],
        cwd=data_dir,
        env=_environment(settings),
        capture_output=True,
        check=False,
        timeout=_START_SECONDS,
    )
    if done.returncode:
        raise BenchmarkError(f"couturecast-tui {words[0]}: {done.stderr.decode('utf-8', 'replace').strip()}")


def wait_for_file(path: Path) -> str:
    """The text of a file that is not there yet.  Raises BenchmarkError."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if text := path.read_text():
                return text
        time.sleep(0.01)
    raise BenchmarkError(f"nothing wrote {path}")


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """``settings`` and none of the user's own; the handlers of the benchmark can be imported."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COUTURECAST_") and name not in ("REDIS_URL", "DATABASE_URL")
    }
    return {**kept, "PYTHONPATH": str(ROOT), **settings}


def _look_away(terminal: int) -> None:
    """Read what is painted, so that the painter never waits for its terminal."""
    with suppress(OSError):
        while os.read(terminal, 65_536):
            pass


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
