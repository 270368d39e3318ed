"""The dashboard in a browser: ``serve`` as a process, asked as a browser asks, and by a real one."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from tests.support.chromium import chromium_page, need_chromium
from tests.support.processes import alive
from tests.support.program import RUN_SECONDS, Program, client
from tests.support.waiting import eventually
from workers.engine.keys import QueueKeys

QUEUE = "weather-ingestion"
"""The first of the overview, which has the cursor."""
_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>])")
_ODD_MESSAGES = (
    *(
        "",
        "[]",
        "5",
        "null",
        '"ab"',
        '{"a": 1, "b": 2}',
        "[[[",
        "[" * 5000,
        '["stdin", 7]',
        '["stdin", "\\ud800"]',
    ),
    *(
        '["resize", 7]',
        '["resize", {"width": 1e999, "height": "x"}]',
        '["resize", {"width": -1, "height": 9999999}]',
    ),
    *('["deliver", "x"]', '["ping", {}]', '["focus"]', '["resize", {"width": 120, "height": 36}]'),
)


class Served:
    """A process that serves browsers, on a free port."""

    def __init__(self, program: Program, *arguments: str, **environment: str) -> None:
        self.program = program
        self._log = Path(program.directory, f"serve-{time.monotonic_ns()}")
        with self._log.open("wb") as log:
            self.process, self._out = program.spawn(
                "serve", "--listen", "127.0.0.1:0", *arguments, log=log, **environment
            )

    @property
    def log(self) -> str:
        """Return its standard error so far."""
        return self._log.read_text()

    async def url(self) -> str:
        """Return the URL at which it answers, without the slash."""
        await eventually(lambda: "answers browsers" in self.log, within=RUN_SECONDS, what="it answers")
        started = next(json.loads(line) for line in self.log.splitlines() if "answers browsers" in line)
        return str(started["url"]).rstrip("/")

    @property
    def token(self) -> str:
        """The token that is kept in the data directory."""
        return (self.program.data_dir / "admin-token").read_text().strip()

    @property
    def sessions(self) -> list[int]:
        """The process ids of the dashboards that run."""
        file = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = []
        for pid in map(int, file.read_text().split()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
                if b"--no-workers" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._out.close()


class BrowserSession:
    """The websocket of a page."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket = websocket
        self._bytes = b""

    @property
    def text(self) -> str:
        """Return the text painted so far, without colours and cursor moves."""
        return _SEQUENCE.sub("", self._bytes.decode(errors="replace"))

    async def shows(self, text: str) -> None:
        """Wait until ``text`` is painted."""
        async with asyncio.timeout(RUN_SECONDS):
            while text not in self.text:
                message = await self.websocket.receive()
                assert message.type is aiohttp.WSMsgType.BINARY, (message, self.text)
                self._bytes += message.data

    async def press(self, keys: str) -> None:
        """Press keys."""
        await self.websocket.send_json(["stdin", keys])

    async def pong(self) -> None:
        """Wait for the answer to a ping."""
        await self.websocket.send_json(["ping", "1"])
        async with asyncio.timeout(RUN_SECONDS):
            while True:
                message = await self.websocket.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    assert json.loads(message.data) == ["pong", "1"]
                    return
                assert message.type is aiohttp.WSMsgType.BINARY, message
                self._bytes += message.data


Serve = Callable[..., Served]


@pytest.fixture
def serve(program: Program) -> Iterator[Serve]:
    opened: list[Served] = []

    def start(*arguments: str, **environment: str) -> Served:
        opened.append(Served(program, *arguments, **environment))
        return opened[-1]

    yield start
    for served in opened:
        served.close()


@contextlib.asynccontextmanager
async def logged_in(served: Served) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser that has the cookie."""
    url = await served.url()
    jar = aiohttp.CookieJar(unsafe=True)  # for addresses, too
    async with aiohttp.ClientSession(url, cookie_jar=jar, headers={"Origin": url}) as browser:
        answer = await browser.post("/login", data={"token": served.token}, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert served.token not in cookie
        yield browser


@contextlib.asynccontextmanager
async def opened(browser: aiohttp.ClientSession) -> AsyncIterator[BrowserSession]:
    """A session that shows the overview."""
    async with browser.ws_connect("/ws?width=120&height=36", max_msg_size=0) as websocket:
        session = BrowserSession(websocket)
        await session.shows(QUEUE)
        yield session


async def refused(browser: aiohttp.ClientSession, **options: object) -> int:
    """The status by which a websocket is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await browser.ws_connect("/ws", **options)  # type: ignore[arg-type]
    return refusal.value.status


