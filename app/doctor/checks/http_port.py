"""Where HTTP is to be served."""

from __future__ import annotations

import asyncio
import errno
import http.client
import json
import socket

from app.address import Address
from app.doctor.checks.settings import Configuration
from app.doctor.results import Finding, ok, warning, wrong
from app.settings import Settings

_ANSWER_SECONDS = 2.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be asked there


async def port(of: Configuration) -> Finding:
    """Is the address free, or ours already?"""
    if of.settings.http is None:
        return ok("none is served: COUTURECAST_HTTP=none")
    return await asyncio.to_thread(_examined, of.settings, of.settings.http)


def _examined(settings: Settings, address: Address) -> Finding:
    error = _unusable(address)
    if error is None:
        return ok(f"{address} is free")
    if error.errno == errno.EADDRINUSE and _is_ours(address):
        return ok(f"{address} is served by couturecast-tui already")
    cause = "taken by another program" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    text = f"{address}: {cause}"
    mend = "name another address in COUTURECAST_HTTP, or none; or end that program"
    if settings.http_named:
        return wrong(text, "no worker starts", mend)
    return warning(text, "workers serve no HTTP: no health, no metrics", mend)


def _unusable(address: Address) -> OSError | None:
    """Why it cannot be bound; it is let go at once, and nobody could connect meanwhile."""
    try:
        (family, kind, protocol, _, place), *_ = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind, protocol) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(place)
    except OSError as error:
        return error
    return None


def _is_ours(address: Address) -> bool:
    """Whether what listens there answers ``GET /livez`` as we do."""
    connection = http.client.HTTPConnection(
        _ANY.get(address.host, address.host), address.port, timeout=_ANSWER_SECONDS
    )
    try:
        connection.request("GET", "/livez")
        answer = json.loads(connection.getresponse().read(1000))
        return isinstance(answer, dict) and "alive" in answer
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
