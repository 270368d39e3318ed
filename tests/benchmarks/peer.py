"""The driver's side of the protocol: starts a tool's program and reads what it prints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any

from tests.benchmarks.errors import BenchmarkError
from tests.benchmarks.peers.protocol import MAX_BULK_JOBS

ROOT = Path(__file__).parents[2]
MAX_WAIT_SECONDS = 600.0
"""Seconds after which a program that has not done its jobs is held to have lost them."""


@dataclass(frozen=True)
class Peer:
    """One tool.  ``command`` runs its program, which needs ``needs`` to exist."""

    name: str
    title: str
    command: tuple[str, ...]
    needs: Path
    versions: tuple[str, ...]
    """A command that prints its version, and that of what it runs on."""
    chunks: tuple[int, ...] = (MAX_BULK_JOBS,)
    """Numbers of jobs in one bulk call, of which the best counts."""

    @property
    def missing(self) -> str | None:
        """Why it cannot be measured here, None if it can."""
        if not self.needs.exists():
            return f"no {self.needs.relative_to(ROOT)}: make bench installs it"
        return None if shutil.which(self.command[0]) else f"no {self.command[0]}"

    @cached_property
    def version(self) -> str:
        """For instance ``bullmq 6.7.0, Node 20.20.2``."""
        done = subprocess.run(self.versions, capture_output=True, text=True, check=False, cwd=ROOT)
        return done.stdout.strip() or "unknown"

    def run(self, verb: str, url: str, **options: Any) -> dict[str, Any]:
        """Carry out ``verb`` to its end; the last line that it printed."""
        with self.start(verb, url, **options) as running:
            found: dict[str, Any] = {}
            for found in running.lines():  # noqa: B007 - the last one is wanted
                pass
            return found

    @contextmanager
    def start(self, verb: str, url: str, **options: Any) -> Iterator[Running]:
        """Start ``verb``; it is killed with the block."""
        flags = [
            f"--{name}" if value is True else f"--{name}={value}"
            for name, value in options.items()
            if value is not False
        ]
        with tempfile.TemporaryDirectory() as folder, (Path(folder) / "errors").open("w+b") as errors:
            process = subprocess.Popen(
                [*self.command, verb, f"--redis={url}", *flags],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": folder},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            running = Running(f"{self.name} {verb}", process, errors)
            try:
                yield running
            finally:
                running.kill()


class Running:
    """A tool's program that runs."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._name = name
        self._process = process
        self._errors = errors
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def line(self, timeout: float = MAX_WAIT_SECONDS) -> dict[str, Any] | None:
        """What it says next, None if it has ended.  Raises BenchmarkError if it failed or is silent."""
        try:
            text = self._lines.get(timeout=timeout)
        except Empty:
            raise self._error(f"has not done its jobs after {timeout:g} s") from None
        if text:
            found: dict[str, Any] = json.loads(text)
            return found
        if self._process.wait():
            raise self._error(f"ended with {self._process.returncode}")
        return None

    def lines(self) -> Iterator[dict[str, Any]]:
        """All that it says until it ends."""
        while (found := self.line()) is not None:
            yield found

    def next(self, name: str) -> Any:
        """The field ``name`` of the next line."""
        found = self.line()
        if found is None or name not in found:
            raise self._error(f"said {found!r} where {name!r} was expected")
        return found[name]

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self._lines.put(text)
        self._lines.put(b"")

    def _error(self, what: str) -> BenchmarkError:
        self._errors.seek(0)
        errors = self._errors.read().decode("utf-8", "replace").strip()[-2_000:]
        return BenchmarkError(f"{self._name} {what}" + (f":\n{errors}" if errors else ""))


def _python(name: str, title: str, package: str = "", python: Path = Path(sys.executable)) -> Peer:
    package = package or name.strip("_")
    print_versions = (
        "import platform; from importlib.metadata import version; "
        f"print('{package}', version('{package}') + ',', 'Python', platform.python_version())"
    )
    return Peer(
        name.strip("_"),
        title,
        (str(python), "-m", f"tests.benchmarks.peers.{name}"),
        python,
        (str(python), "-c", print_versions),
    )


def _bullmq(name: str, title: str, program: str, needs: Path) -> Peer:
    return Peer(
        name,
        title,
        (program, str(_BULLMQ / "bench.mjs")),
        needs,
        (program, str(_BULLMQ / "versions.mjs")),
        chunks=(1_000, MAX_BULK_JOBS),
    )


def _bun() -> Path:
    """The program of npm's package, for the system that npm has found."""
    found = sorted((_BULLMQ / "node_modules/@oven").glob("bun-*/bin/bun"))
    return found[0] if found else _BULLMQ / "node_modules/@oven/bun"


_ENVIRONMENTS = ROOT / ".venv-bench"
_BULLMQ = ROOT / "tests/benchmarks/bullmq"

OURS = _python("ours", "ours", "couturecast-tui")
SAQ = _python("saq_", "SAQ")
ARQ = _python("arq_", "ARQ", python=_ENVIRONMENTS / "arq/bin/python")
TASKIQ = _python("taskiq_", "Taskiq", python=_ENVIRONMENTS / "taskiq/bin/python")
STREAQ = _python("streaq_", "streaq", python=_ENVIRONMENTS / "streaq/bin/python")
BULLMQ = _bullmq("bullmq", "BullMQ", "node", _BULLMQ / "node_modules/bullmq")
BULLMQ_ON_BUN = _bullmq("bullmq-bun", "BullMQ on Bun", str(_bun()), _bun())

PEERS = {peer.name: peer for peer in (OURS, SAQ, ARQ, TASKIQ, STREAQ, BULLMQ, BULLMQ_ON_BUN)}
"""By name, in the order in which they run."""
