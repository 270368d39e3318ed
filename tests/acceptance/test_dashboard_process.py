"""The dashboard as its operator runs it: a process in a terminal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from tests.support.program import OpenTerminal, Program, Terminal, server_pid, total
from tests.support.waiting import eventually

QUEUES = ("weather-ingestion", "alert-fanout", "color-extraction", "moderation-review")
ALTERNATE_SCREEN, ITS_END = b"\x1b[?1049h", b"\x1b[?1049l"
HIDDEN_CURSOR, ITS_END_TOO = b"\x1b[?25l", b"\x1b[?25h"
MOUSE, NO_MOUSE = b"\x1b[?1003h", b"\x1b[?1003l"


def quit_by_key(shown: Terminal) -> None:
    shown.press("q")


def terminate(shown: Terminal) -> None:
    shown.process.send_signal(signal.SIGTERM)


def hang_up(shown: Terminal) -> None:
    shown.process.send_signal(signal.SIGHUP)


async def settle(shown: Terminal, leave: Callable[[Terminal], None]) -> int:
    """Leave; if a job is in flight the key asks first, and `y` says yes."""
    leave(shown)
    if leave is quit_by_key:
        await eventually(
            lambda: shown.ended() or "Drain and exit?" in shown.text, what="the end, or a question"
        )
        if not shown.ended():
            shown.press("y")
    return await shown.code(within=40)


@pytest.mark.parametrize(
    ("size", "leave"), [((80, 24), quit_by_key), ((120, 36), terminate)], ids=["80x24-q", "120x36-SIGTERM"]
)
async def test_the_demo_shows_the_queues_and_leaves_the_terminal_and_the_machine_as_they_were(
    program: Program, terminal: OpenTerminal, size: tuple[int, int], leave: Callable[[Terminal], None]
) -> None:
    shown = terminal("--demo", size=size)
    for queue in QUEUES:
        await shown.shows(queue)
    await shown.shows("1 worker")
    assert not shown.modes_restored()
    pid = server_pid(program.data_dir)
    assert pid is not None
    assert await settle(shown, leave) == 0
    for begin, end in ((ALTERNATE_SCREEN, ITS_END), (HIDDEN_CURSOR, ITS_END_TOO), (MOUSE, NO_MOUSE)):
        assert begin in shown.output
        assert shown.output.rfind(end) > shown.output.rfind(begin)
    assert shown.modes_restored()
    assert shown.output.rpartition(ITS_END)[2].count(b"\n") <= 2, "nothing is left on the screen"
    assert server_pid(program.data_dir) is None
    log = (program.data_dir / "couturecast-tui.log").read_text()
    assert '"drained"' in log
    assert "Traceback" not in log


@pytest.mark.slow
async def test_without_workers_it_shows_the_cluster_of_another_process_and_drains_nothing(
    program: Program, terminal: OpenTerminal
) -> None:
    started = await program.start()
    shown = terminal("--no-workers", COUTURECAST_KEYMAP="app.help=f1")
    await shown.shows("1 worker")
    await shown.shows("f1 Help")
    assert await settle(shown, quit_by_key) == 0
    assert shown.modes_restored()
    assert started.process.poll() is None
    assert server_pid(program.data_dir) is not None
    other = terminal("--no-workers")
    await other.shows("1 worker")
    assert await settle(other, hang_up) == 0
    assert await started.stop() == 0


async def test_e9_a_terminal_that_is_closed_drains_the_process(
    program: Program, terminal: OpenTerminal
) -> None:
    shown = terminal("--demo")
    await shown.shows("1 worker")
    shown.lose()
    await eventually(lambda: shown.process.poll() is not None, within=40, what="the process has ended")
    assert shown.process.returncode in (0, 3)
    assert '"drained"' in (program.data_dir / "couturecast-tui.log").read_text()


@pytest.mark.slow
async def test_e9_a_terminal_that_stands_still_holds_no_job_up(
    program: Program, terminal: OpenTerminal
) -> None:
    shown = terminal("--demo", size=(160, 48))
    await shown.shows("1 worker")
    for _ in range(40):  # nobody reads what these have it write, which is more than a terminal holds
        shown.press("12")
        await asyncio.sleep(0.02)
    before = total(program.data_dir, "alert-fanout", "completed")
    await eventually(
        lambda: total(program.data_dir, "alert-fanout", "completed") > before + 5,
        within=30,
        what="jobs are run",
    )
    shown.process.send_signal(signal.SIGTERM)
    await eventually(lambda: shown.process.poll() is not None, within=40, what="the process has ended")
    assert shown.process.returncode in (0, 3)


async def test_a_dashboard_that_was_stopped_and_goes_on_restores_the_terminal_at_its_end(
    program: Program, terminal: OpenTerminal
) -> None:
    shown = terminal("--queues", "color-extraction")
    await shown.shows("1 worker")
    for _ in range(2):
        before = len(shown.read())
        shown.process.send_signal(signal.SIGSTOP)
        shown.process.send_signal(signal.SIGCONT)
        await eventually(lambda before=before: "1 worker" in shown.text_since(before), what="a new frame")
    assert await settle(shown, quit_by_key) == 0
    assert shown.modes_restored()


async def test_errors_before_the_screen_are_shown_and_no_screen_is_drawn(
    program: Program, terminal: OpenTerminal
) -> None:
    for name, value in (("COUTURECAST_LOG_LEVEL", "loud"), ("COUTURECAST_KEYMAP", "app.quit=p")):
        shown = terminal(**{name: value})
        assert await shown.code() == 2
        assert shown.output.startswith(f"error: {name}: ".encode())
        assert ALTERNATE_SCREEN not in shown.output
    assert server_pid(program.data_dir) is None, "no server was started for it"
