"""Who can read what goes to a Redis."""

from __future__ import annotations

import ssl
import time
from typing import Any

from app.doctor.checks.redis_server import RedisServer
from app.doctor.network import is_near
from app.doctor.results import Finding, ok, warning

_DAY = 86_400
_SOON = 21 * _DAY


async def encryption(server: RedisServer) -> Finding:
    """TLS, and how long the certificate holds; or why none is needed."""
    if not server.url.startswith("rediss:"):
        return await _plain(server)
    options = server.client.connection_pool.connection_kwargs
    mend = f"drop ssl_cert_reqs and ssl_check_hostname from {server.variable}; name the CA by ssl_ca_certs"
    if str(options.get("ssl_cert_reqs", "required")) == "none":
        return warning("TLS, but the certificate is not checked", "anybody may pose as the server", mend)
    if not options.get("ssl_check_hostname", True):
        return warning(
            "TLS, but the certificate may be of any host", "whoever has one may pose as the server", mend
        )
    return certificate(await _certificate(server), time.time())


async def _plain(server: RedisServer) -> Finding:
    if server.url.startswith("unix:"):
        return ok("none is needed: a Unix socket")
    if await is_near(server.host):
        return ok("none is needed: a private address")
    return warning(
        f"none, and {server.host} is no private address",
        "the password and all jobs travel in clear",
        f"use rediss:// in {server.variable}",
    )


async def _certificate(server: RedisServer) -> dict[str, Any]:
    """The server's certificate as the ssl module reads it; empty where it cannot be had."""
    connection: Any = server.client.connection_pool.make_connection()
    try:
        await connection.connect()
        writer = getattr(connection, "_writer", None)
        tls = writer.get_extra_info("ssl_object") if writer is not None else None
        return dict(tls.getpeercert() or {}) if tls is not None else {}
    finally:
        await connection.disconnect(nowait=True)


def certificate(found: dict[str, Any], now: float) -> Finding:
    """How long a certificate still holds at ``now``, a Unix time."""
    ends = found.get("notAfter")
    if not isinstance(ends, str):
        return ok("TLS, the certificate is checked")
    left = ssl.cert_time_to_seconds(ends) - now
    days = f"{left / _DAY:.0f} days"
    if left > _SOON:
        return ok(f"TLS, the certificate is checked and holds for {days}")
    return warning(
        f"TLS, the certificate ends in {days}",
        "no process can connect from then on",
        "renew it on the server",
    )
