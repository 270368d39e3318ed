"""Checks the address on which HTTP is served."""

from __future__ import annotations

import asyncio
import errno
import socket

from app.address import Address
from app.doctor.checks.settings import LoadedSettings
from app.doctor.results import Finding, ok, warning, wrong
from app.probe import ProbeError, get_json
from app.settings import Settings

_ANSWER_TIMEOUT_SECONDS = 2.0


async def port(config: LoadedSettings) -> Finding:
    """Check that the address is free, or already ours."""
    if config.settings.http is None:
        return ok("HTTP is off: COUTURECAST_HTTP=none")
    return await asyncio.to_thread(_check, config.settings, config.settings.http)


def _check(settings: Settings, address: Address) -> Finding:
    error = _bind_error(address)
    if error is None:
        return ok(f"{address} is free")
    if error.errno == errno.EADDRINUSE and _is_ours(address):
        return ok(f"{address} is served by couturecast-tui already")
    cause = "taken by another program" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    text = f"{address}: {cause}"
    fix = "name another address in COUTURECAST_HTTP, or none; or end that program"
    if settings.http_was_set:
        return wrong(text, "no worker starts", fix)
    return warning(text, "workers serve no HTTP: no health, no metrics", fix)


def _bind_error(address: Address) -> OSError | None:
    """Return why the address cannot be bound; it is released at once, before anybody could connect."""
    try:
        (family, kind, protocol, _, sockaddr), *_ = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(sockaddr)
    except OSError as error:
        return error
    return None


def _is_ours(address: Address) -> bool:
    """Return whether the program that listens there answers ``GET /livez`` as we do."""
    try:
        return "alive" in get_json(address, "/livez", timeout=_ANSWER_TIMEOUT_SECONDS)
    except ProbeError:
        return False
