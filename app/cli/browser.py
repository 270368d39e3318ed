"""``serve``: the dashboard in a browser."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from app.address import Address, listen, local_address
from app.cli.options import DataDir
from app.errors import UsageError, explain_shortage
from app.process.interrupts import raise_on_interrupt

if TYPE_CHECKING:
    import socket

    from app.settings import Settings

commands = typer.Typer(rich_markup_mode=None)
log = structlog.get_logger(__name__)

DEFAULT_ADDRESS = "127.0.0.1:8030"
_MAX_SESSIONS = 5
"""Each is a process of about 100 MB."""
_LEFT_OUT = {"COUTURECAST_ADMIN_TOKEN", "NOTIFY_SOCKET", "COLUMNS", "LINES", "TMUX", "STY"}
"""Variables that a session does not get: it needs no token, and has another terminal."""


@commands.command()
def serve(
    address: Annotated[
        str, typer.Option("--listen", help="Address to listen at.", metavar="HOST:PORT")
    ] = DEFAULT_ADDRESS,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            help="A name by which browsers reach it, such as that of a proxy; may be repeated.",
            metavar="NAME",
        ),
    ] = None,
    writable: Annotated[
        bool, typer.Option("--writable", help="Let browsers change things; otherwise they only read.")
    ] = False,
    max_sessions: Annotated[
        int, typer.Option("--max-sessions", help="Browsers at the same time.", min=1, max=100)
    ] = _MAX_SESSIONS,
    data_dir: DataDir = None,
) -> None:
    """The dashboard in a browser, behind the admin token; read-only unless --writable."""
    parsed = _parse(address)
    _require_extra()
    from app.cli.settings import load_settings

    settings, _ = load_settings(data_dir)
    from app.http.service import admin_token
    from app.servers.data_dir import prepare_data_dir

    directory = prepare_data_dir(settings.data_dir)
    token = admin_token(settings, directory)
    names = frozenset(name.lower() for name in [parsed.host, *(host or ())])
    with _listen(parsed) as listener:
        raise_on_interrupt()
        asyncio.run(
            _serve(listener, settings, directory, token, names, max_sessions=max_sessions, writable=writable)
        )


def _parse(address: str) -> Address:
    try:
        return Address.parse(address)
    except ValueError as error:
        raise UsageError(str(error), field="--listen") from None


def _require_extra() -> None:
    """Raises UsageError unless the packages of the extra are installed."""
    for name in ("aiohttp", "textual_serve"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"serve needs the package {name.replace('_', '-')}",
                fix="install the extra: pip install 'couturecast-tui[web]'",
            )


def _listen(address: Address) -> socket.socket:
    """Return the socket.  Raises UsageError."""
    try:
        return listen(address)
    except OSError as error:
        if (shortage := explain_shortage(error)) is not None:
            raise UsageError(shortage.problem, field="--listen", fix=shortage.fix) from None
        raise UsageError(
            f"{address} cannot be used ({error.strerror})", field="--listen", fix="name another address"
        ) from None


async def _serve(
    listener: socket.socket,
    settings: Settings,
    data_dir: Path,
    token: str,
    names: frozenset[str],
    *,
    max_sessions: int,
    writable: bool,
) -> None:
    """Serve until a signal comes."""
    from app.process.signals import set_stop_action
    from app.web.access import Logins
    from app.web.server import BrowserServer, SessionOptions
    from app.web.server import serve as serve_browsers

    bound = local_address(listener)
    options = SessionOptions(
        [sys.executable, "-P", "-m", "couturecast_tui", *_session_arguments(data_dir)],
        _session_environment(writable=writable),
        max_sessions,
        names,
    )
    server = BrowserServer(options, Logins(token), f"couturecast-{bound.port}")
    stopped = asyncio.Event()
    set_stop_action(lambda _: stopped.set())
    source = "COUTURECAST_ADMIN_TOKEN" if settings.admin_token is not None else str(data_dir / "admin-token")
    log.info(
        "the dashboard answers browsers",
        url=f"http://{bound.for_clients}/",
        token_in=source,
        read_only=settings.read_only or not writable,
    )
    await serve_browsers(listener, server, stopped)


def _session_arguments(data_dir: Path) -> list[str]:
    return ["--no-workers", "--no-http", "--data-dir", str(data_dir)]


def _session_environment(*, writable: bool) -> dict[str, str]:
    """Return the variables of a session: ours, but for those of the terminal, which is another one."""
    inherited = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
    return inherited | terminal | ({} if writable else {"COUTURECAST_READ_ONLY": "1"})
