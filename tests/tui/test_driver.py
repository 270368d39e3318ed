"""A terminal that is slow, stands still or goes away keeps nobody waiting."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from io import StringIO

import pytest

from tui import driver
from tui.driver import NonBlockingWriter, is_terminal_blocked


class Shell(StringIO):
    """Takes what is written while its door is open."""

    def __init__(self) -> None:
        super().__init__()
        self.door = threading.Event()
        self.waits_at_the_door = threading.Event()
        self.gone = False

    def write(self, text: str) -> int:
        self.waits_at_the_door.set()
        self.door.wait(20)
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.timeout(30)
def test_writes_beyond_the_limit_are_dropped_and_repainted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_MAX_WAITING_WRITES", 10)
    shell, painted = Shell(), threading.Event()
    writer = NonBlockingWriter(shell, painted.set)
    writer.start()
    writer.write("0 ")
    assert shell.waits_at_the_door.wait(20)
    for number in range(1, 1_000):
        writer.write(f"{number} ")
    assert not painted.is_set()
    shell.door.set()
    until(painted.is_set)
    kept = shell.getvalue().split()
    assert kept == [str(number) for number in range(11)]  # the first was taken from the queue
    painted.clear()
    writer.write("again")
    writer.stop()
    assert shell.getvalue().endswith("again")
    assert not painted.is_set()


@pytest.mark.timeout(30)
def test_a_blocked_terminal_is_abandoned_after_a_second() -> None:
    shell = Shell()
    writer = NonBlockingWriter(shell, lambda: None)
    writer.start()
    for _ in range(2_000):
        writer.write("frame")

    def is_stopped() -> bool:
        writer.stop()
        return not is_terminal_blocked()

    before = time.monotonic()
    assert not is_stopped()
    assert time.monotonic() - before < 15
    shell.door.set()
    until(is_stopped)  # on a busy machine one second may not be enough


@pytest.mark.timeout(30)
def test_writes_to_a_disconnected_terminal_are_discarded() -> None:
    shell = Shell()
    shell.gone = True
    shell.door.set()
    writer = NonBlockingWriter(shell, lambda: None)
    writer.start()
    for _ in range(5_000):
        writer.write("frame")
    writer.stop()
    until(lambda: not writer.is_alive())


def test_a_failed_write_is_not_retried_at_exit() -> None:
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "w") as file:
        os.close(ours)
        writer = NonBlockingWriter(file, lambda: None)
        writer.start()
        writer.write("a frame")
        writer.stop()
        file.flush()  # as at exit, when a failure makes the exit code 120
