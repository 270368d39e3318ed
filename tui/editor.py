"""Edits a text in the operator's editor; the dashboard gives it the terminal, and the workers go on."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from textual.driver import Driver

from tui.driver import NonBlockingDriver

_MAX_BYTES = 8 * 2**20
_KILL_SECONDS = 2.0
"""For which an editor may save what it has when the dashboard ends."""


class EditorError(Exception):
    """The text was not edited; the message has the reason, and what to do."""


async def edit_text(text: str, command: str | None, driver: Driver | None) -> str:
    """Return the text as the editor has left it.  Raises EditorError.

    The text is in a file of its own folder, which only its owner can read, and which is removed afterwards.
    """
    if not isinstance(driver, NonBlockingDriver):
        raise EditorError("an editor needs the terminal, which this dashboard has none of")
    try:
        arguments = shlex.split(command or "")
    except ValueError:
        raise EditorError(f"VISUAL or EDITOR: {command}: a quotation mark is not closed") from None
    if not arguments:
        raise EditorError("no editor is known, nor is vi installed: set VISUAL or EDITOR, as EDITOR=nano")
    with tempfile.TemporaryDirectory(prefix="couturecast-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "payload.json"
        await asyncio.to_thread(file.write_text, text, "utf-8")
        with driver.suspend():
            await _run([*arguments, str(file)], driver)
        return await asyncio.to_thread(_read, file)


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise EditorError(f"the edited text is longer than {_MAX_BYTES // 2**20} MB: nothing was changed")
        return file.read_text("utf-8")
    except UnicodeDecodeError:
        raise EditorError("the edited text is not UTF-8: nothing was changed") from None
    except OSError as error:
        raise EditorError(f"the edited text cannot be read: {error.strerror}") from None


def _start(arguments: list[str], driver: NonBlockingDriver) -> subprocess.Popen[bytes]:
    """Start the editor in a process group of its own: its signals are not the workers'."""
    try:
        return subprocess.Popen(  # noqa: S603 - the command is the operator's own
            arguments, stdin=driver.fileno, stdout=driver.output, stderr=driver.output, process_group=0
        )
    except OSError as error:
        raise EditorError(f"the editor {arguments[0]} cannot be started: {error.strerror}") from None


async def _run(arguments: list[str], driver: NonBlockingDriver) -> None:
    """Run the editor in the foreground until it ends."""
    name, editor = Path(arguments[0]).name, _start(arguments, driver)
    with _Foreground(driver.fileno, editor.pid):
        waiting = asyncio.ensure_future(asyncio.to_thread(_wait, editor))
        try:
            code = await asyncio.shield(waiting)
        except asyncio.CancelledError:  # the dashboard ends
            await _end(editor, waiting)
            raise
    if code != 0:
        raise EditorError(f"the editor {name} ended with {code}: nothing was changed")


def _wait(editor: subprocess.Popen[bytes]) -> int:
    """Wait for its end; if ctrl-z stops it, continue it, since there is no shell that could."""
    while True:
        with suppress(ChildProcessError):
            status = os.waitid(os.P_PID, editor.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
            if status is not None and status.si_code == os.CLD_STOPPED:
                os.killpg(editor.pid, signal.SIGCONT)
                continue
        return editor.wait()


async def _end(editor: subprocess.Popen[bytes], waiting: asyncio.Future[int]) -> None:
    for number in (signal.SIGHUP, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(editor.pid, number)
        done, _ = await asyncio.wait({waiting}, timeout=_KILL_SECONDS)
        if done:
            return


class _Foreground:
    """Gives a process group the terminal, and takes it back."""

    def __init__(self, terminal: int, group: int) -> None:
        self._terminal, self._group = terminal, group

    def __enter__(self) -> None:
        self._set(self._group)

    def __exit__(self, *_: object) -> None:
        self._set(os.getpgrp())

    def _set(self, group: int) -> None:
        """Set the foreground; without a controlling terminal there is none, and nothing needs to be done."""
        before: Callable[..., object] | int | None = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            with suppress(OSError):
                os.tcsetpgrp(self._terminal, group)
        finally:
            signal.signal(signal.SIGTTOU, before if before is not None else signal.SIG_DFL)
