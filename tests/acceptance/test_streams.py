"""Standard streams that are closed, full or broken: no traceback, and an exit code that is true."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryFile

import pytest

from tests.support.program import RUN_SECONDS, Program, server_pid, total
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
MODERATION = "moderation-review"
JOB = json.dumps({"content_id": "c", "text": "A fine linen coat."})
CHANGES = {
    "enqueue": ("enqueue", MODERATION, "--data", JOB),
    "enqueue --json": ("enqueue", MODERATION, "--data", JOB, "--json"),
    "pause": ("pause", MODERATION),
    "resume": ("resume", MODERATION),
    "archive": ("failed-jobs", "archive", "--yes"),
    "discard": ("failed-jobs", "discard", "--all", "--yes"),
    "evict-user": ("cache", "evict-user", "u", "--yes"),
}
"""Commands whose act is done when their output fails."""
READS = {
    "status": ("status",),
    "status --json": ("status", "--json"),
    "list": ("failed-jobs", "list"),
    "groups": ("failed-jobs", "groups", "--json"),
    "plans": ("failed-jobs", "plans"),
    "cache stats": ("cache", "stats"),
    "doctor": ("doctor",),
    "--help": ("--help",),
    "help of a command": ("enqueue", "--help"),
    "--version": ("--version",),
}
FAILS = {
    "no command": ("nonsense",),
    "no option": ("status", "--nonsense"),
    "no object": ("enqueue", MODERATION, "--data", "1"),
    "no letter": ("failed-jobs", "show", "1"),
}
STREAMS = {
    "closed output": {"out": "closed"},
    "full output": {"out": "full"},
    "broken output": {"out": "broken"},
    "closed errors": {"err": "closed"},
    "full errors": {"err": "full"},
    "closed input": {"in": "closed"},
    "all closed": {"in": "closed", "out": "closed", "err": "closed"},
    "all full": {"out": "full", "err": "full"},
}


@dataclass(frozen=True)
class Ended:
    code: int
    err: str


def run(program: Program, arguments: tuple[str, ...], odd: dict[str, str]) -> Ended:
    """Run it with odd streams; its exit code, and what it wrote to standard error."""
    with open("/dev/full", "wb") as full, TemporaryFile() as errors:
        reader, broken = os.pipe()
        os.close(reader)
        normal = {"in": DEVNULL, "out": DEVNULL, "err": errors.fileno()}
        kinds = {"closed": None, "full": full.fileno(), "broken": broken}
        stdin, stdout, stderr = (normal | {name: kinds[kind] for name, kind in odd.items()}).values()
        with open(broken, "wb"), program.popen(*arguments, streams=(stdin, stdout, stderr)) as process:
            code = process.wait(RUN_SECONDS)
        errors.seek(0)
        return Ended(code, errors.read().decode())


def check(program: Program, name: str, arguments: tuple[str, ...], stream: str) -> None:
    ended = run(program, arguments, STREAMS[stream])
    assert "Traceback" not in ended.err, ended
    assert "Exception ignored" not in ended.err, ended
    if name not in CHANGES:  # these say what they are about, too
        assert len(ended.err.splitlines()) <= 1, ended
    unwritten = stream in ("closed output", "full output", "all closed", "all full")
    if name in FAILS:
        assert ended.code in (1, 2), ended
    elif name in CHANGES:
        assert ended.code == 0, ended
        if stream in ("closed output", "full output"):
            assert "warning: it is done, although its output cannot be written" in ended.err
    elif unwritten:
        assert ended.code == 1, ended
        if stream in ("closed output", "full output"):
            assert ended.err.startswith("error: standard output: "), ended
    else:
        assert ended.code in (0, 1), ended


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("enqueue", "full output"),
        ("enqueue", "closed output"),
        ("enqueue --json", "broken output"),
        ("pause", "all closed"),
        ("status", "closed output"),
        ("--help", "full output"),
        ("--help", "closed output"),
        ("no command", "closed errors"),
        ("no command", "all full"),
    ],
)
def test_a_command_on_odd_streams(program: Program, name: str, stream: str) -> None:
    check(program, name, (CHANGES | READS | FAILS)[name], stream)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CHANGES, *READS, *FAILS])
def test_every_command_on_all_odd_streams(program: Program, name: str) -> None:
    for stream in STREAMS:
        check(program, name, (CHANGES | READS | FAILS)[name], stream)


@pytest.mark.slow
def test_what_is_enqueued_is_enqueued_once(program: Program) -> None:
    for stream in ("full output", "closed output", "broken output"):
        assert run(program, CHANGES["enqueue"], STREAMS[stream]).code == 0
    assert program.run("status", "--json").json["queues"][3]["depth"] == 3


ALL = [some for size in (1, 2, 3) for some in itertools.combinations((0, 1, 2), size)]


@pytest.mark.parametrize(
    "descriptors", [pytest.param(some, marks=() if len(some) == 3 else pytest.mark.slow) for some in ALL]
)
async def test_workers_run_whichever_streams_are_closed(
    program: Program, descriptors: tuple[int, ...]
) -> None:
    stdin, stdout, stderr = (None if number in descriptors else DEVNULL for number in range(3))
    process = program.popen("--no-ui", streams=(stdin, stdout, stderr))
    try:
        await eventually(lambda: server_pid(program.data_dir), within=RUN_SECONDS, what="the server starts")
        program.run(*CHANGES["enqueue"])
        await eventually(lambda: total(program.data_dir, MODERATION, "completed") == 1, within=RUN_SECONDS)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: process.poll() is not None, within=RUN_SECONDS, what="it ends")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("after", [0.3, 0.6])
def test_ctrl_c_while_it_starts_is_one_line(program: Program, after: float) -> None:
    """Imports are made slow, so that it comes in their midst."""
    (program.directory / "typer.py").write_text(
        "import time\n"
        "try:\n    print('importing', flush=True)\n    time.sleep(60)\n"
        "except BaseException:\n    pass\n"
    )
    process = subprocess.Popen(
        program.command(("status",)),
        env=program.environment | {"PYTHONPATH": str(program.directory)},
        cwd=program.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"importing\n"
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=RUN_SECONDS)
    assert (process.returncode, err) == (130, b"error: interrupted\n")


def test_the_entry_imports_next_to_nothing() -> None:
    """A ctrl-C that comes before it is handled ends in a traceback."""
    code = (
        "import sys, app.entry, app.process.interrupts\n"
        "print({'asyncio', 'logging', 'typing'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")
