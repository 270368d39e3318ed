"""Diagnoses the encryption of a connection to Redis that fails."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

import structlog

from app.errors import UsageError
from storage.redis.client import redact_url

log = structlog.get_logger(__name__)

_PROBE_TIMEOUT_SECONDS = 2.0
_VERIFY = "CERTIFICATE_VERIFY_FAILED"


async def diagnose_tls(url: str, error: Exception) -> UsageError | None:
    """Return what is wrong with the encryption if that is why ``url`` failed with ``error``.

    Tries whether the server uses TLS at all; no password is sent.
    """
    parts, text = urlsplit(url), str(error)
    if parts.scheme == "rediss":
        if (unreadable := _unreadable_ca_file(url)) is not None:
            return unreadable
        if _VERIFY in text:
            return _explain_certificate(text)
        if await _probe(_speaks_plain, url):
            return UsageError("the server does not use TLS", fix="use redis:// for it, or turn TLS on there")
    elif parts.scheme == "redis" and await _probe(_speaks_tls, url):
        return UsageError("the server uses TLS", fix="use rediss:// for it")
    return None


def warn_if_unchecked(url: str) -> None:
    """Log a warning if the URL turns off the check of the server's certificate."""
    options = parse_qs(urlsplit(url).query)
    unchecked = options.get("ssl_cert_reqs") == ["none"]
    unnamed = options.get("ssl_check_hostname", [""])[0].lower() in ("false", "no", "n", "0", "f")
    if url.startswith("rediss:") and (unchecked or unnamed):
        problem = "is not checked" if unchecked else "may be of any host"
        log.warning(
            f"Redis: the certificate {problem}: anybody may pose as the server",
            url=redact_url(url),
            fix="drop ssl_cert_reqs and ssl_check_hostname; name the CA by ?ssl_ca_certs=/path/ca.pem",
        )


def _explain_certificate(text: str) -> UsageError:
    """Return why a certificate was rejected."""
    cause = text.partition("certificate verify failed: ")[2].partition(" (_ssl.c")[0].rstrip(".")
    if "mismatch" in cause:
        return UsageError(
            f"its certificate is of another host ({cause})", fix="use the host that the certificate names"
        )
    if "expired" in cause:
        return UsageError(f"its certificate is out of date ({cause})", fix="renew it on the server")
    fix = "name the authority by ?ssl_ca_certs=/path/ca.pem"
    return UsageError(f"its certificate is of an unknown authority ({cause})", fix=fix)


def _unreadable_ca_file(url: str) -> UsageError | None:
    """Return why the authorities that the URL names cannot be read, if so."""
    for path in parse_qs(urlsplit(url).query).get("ssl_ca_certs", []):
        try:
            ssl.create_default_context(cafile=path)
        except ssl.SSLError:
            cause = "it holds no certificate"
        except OSError as error:
            cause = error.strerror or "it cannot be read"
        else:
            continue
        fix = "name a file with the certificate of the CA, as PEM"
        return UsageError(f"ssl_ca_certs={path}: {cause}", fix=fix)
    return None


async def _probe(probe: Callable[[str, int], Awaitable[bool]], url: str) -> bool:
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port or 6379
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_SECONDS):
            return await probe(host, port)
    except (OSError, asyncio.IncompleteReadError, ValueError):  # TimeoutError is an OSError
        return False


async def _speaks_plain(host: str, port: int) -> bool:
    """Return whether a Redis answers without TLS, be it by an error."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"PING\r\n")
        return (await reader.readline())[:1] in (b"+", b"-")
    finally:
        writer.close()


async def _speaks_tls(host: str, port: int) -> bool:
    """Return whether a server answers by TLS; its certificate does not matter."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    writer.close()
    return True
