"""Serves the page and its websocket; each websocket has a dashboard of its own, and both end together."""

from __future__ import annotations

import asyncio
import html
import json
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from app.web.access import Logins, is_own_host, is_same_origin
from app.web.terminal import TerminalProgram

log = structlog.get_logger(__name__)

_PAGES = Path(__file__).parent / "page"
_CLIENT = str(files("textual_serve") / "static")
"""The terminal in the browser, and its font: xterm.js as textual-serve builds it."""
_OPEN_PATHS = ("/login", "/page/", "/static/")
_MAX_MESSAGE_BYTES = 256 * 1024
"""Limit of one message of a browser: a paste."""
_MAX_LOGIN_BYTES = 4096
_HEARTBEAT_SECONDS = 15.0
"""A browser that has gone without a word is noticed after one and a half of these."""
_ANSWER_SECONDS = 2.0
"""In which a browser has to answer that a session is closed."""
_CLOSE_SECONDS = 5.0
_MAX_COLUMNS, _MAX_LINES = 500, 200
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
    "img-src 'self' data:; connect-src 'self' ws://{host} wss://{host}; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""xterm.js writes its own styles."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class SessionOptions:
    """The command of a browser's session, ``environment`` being all of its variables."""

    command: Sequence[str]
    environment: Mapping[str, str]
    max_sessions: int
    names: frozenset[str]
    """Names by which browsers may reach this server, besides its addresses and localhost."""


