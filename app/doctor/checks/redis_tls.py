"""Checks the encryption of a connection to Redis."""

from __future__ import annotations

import ssl
import time
from typing import Any

from app.doctor.checks.redis_server import RedisServer
from app.doctor.network import is_private_host
from app.doctor.results import Finding, ok, warning

_DAY_SECONDS = 86_400
_RENEW_SECONDS = 21 * _DAY_SECONDS
"""A certificate that ends within this time is a warning."""


async def encryption(server: RedisServer) -> Finding:
    """Check for TLS with a certificate that is valid for some time, unless none is needed."""
    if not server.url.startswith("rediss:"):
        return await _plain(server)
    options = server.client.connection_pool.connection_kwargs
    fix = f"drop ssl_cert_reqs and ssl_check_hostname from {server.variable}; name the CA by ssl_ca_certs"
    if str(options.get("ssl_cert_reqs", "required")) == "none":
        return warning("TLS, but the certificate is not checked", "anybody may pose as the server", fix)
    if not options.get("ssl_check_hostname", True):
        return warning(
            "TLS, but the certificate may be of any host",
            "anybody with a certificate may pose as the server",
            fix,
        )
    return assess_certificate(await _certificate(server), time.time())


async def _plain(server: RedisServer) -> Finding:
    if server.url.startswith("unix:"):
        return ok("none is needed: a Unix socket")
    if await is_private_host(server.host):
        return ok("none is needed: a private address")
    return warning(
        f"none, and {server.host} is not a private address",
        "the password and all jobs travel in clear",
        f"use rediss:// in {server.variable}",
    )


async def _certificate(server: RedisServer) -> dict[str, Any]:
    """Return the server's certificate as the ssl module parses it; empty if the server has none."""
    connection: Any = server.client.connection_pool.make_connection()
    try:
        await connection.connect()
        writer = getattr(connection, "_writer", None)
        tls = writer.get_extra_info("ssl_object") if writer is not None else None
        return dict(tls.getpeercert() or {}) if tls is not None else {}
    finally:
        await connection.disconnect(nowait=True)


def assess_certificate(certificate: dict[str, Any], now: float) -> Finding:
    """Judge how long a certificate is still valid at ``now``, a Unix time."""
    ends = certificate.get("notAfter")
    if not isinstance(ends, str):
        return ok("TLS, the certificate is checked")
    seconds_left = ssl.cert_time_to_seconds(ends) - now
    days = f"{seconds_left / _DAY_SECONDS:.0f} days"
    if seconds_left > _RENEW_SECONDS:
        return ok(f"TLS, the certificate is checked and is valid for {days}")
    return warning(
        f"TLS, the certificate ends in {days}",
        "no process can connect from then on",
        "renew it on the server",
    )
