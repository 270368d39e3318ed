"""A payload is edited in the operator's editor, in a terminal, while the workers beside it go on."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.acceptance.buried import NOW, bury
from tests.support.letters import letter
from tests.support.program import OpenTerminal, Program, Terminal, total
from tests.support.waiting import eventually

QUEUE = "color-extraction"
KWARGS = {"item_id": "dress-17", "image": "none.jpg", "api_key": "s3cret-key"}


def editor(folder: Path, *commands: str) -> str:
    """A program that shows its file, waits for a line, and then does this."""
    program = folder / "editor"
    program.write_text("\n".join(("#!/bin/sh", 'echo "EDITING"; cat "$1"', "read line", *commands)))
    program.chmod(0o755)
    return f"'{program}'"


async def open_editor(program: Program, terminal: OpenTerminal, command: str) -> Terminal:
    """The editor on the only letter."""
    await bury(program, [letter("u0", job_id="k0", queue_name=QUEUE, function="extract_colors",
                                job_data={"kwargs": KWARGS}, failed_at=NOW)])  # fmt: skip
    shown = terminal("--demo", size=(120, 40), VISUAL=command)
    await shown.shows("1 worker")
    shown.press("2")
    await shown.shows("Its letters")
    shown.press("g")
    await shown.shows("page 1")
    shown.press("e")
    await shown.shows("Edit and replay letter 1")
    shown.press("\x0f")
    await shown.shows("EDITING")
    return shown


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_workers_go_on_while_the_editor_is_open_and_no_secret_reaches_it(
    program: Program, terminal: OpenTerminal, tmp_path: Path
) -> None:
    mode = tmp_path / "mode"
    change = editor(tmp_path, f'stat -c %a "$1" > "{mode}"', 'sed -i "s/none.jpg/other.jpg/" "$1"')
    shown = await open_editor(program, terminal, change)
    await eventually(lambda: '"api_key": "***"' in shown.text, what="the masked payload")
    before = total(program.data_dir, "alert-fanout", "completed")
    await eventually(
        lambda: total(program.data_dir, "alert-fanout", "completed") > before + 2,
        within=90,
        what="jobs are run",
    )
    position = len(shown.read())
    shown.press("\n")
    await eventually(lambda: "other.jpg" in shown.text_since(position), within=60, what="the edited text")
    assert int(mode.read_text(), 8) == stat.S_IRUSR | stat.S_IWUSR
    shown.press("\x13")
    await eventually(lambda: "1 line removed, 1 added" in shown.text, within=60, what="the diff")
    assert "s3cret-key" not in shown.text
    shown.press("\x1b")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_failed_editor_loses_nothing(
    program: Program, terminal: OpenTerminal, tmp_path: Path
) -> None:
    shown = await open_editor(program, terminal, editor(tmp_path, 'echo "{" > "$1"', "exit 3"))
    position = len(shown.read())
    shown.press("\n")
    message = "ended with 3: nothing was changed"
    await eventually(lambda: message in shown.text_since(position), within=60, what=message)
    assert "none.jpg" in shown.text_since(position)
