"""A defect of the dashboard becomes a message and a line of the log, and never ends the workers beside it.

The defects are put in by a handler's module, which the program imports.
"""

from __future__ import annotations

import json
import signal

import pytest

from tests.support.program import OpenTerminal, Program, Terminal, total
from tests.support.terminal_keys import ITS_END, leave, painted, write
from tests.support.waiting import eventually

HANDLER = """
from tui.app import Dashboard
from tui.driver import NonBlockingDriver
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.overview import OverviewScreen
from tui.widgets.queue_table import QueueTable

def fail(*_, **__):
    secret = "hunter2"
    raise ZeroDivisionError("of the test")

async def fail_later(*_, **__):
    fail()

async def work(ctx):
    pass
"""
QUEUE = "color-extraction"
HANDLERS = {
    "COUTURECAST_HANDLERS": f"{QUEUE}=defects:work",
    "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",
    "PYTHONPATH": ".",
}
ESCAPE = b"\x1b[27u"  # as of a terminal that tells it from alt and the next key
SOON = "import tui.app; tui.app._DEFECTS_SECONDS, tui.app._TIMER_SECONDS = 1.0, 0.1"
"""The dashboard gives up a second after its first defect, not ten."""
DEFECTS = {
    "a key": "OverviewScreen.action_figure = fail",
    "a timer": "Dashboard._on_timer = fail",
    "a message": "OverviewScreen.on_queue_table_pause_requested = fail",
    "a worker": "OverviewScreen.fetch_details = lambda self: self.run_worker(fail_later())",
    "a snapshot that is shown": "OverviewScreen.update_snapshot = fail",
    "a view that is opened": "DeadLettersScreen.on_screen_resume = fail",
    "a view that is composed": "DeadLettersScreen.compose_body = fail",
}


def start(program: Program, terminal: OpenTerminal, defect: str) -> Terminal:
    (program.directory / "defects.py").write_text(f"{HANDLER}\n{defect}\n")
    return terminal(size=(120, 36), **HANDLERS)


async def run_job(program: Program) -> None:
    before = total(program.data_dir, QUEUE, "completed")
    assert program.run("enqueue", QUEUE, "--data", "{}", **HANDLERS).code == 0
    await eventually(
        lambda: total(program.data_dir, QUEUE, "completed") == before + 1, within=30, what="a job is run"
    )


def logged(program: Program) -> str:
    return (program.data_dir / "couturecast-tui.log").read_text()


@pytest.mark.parametrize(
    "defect",
    [
        pytest.param(defect, id=name, marks=() if name in ("a key", "a timer") else pytest.mark.slow)
        for name, defect in DEFECTS.items()
    ],
)
async def test_a_defect_is_a_message_and_all_goes_on(
    program: Program, terminal: OpenTerminal, defect: str
) -> None:
    shown = start(program, terminal, defect)
    await shown.shows("Overview")
    await run_job(program)
    write(shown, b"m" * 30 + b"p")  # as if a key is held down
    if "pause_requested" not in defect and "update_snapshot" not in defect:  # else nothing asks
        await eventually(lambda: painted(shown, "until it is resumed"), what="the dialog")
        write(shown, ESCAPE)
    await run_job(program)
    write(shown, b"2")
    write(shown, b"1")
    await shown.shows("ZeroDivisionError")
    assert await painted(shown, "Overview")
    await run_job(program)
    lines = [json.loads(line) for line in logged(program).splitlines()]
    tracebacks = [line["exception"] for line in lines if "of the test" in line.get("exception", "")]
    assert "in fail" in tracebacks[0]
    assert "hunter2" not in tracebacks[0].replace('secret = "hunter2"', "")
    assert await leave(shown) == 0
    assert "Traceback" not in shown.text


@pytest.mark.parametrize(
    "defect",
    [
        pytest.param(f"QueueTable.render = fail; {SOON}", id="all that is painted"),
        pytest.param("QueueTable.render = fail", id="all, at its own pace", marks=pytest.mark.slow),
        pytest.param("QueueTable.render_line = fail", id="a line", marks=pytest.mark.slow),
        pytest.param(
            "NonBlockingDriver.start_application_mode = fail", id="its start", marks=pytest.mark.slow
        ),
        pytest.param("Dashboard.CSS_PATH = 'none.tcss'", id="its styles", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_workers_continue_without_a_dashboard_that_fails(
    program: Program, terminal: OpenTerminal, defect: str, ending: signal.Signals
) -> None:
    shown = start(program, terminal, defect)
    await shown.shows("the workers go on: ctrl-C drains")
    assert shown.modes_restored()
    assert b"the workers go on" in shown.output.rpartition(ITS_END)[2]
    await run_job(program)
    assert "the dashboard has failed" in logged(program)
    shown.process.send_signal(ending)
    assert await shown.code(within=40) == 0
    assert '"drained"' in logged(program)


@pytest.mark.slow
async def test_a_dashboard_without_workers_that_fails_gives_a_message(
    program: Program, terminal: OpenTerminal
) -> None:
    # Without workers no handler is imported: Python itself imports this one at its start.
    (program.directory / "sitecustomize.py").write_text(f"{HANDLER}\nQueueTable.render = fail\n")
    shown = terminal(
        "--no-workers", size=(120, 36), PYTHONPATH=".", PYTHONNOUSERSITE="1"
    )  # that a fork would not run
    assert await shown.code(within=60) == 1
    assert b"error: the dashboard has failed" in shown.output.rpartition(ITS_END)[2]
    assert shown.modes_restored()
