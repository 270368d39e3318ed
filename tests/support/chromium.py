"""A headless Chromium, if this machine has one: from PATH or `make chromium`, driven by its own protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import platform
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.prometheus import PROJECT
from tests.support.waiting import eventually

_FETCHED = PROJECT / ".tools" / "chromium"
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_START_SECONDS = 60.0
_ANSWER_SECONDS = 60.0


def find_chromium() -> str | None:
    """The path of the program, None if it is not installed."""
    fetched = str(_FETCHED / "usr" / "lib" / "chromium")
    return next(
        (path for name in _NAMES if (path := shutil.which(name) or shutil.which(name, path=fetched))), None
    )


def need_chromium() -> str:
    """The path of the program; without it the test is skipped, and pytest's summary says how to get it."""
    found = find_chromium()
    if found is None:
        pytest.skip("there is no Chromium on this machine: run `make chromium`")
    return found


class Page:
    """One page of a browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(_ANSWER_SECONDS):
            while True:
                message = await self._socket.receive_json()
                if message.get("id") == number:
                    assert "error" not in message, message
                    result: dict[str, Any] = message["result"]
                    return result

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; None while it is being replaced by another."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until an expression is true."""
        await eventually(lambda: self.evaluate(f"Boolean({script})"), within=_ANSWER_SECONDS, what=script)

    async def open(self, url: str) -> None:
        """Go to an address."""
        await self.call("Page.navigate", url=url)

    async def press(self, key: str) -> None:
        """Press a key that writes one character."""
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=key, key=key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def picture(self) -> bytes:
        """Return the page as a PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])


@contextlib.asynccontextmanager
async def chromium_page(profile: Path, size: tuple[int, int] = (1280, 800)) -> AsyncIterator[Page]:
    """A page of a new browser, of ``size`` in pixels."""
    folder = _FETCHED / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    libraries = f"{folder}:{folder}/pulseaudio"
    process = await asyncio.create_subprocess_exec(
        need_chromium(),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--remote-debugging-port=0", f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"),
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(profile),
            "LD_LIBRARY_PATH": f"{libraries}:{libraries}/pulseaudio",
        },
        start_new_session=True,
    )
    try:
        async with aiohttp.ClientSession() as client:
            file = profile / "DevToolsActivePort"
            port = await eventually(lambda: _port(file), within=_START_SECONDS, what="Chromium starts")
            async with client.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = await answer.json()
            url = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            async with client.ws_connect(url, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()


def _port(file: Path) -> int | None:
    """The port that the browser has written into ``file``, once it has."""
    with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
        return int(file.read_text().splitlines()[0])
    return None
