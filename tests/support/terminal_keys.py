"""Keys that are pressed in the terminal of a program, and what it paints then."""

from __future__ import annotations

import asyncio
import time

from tests.support.program import Terminal
from tests.support.waiting import eventually

CTRL_L = "\x0c"
ITS_END = b"\x1b[?1049l"
"""The dashboard leaves the alternate screen."""


def write(shown: Terminal, data: bytes, *, within: float = 30.0) -> None:
    """Have ``data`` arrive.  Fails where nobody reads it, or the program has ended."""
    deadline = time.monotonic() + within
    while data:
        assert not shown.ended(), shown.text[-2_000:]
        try:
            data = data[shown.send(data) :]
        except BlockingIOError:
            assert time.monotonic() < deadline, "the program does not read its keys"
            time.sleep(0.005)


async def painted(shown: Terminal, text: str) -> bool:
    """Whether the screen, painted again, has ``text``."""
    before = len(shown.read())
    write(shown, CTRL_L.encode())
    for _ in range(40):
        await asyncio.sleep(0.05)
        if text in shown.text_since(before):
            return True
    return False


async def leave(shown: Terminal) -> int:
    shown.press("q")
    await eventually(lambda: shown.ended() or "Drain and exit?" in shown.text, what="the end, or a question")
    if not shown.ended():
        shown.press("y")
    return await shown.code(within=40)