async def test_only_the_token_and_only_pages_of_this_server_open_the_dashboard(serve: Serve) -> None:
    served = serve("--host", "Queues.example.com")
    url = await served.url()
    async with aiohttp.ClientSession(url, headers={"Origin": url}) as stranger:
        for path in ("/", "/ws", "/nothing"):
            answer = await stranger.get(path)
            assert answer.status == 401
            assert 'type="password"' in await answer.text()
        for path in ("/page/style.css", "/static/js/textual.js"):
            assert (await stranger.get(path)).status == 200
        wrong = await stranger.post("/login", data={"token": "wrong-" + served.token})
        assert wrong.status == 401
        assert "The token is wrong" in await wrong.text()
        assert "Set-Cookie" not in wrong.headers
        assert (await stranger.post("/login", data={"token": "x" * 5000})).status == 413
        assert await refused(stranger) == 401
        for invented in (
            {"Cookie": f"couturecast-{url.rpartition(':')[2].strip('/')}=9999999999.{'0' * 64}"},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {served.token}"},
        ):
            assert (await stranger.get("/", headers=invented)).status == 401
    async with logged_in(served) as browser:
        page = await browser.get("/")
        assert page.status == 200
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Cache-Control"] == "no-store"
        assert "Server" not in page.headers
        assert await refused(browser, headers={"Origin": "http://evil.example.com"}) == 403
        assert await refused(browser, headers={"Origin": "http://127.0.0.1:1"}) == 403
        assert (
            await refused(browser, headers={"Host": "evil.example.com", "Origin": "http://evil.example.com"})
            == 421
        )
        foreign = await browser.post("/login", data={"token": served.token}, headers={"Origin": "null"})
        assert foreign.status == 403
        assert (await browser.get("/", headers={"Host": "evil.example.com"})).status == 421
        assert (await browser.get("/", headers={"Host": "queues.example.com"})).status == 200
        encrypted = url.replace("http:", "https:")  # as behind a proxy
        again = await browser.post(
            "/login", data={"token": served.token}, headers={"Origin": encrypted}, allow_redirects=False
        )
        assert "Secure" in again.headers["Set-Cookie"]
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {served.token}"}) as proxied:
        assert (await proxied.get("/")).status == 200
        assert await refused(proxied) == 403, "without an Origin"
    assert served.sessions == []
    assert served.token not in served.log


@pytest.mark.slow
async def test_a_session_only_reads_and_ends_with_its_browser_or_with_the_server(
    serve: Serve, program: Program
) -> None:
    await program.start()
    served = serve()
    async with logged_in(served) as browser:
        async with opened(browser) as session:
            assert len(served.sessions) == 1
            for message in _ODD_MESSAGES:
                await session.websocket.send_str(message)
            await session.pong()
            await session.press("p")
            await session.shows("read-only")
            with client(program.data_dir) as valkey:
                assert not valkey.exists(QueueKeys.of(QUEUE).pause)
        await eventually(lambda: served.sessions == [], within=RUN_SECONDS, what="its dashboard ends")
        async with opened(browser) as session:
            pids = served.sessions
            served.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(served.process.wait, RUN_SECONDS) == 0
            assert not any(alive(pid) for pid in pids)
    assert served.token not in served.log


@pytest.mark.slow
async def test_with_writable_a_browser_changes_things_under_its_own_name(
    serve: Serve, program: Program
) -> None:
    await program.start()
    served = serve("--writable")
    async with logged_in(served) as browser, opened(browser) as session:
        await session.press("p")
        await session.shows("Pause")
        await session.press("because\r")
        with client(program.data_dir) as valkey:
            await eventually(
                lambda: valkey.exists(QueueKeys.of(QUEUE).pause), within=RUN_SECONDS, what="a pause"
            )
            assert valkey.hget(QueueKeys.of(QUEUE).pause, "by") == b"browser:127.0.0.1"


@pytest.mark.slow
async def test_more_browsers_than_allowed_are_refused_until_one_leaves(serve: Serve) -> None:
    served = serve("--max-sessions", "1")
    async with logged_in(served) as browser:
        async with opened(browser):
            assert await refused(browser) == 503
            page = await browser.get("/")
            assert page.status == 503
            assert "as many sessions are open as may be (1)" in await page.text()
        async with opened(browser):  # at once, as when a page is loaded again
            pass


@pytest.mark.slow
async def test_a_dashboard_that_is_left_closes_the_page_and_no_dashboard_outlives_a_killed_server(
    serve: Serve,
) -> None:
    served = serve()
    async with logged_in(served) as browser:
        async with opened(browser) as session:
            await session.press("q")
            async with asyncio.timeout(RUN_SECONDS):
                async for _ in session.websocket:
                    pass
            assert session.websocket.close_code == aiohttp.WSCloseCode.OK
        async with opened(browser):
            (pid,) = served.sessions
            served.process.kill()
            await eventually(lambda: not alive(pid), within=RUN_SECONDS, what="it ends, too")


def test_an_address_that_cannot_be_used_is_one_line(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = program.run("serve", "--listen", address)
    assert done.code == 2
    assert (
        done.err
        == f"error: --listen: {address} cannot be used (Address already in use): name another address\n"
    )
    wrong = program.run("serve", "--listen", "everywhere")
    assert wrong.code == 2
    assert wrong.err.startswith("error: --listen: 'everywhere' is not HOST:PORT")
    assert len(wrong.errors) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_real_browser_logs_in_shows_the_dashboard_and_takes_keys(
    serve: Serve, program: Program, tmp_path: Path
) -> None:
    need_chromium()
    await program.start()
    served = serve()
    url = await served.url()
    async with chromium_page(tmp_path / "profile") as page:
        await page.open(url.replace("127.0.0.1", "localhost"))
        await page.until("document.getElementById('token')")
        await page.evaluate(
            f"document.getElementById('token').value = {json.dumps(served.token)};"
            "document.forms[0].requestSubmit()"
        )
        await page.until("document.body.classList.contains('-first-byte')")
        await page.until("document.activeElement.classList.contains('xterm-helper-textarea')")

        async def is_painted() -> bool:  # text on a dark screen is smoothed
            picture = Image.open(io.BytesIO(await page.picture())).convert("RGB")
            return len(picture.getcolors(picture.width * picture.height) or ()) > 100

        await eventually(is_painted, within=RUN_SECONDS, what="the dashboard is painted")
        assert await page.evaluate("document.cookie") == "", "no script reads the cookie"
        await page.press("q")
        await page.until("document.body.classList.contains('-closed')")
    await eventually(lambda: served.sessions == [], within=RUN_SECONDS, what="its dashboard ends")
