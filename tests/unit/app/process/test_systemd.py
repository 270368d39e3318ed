"""The reports to systemd, on real datagram sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.process.systemd import SystemdNotifier


class FakeProcess:
    """The part of a worker process that the notifier reads."""

    def __init__(self) -> None:
        self.draining = False
        self.in_flight = 0
        self.redis_error: str | None = None
        self.dispatchers = {"color-extraction": None}
        self.drain_deadline_in: float | None = None
        self.waits_for = ["color-extraction: no turn yet"]

    @property
    def is_ending(self) -> bool:
        return self.draining

    def unready(self) -> list[str]:
        return self.waits_for

    async def drain_began(self, timeout: float) -> bool:
        await asyncio.sleep(min(timeout, 0.01))
        return self.draining


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.settimeout(20)
        yield bound


def received(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


async def received_with(manager: socket.socket, line: str) -> list[str]:
    """The first report that has the line."""
    while line not in (lines := await asyncio.to_thread(received, manager)):
        pass
    return lines


def test_a_report_reaches_a_socket_in_a_folder(manager: socket.socket) -> None:
    SystemdNotifier({"NOTIFY_SOCKET": manager.getsockname()}).send("READY=1", "STATUS=takes jobs")
    assert received(manager) == ["READY=1", "STATUS=takes jobs"]


def test_a_report_reaches_an_abstract_socket() -> None:
    name = f"couturecast-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(f"\0{name}")
        bound.settimeout(20)
        SystemdNotifier({"NOTIFY_SOCKET": f"@{name}"}).send("READY=1")
        assert received(bound) == ["READY=1"]


def test_its_variables_are_not_left_for_children(manager: socket.socket) -> None:
    environment = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "1",
        "WATCHDOG_PID": "1",
        "HOME": "/",
    }
    SystemdNotifier(environment)
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    "address", ["", "/nowhere/notify", "@", "vsock:2:1234", "/" + "x" * 200, "a\0b", "/\udce4"]
)
def test_a_socket_that_cannot_be_used_is_no_error(address: str) -> None:
    SystemdNotifier({"NOTIFY_SOCKET": address}).send("READY=1")


def test_a_manager_that_does_not_read_delays_nothing(manager: socket.socket) -> None:
    notifier = SystemdNotifier({"NOTIFY_SOCKET": manager.getsockname()})
    for _ in range(2_000):  # far more than the socket's buffer takes
        notifier.send(f"STATUS={'x' * 1_000}")


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        ("30000000", "", 30.0),
        ("30000000", "own", 30.0),
        ("30000000", "1", None),
        ("", "", None),
        ("0", "", None),
        ("soon", "", None),
    ],
)
def test_the_watchdog_is_that_of_this_process(microseconds: str, pid: str, seconds: float | None) -> None:
    named = str(os.getpid()) if pid == "own" else pid
    environment = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": microseconds, "WATCHDOG_PID": named}
    assert SystemdNotifier(environment).watchdog_seconds == seconds


async def test_a_process_is_ready_after_its_first_turns_watched_while_it_moves_and_stops_with_its_drain(
    manager: socket.socket,
) -> None:
    process, reasons = FakeProcess(), list[str]()

    async def stall_reasons() -> list[str]:
        return list(reasons)

    notifier = SystemdNotifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000"})
    reporting = asyncio.create_task(notifier.report(process, stall_reasons))  # type: ignore[arg-type]
    await asyncio.sleep(0.2)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)
    manager.settimeout(20)

    process.waits_for = []
    assert await asyncio.to_thread(received, manager) == ["READY=1"]
    alive = await asyncio.to_thread(received, manager)
    assert alive == ["WATCHDOG=1", "STATUS=takes jobs of color-extraction"]

    reasons.append("color-extraction: its dispatcher makes no progress\nREADY=1")
    message = await received_with(
        manager, "STATUS=stuck: color-extraction: its dispatcher makes no progress READY=1"
    )
    assert "WATCHDOG=1" not in message
    reasons.clear()
    await received_with(manager, "WATCHDOG=1")

    process.draining, process.in_flight, process.drain_deadline_in = True, 2, 30.0
    assert await received_with(manager, "STOPPING=1") == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=45000000"]
    left = await received_with(manager, "STATUS=draining: 2 jobs in flight, 30 s left")
    assert "WATCHDOG=1" in left
    reporting.cancel()
