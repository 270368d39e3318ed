"""Output to the terminal: the dashboard alone while it is open, in the terminal's own size and signs."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.support.program import OpenTerminal, Program, Terminal, total
from tests.support.terminal_keys import ITS_END, leave
from tests.support.waiting import eventually

HANDLER = """
import os, subprocess, sys

async def noisy(ctx, **kwargs):
    subprocess.run(["sh", "-c", "echo PAINTED-BY-A-CHILD; echo PAINTED-BY-A-CHILD >&2"])
    print("PAINTED-BY-PRINT")
    print("PAINTED-ON-ERROR", file=sys.stderr)
    print("PAINTED-ON-THE-REAL-ONE", file=sys.__stdout__, flush=True)
    os.write(2, b"PAINTED-BY-WRITE\\n")
"""
LOCALES = {
    "LANG=C": {"LANG": "C"},
    "LC_ALL=POSIX": {"LC_ALL": "POSIX"},
    "LC_ALL over LANG": {"LANG": "C.UTF-8", "LC_ALL": "C"},
    "Latin-1": {"LANG": "C", "PYTHONIOENCODING": "latin-1"},
    "no UTF-8 mode": {"LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
REAL = {
    "LANG=C.UTF-8": {"LANG": "C.UTF-8"},
    "none named": {"LANG": ""},
    "one that is not installed": {"LANG": "xx_XX.UTF-8"},
    "UTF-8 asked for": {"LANG": "C", "PYTHONUTF8": "1"},
}


@pytest.mark.parametrize("run", ["process", pytest.param("inline", marks=pytest.mark.slow)])
async def test_what_handlers_and_their_children_print_is_in_the_log_and_not_on_the_screen(
    program: Program, terminal: OpenTerminal, run: str
) -> None:
    (program.directory / "noisy.py").write_text(HANDLER)
    handlers = {
        "COUTURECAST_HANDLERS": "color-extraction=noisy:noisy",
        "COUTURECAST_COLOR_EXTRACTION_RUN": run,
        "PYTHONPATH": ".",
    }
    shown = terminal(**handlers)
    await shown.shows("1 worker")
    assert program.run("enqueue", "color-extraction", "--data", '{"a": 1}', **handlers).code == 0
    await eventually(
        lambda: total(program.data_dir, "color-extraction", "completed") == 1,
        within=30,
        what="the job is done",
    )
    assert await leave(shown) == 0
    assert b"PAINTED" not in shown.output
    log = (program.data_dir / "couturecast-tui.log").read_text()
    painted = sorted(re.findall("PAINTED[-A-Z]+", log))
    assert painted == [
        "PAINTED-BY-A-CHILD",
        "PAINTED-BY-A-CHILD",
        "PAINTED-BY-PRINT",
        "PAINTED-BY-WRITE",
        "PAINTED-ON-ERROR",
        "PAINTED-ON-THE-REAL-ONE",
    ]
    assert shown.modes_restored()


@pytest.mark.slow
async def test_after_the_dashboard_both_descriptors_lead_to_the_terminal_again(
    program: Program, terminal: OpenTerminal
) -> None:
    """A drain that requeues a job says so at the very end."""
    (program.directory / "slow.py").write_text("import asyncio\nasync def f(ctx): await asyncio.sleep(100)\n")
    handlers = {"COUTURECAST_HANDLERS": "color-extraction=slow:f", "PYTHONPATH": "."}
    shown = terminal(**handlers, COUTURECAST_DRAIN_SECONDS="1")
    await shown.shows("1 worker")
    assert program.run("enqueue", "color-extraction", "--data", "{}", **handlers).code == 0
    await shown.shows("1/5")
    shown.process.terminate()
    assert await shown.code(within=40) == 3
    assert b"drained: 1 job was requeued" in shown.output.rpartition(ITS_END)[2]


async def test_ctrl_l_paints_everything_again(terminal: OpenTerminal) -> None:
    shown = terminal("--demo", size=(120, 36))
    for queue in ("weather-ingestion", "moderation-review"):
        await shown.shows(queue)
    before = len(shown.read())
    shown.press("\x0c")
    for text in ("CoutureCast", "weather-ingestion", "moderation-review", "Overview"):
        await eventually(lambda text=text: text in shown.text_since(before), what=text)  # type: ignore[misc]


async def test_the_size_is_the_terminals_and_not_that_of_the_environment(terminal: OpenTerminal) -> None:
    shown = terminal("--demo", size=(160, 36), COLUMNS="60", LINES="16")
    await shown.shows("moderation-review")
    await shown.shows("wait p50")  # of the wide table alone
    assert "\x1b[36;1H" in shown.output.decode(), "the last row is painted"
    before = len(shown.output)
    shown.resize(80, 24)
    await eventually(lambda: "wait95" in shown.text_since(before), what="the narrow table")


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(environment, id=name, marks=() if name == "LANG=C" else pytest.mark.slow)
        for name, environment in LOCALES.items()
    ],
)
async def test_without_utf_8_all_that_is_drawn_is_ascii(
    program: Program, terminal: OpenTerminal, environment: dict[str, str]
) -> None:
    shown = terminal("--demo", size=(120, 36), **environment)
    await shown.shows("o moderation-review")
    await shown.shows("Depth, last hour -")
    shown.press("?")
    await shown.shows("+--------")
    assert await leave_by_signal(shown) in (0, 3)
    assert "\\u" not in shown.text
    encoding = "latin-1" if "latin" in environment.get("PYTHONIOENCODING", "") else "ascii"
    drawn = shown.output.decode(encoding)
    assert not [sign for sign in drawn if ord(sign) > 127 and sign not in "·×"]


async def leave_by_signal(shown: Terminal) -> int:
    shown.process.terminate()
    return await shown.code(within=40)


@pytest.mark.slow
@pytest.mark.parametrize("environment", REAL.values(), ids=REAL)
async def test_with_utf_8_the_signs_are_drawn(terminal: OpenTerminal, environment: dict[str, str]) -> None:
    shown = terminal("--demo", size=(120, 36), **environment)
    await shown.shows("● moderation-review")


@pytest.mark.slow
@pytest.mark.parametrize("environment", LOCALES.values(), ids=LOCALES)
def test_tables_of_commands_on_such_a_terminal_are_ascii(
    program: Program, terminal: OpenTerminal, environment: dict[str, str]
) -> None:
    shown = terminal("status", size=(120, 36), **environment)
    assert shown.process.wait(30) in (0, 1)
    shown.read()
    assert "queue              depth" in shown.text
    assert "\\u" not in shown.text
    rows = [line for line in shown.text.splitlines() if "weather-ingestion" in line]
    assert any(" - " in row for row in rows)


async def left_on(shown: Terminal, keys: str) -> str:
    """Return the terminal after these keys, pressed as fast as possible, and then one that leaves."""
    await shown.shows("worker")
    shown.press(f"{keys}q")
    while not await ends(shown):  # a dialog took it
        shown.read()
        if ITS_END in shown.output:  # the screen is restored, and the process is about to end
            break
        shown.press("\x1b")
        await asyncio.sleep(0.5)  # else they are one key, alt+q
        shown.press("q")
    assert await shown.code(within=40) == 0
    assert shown.modes_restored()
    return shown.text_since(shown.output.rindex(ITS_END)).strip()


async def ends(shown: Terminal) -> bool:
    for _ in range(60):
        await asyncio.sleep(0.05)
        if shown.ended():
            return True
    return False


@pytest.mark.parametrize("keys", ["u", "2u"])
async def test_a_key_and_then_q_leave_nothing_on_the_terminal(terminal: OpenTerminal, keys: str) -> None:
    assert await left_on(terminal(), keys) == ""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("--no-workers",)], ids=["workers", "no workers"])
@pytest.mark.parametrize(
    "keys", ["5u", "5A", "5x", "2R", "2A", "2d", "2e", "2E", "2P", "2g", "2/", "r", "p", "m", "?", "1r2r5r"]
)
async def test_any_key_and_then_q_leave_nothing_on_the_terminal(
    program: Program, terminal: OpenTerminal, keys: str, workers: tuple[str, ...]
) -> None:
    assert await left_on(terminal(*workers), keys) == ""