@dataclass
class BrowserServer:
    """The routes, and the sessions that are open."""

    options: SessionOptions
    logins: Logins
    cookie: str
    """Name of the cookie; all ports of a host share cookies, so it has that of this server."""
    sessions: set[web.WebSocketResponse] = field(default_factory=set)

    def application(self) -> web.Application:
        """Return the routes behind their guards."""
        application = web.Application(
            middlewares=[self._check_host, self._check_login], client_max_size=_MAX_LOGIN_BYTES
        )
        application.add_routes(
            [
                web.get("/", self._index),
                web.post("/login", self._login),
                web.get("/ws", self._session),
                web.static("/page", _PAGES),
                web.static("/static", _CLIENT),
            ]
        )
        application.on_response_prepare.append(_add_headers)
        application.on_shutdown.append(self._close_sessions)
        return application

    @web.middleware
    async def _check_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse foreign names, against DNS rebinding, and foreign pages, which send the cookie along."""
        if not is_own_host(request.host, self.options.names):
            return _message(421, "this name is not served: start it with --host and the name")
        changing = request.method not in ("GET", "HEAD") or request.path == "/ws"
        if changing and not is_same_origin(request.headers.get("Origin", ""), request.host):
            return _message(
                403, "this request comes from another page, or a proxy changes its Host header: have it kept"
            )
        return await handler(request)

    @web.middleware
    async def _check_login(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(_OPEN_PATHS) or self._is_authorized(request):
            return await handler(request)
        return _page("login", status=401)

    def _is_authorized(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.logins.is_token(token):
            return True
        return self.logins.is_valid(request.cookies.get(self.cookie, ""))

    async def _login(self, request: web.Request) -> web.StreamResponse:
        """Exchange the token for a cookie."""
        token = (await request.post()).get("token")
        if not isinstance(token, str) or not self.logins.is_token(token):
            log.warning("a login by a browser with a wrong token", address=request.remote)
            return _page("login", status=401, problem="The token is wrong.")
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            self.cookie,
            self.logins.issue(),
            httponly=True,
            samesite="Strict",
            secure=request.headers["Origin"].startswith("https:"),
        )
        return response

    async def _index(self, request: web.Request) -> web.StreamResponse:
        if self._is_full:
            return _message(503, self._full_message)
        return _page("index")

    @property
    def _is_full(self) -> bool:
        """Whether no further session may begin; one that is closing does not count, as in a reload."""
        return sum(not session.closed for session in self.sessions) >= self.options.max_sessions

    @property
    def _full_message(self) -> str:
        number = self.options.max_sessions
        return f"as many sessions are open as may be ({number}): close one, or start with more --max-sessions"

    async def _session(self, request: web.Request) -> web.StreamResponse:
        """Run a dashboard for a browser until one of the two has gone."""
        if self._is_full:
            return _message(503, self._full_message)
        websocket = web.WebSocketResponse(
            timeout=_ANSWER_SECONDS, heartbeat=_HEARTBEAT_SECONDS, max_msg_size=_MAX_MESSAGE_BYTES
        )
        self.sessions.add(websocket)
        try:
            await websocket.prepare(request)
            await self._run(websocket, request)
        finally:
            self.sessions.discard(websocket)
        return websocket

    async def _run(self, websocket: web.WebSocketResponse, request: web.Request) -> None:
        size = _size(request.query.get("width"), request.query.get("height"))
        address = request.remote or "unknown"
        program = await TerminalProgram.start(
            [*self.options.command, "--browser", address], self.options.environment, size
        )
        log.info("a browser opened the dashboard", address=address, sessions=len(self.sessions))
        output = asyncio.create_task(_send_output(program, websocket))
        try:
            async for message in websocket:
                if message.type is WSMsgType.TEXT:
                    await _apply(message.data, program, websocket)
        except (OSError, TimeoutError):
            pass  # the program has ended, or is stuck
        finally:
            output.cancel()
            await asyncio.wait([output])
            await program.close()
            with suppress(OSError):
                await websocket.close()
            log.info("a browser left the dashboard", address=address)

    async def _close_sessions(self, _: web.Application) -> None:
        """End all sessions: their dashboards end with them."""
        await asyncio.gather(
            *(session.close(code=WSCloseCode.GOING_AWAY) for session in list(self.sessions)),
            return_exceptions=True,
        )


async def serve(listener: socket.socket, server: BrowserServer, stopped: asyncio.Event) -> None:
    """Serve on ``listener`` until ``stopped`` is set, then end the sessions."""
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=_CLOSE_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        await stopped.wait()
    finally:
        await runner.cleanup()


async def _send_output(program: TerminalProgram, websocket: web.WebSocketResponse) -> None:
    """Send what the dashboard paints, as fast as the browser reads; the dashboard drops frames itself."""
    with suppress(OSError):
        while data := await program.read():
            await websocket.send_bytes(data)
    await websocket.close()


async def _apply(text: str, program: TerminalProgram, websocket: web.WebSocketResponse) -> None:
    """Handle a message of the client; one of any other form is ignored."""
    try:
        kind, value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return
    match kind, value:
        case "stdin", str():
            await program.write(value.encode("utf-8", "replace"))
        case "resize", {"width": width, "height": height}:
            program.resize(_size(width, height))
        case "ping", str():
            await websocket.send_json(["pong", value])


def _size(columns: Any, lines: Any) -> tuple[int, int]:
    """Return the size of a terminal from what a browser sent."""
    try:
        size = int(columns), int(lines)
    except (TypeError, ValueError, OverflowError):
        size = 80, 24
    return max(1, min(size[0], _MAX_COLUMNS)), max(1, min(size[1], _MAX_LINES))


def _page(name: str, *, status: int = 200, problem: str = "") -> web.Response:
    body = Template((_PAGES / f"{name}.html").read_text()).substitute(problem=html.escape(problem))
    head = (_PAGES / f"{name}.head.html").read_text() if name == "index" else ""
    text = Template((_PAGES / "frame.html").read_text()).substitute(head=head, body=body)
    return web.Response(status=status, text=text, content_type="text/html")


def _message(status: int, problem: str) -> web.Response:
    return _page("message", status=status, problem=problem)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    is_client = request.path.startswith("/static/")
    response.headers.update(
        {
            "Cache-Control": "max-age=3600" if is_client else "no-store",
            "Content-Security-Policy": _POLICY.format(host=request.host),
            "Referrer-Policy": "same-origin",  # with none, a form is sent with the Origin null
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }
    )
    response.headers.popall("Server", None)
