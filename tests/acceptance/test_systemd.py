"""The program under a service manager: ready, watched, stopping."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.served import QUEUE
from tests.support.program import RUN_SECONDS, Program
from tests.support.waiting import eventually

HANDLERS = """
import asyncio
import os
import time


async def work(ctx, block=0, seconds=0):
    with open("started", "w") as file:
        file.write(" ".join(name for name in os.environ if name.startswith(("NOTIFY_", "WATCHDOG_"))))
    while block and not os.path.exists("released"):
        time.sleep(0.05)
    await asyncio.sleep(seconds)
"""


class Manager:
    """The socket of a service manager, and what it has received."""

    def __init__(self, path: Path) -> None:
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def receive(self) -> int:
        """Receive what has come since; how many reports that was."""
        count = 0
        while True:
            try:
                self.lines += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return count
            count += 1

    async def gets(self, line: str) -> None:
        """Wait for a new line that begins so."""
        position = len(self.lines)

        def came() -> bool:
            self.receive()
            return any(text.startswith(line) for text in self.lines[position:])

        await eventually(came, within=RUN_SECONDS, what=line)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def environment(program: Program, tmp_path: Path) -> dict[str, str]:
    (program.directory / "careless.py").write_text(HANDLERS)
    return {
        "COUTURECAST_HANDLERS": f"{QUEUE}=careless:work",
        "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "200000",
    }


def enqueue(program: Program, environment: dict[str, str], job: dict[str, object]) -> None:
    plain = {name: value for name, value in environment.items() if name.startswith("COUTURECAST_")}
    done = program.run("enqueue", QUEUE, "--data", json.dumps(job), **plain)
    assert done.code == 0, done.err


@pytest.mark.slow
async def test_a_blocked_event_loop_stops_the_watchdog_and_one_that_moves_again_feeds_it(
    program: Program, environment: dict[str, str], manager: Manager
) -> None:
    started = await program.start(**environment)
    await manager.gets("WATCHDOG=1")
    assert manager.lines[0] == "READY=1"
    assert any(line.startswith("STATUS=takes jobs of weather-ingestion") for line in manager.lines)

    enqueue(program, environment, {"block": 1})
    await eventually((program.directory / "started").exists, what="the handler blocks")
    assert (program.directory / "started").read_text() == "", "the variables are not for handlers"
    manager.receive()
    await asyncio.sleep(1.0)  # ten reports, if the loop moved
    assert manager.receive() == 0
    (program.directory / "released").touch()
    await manager.gets("WATCHDOG=1")
    assert await started.stop() == 0


async def test_a_drain_is_announced_with_its_time(
    program: Program, environment: dict[str, str], manager: Manager
) -> None:
    started = await program.start(**environment, COUTURECAST_DRAIN_SECONDS="20")
    await manager.gets("WATCHDOG=1")
    enqueue(program, environment, {"seconds": 60})

    def has_started() -> bool:
        manager.receive()  # as a manager does all the time: a full socket takes no further report
        return (program.directory / "started").exists()

    await eventually(has_started, what="the job starts")
    began = time.monotonic()
    started.signal(signal.SIGTERM)
    await manager.gets("STOPPING=1")
    (extension,) = [line for line in manager.lines if line.startswith("EXTEND_TIMEOUT_USEC=")]
    seconds = int(extension.partition("=")[2]) / 1_000_000
    assert 35 - (time.monotonic() - began) <= seconds <= 35
    await manager.gets("STATUS=draining: 1 jobs in flight")
    started.signal(signal.SIGINT)  # the second signal ends the wait
    assert await started.ended() == 3
