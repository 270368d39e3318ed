"""What is wrong with the encryption of a connection to Redis, and how to mend it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

import structlog

from storage.redis.client import redact_url

log = structlog.get_logger(__name__)

_PROBE_SECONDS = 3.0
_VERIFY = "CERTIFICATE_VERIFY_FAILED"


async def encryption_problem(url: str, error: Exception) -> str | None:
    """Why ``url`` failed with ``error``, in a line that says how to mend it; None where it is something else.

    Asks the server whether it speaks TLS at all; it is sent no password.
    """
    parts, text = urlsplit(url), str(error)
    if parts.scheme == "rediss":
        if (broken := _broken_file(url)) is not None:
            return broken
        if _VERIFY in text:
            return _distrust(text)
        if await _answers(_ask_plainly, url):
            return "it speaks no TLS: use redis:// for it, or turn TLS on there"
    elif parts.scheme == "redis" and await _answers(_ask_by_tls, url):
        return "it speaks TLS: use rediss:// for it"
    return None


def warn_where_unchecked(url: str) -> None:
    """Log that a server's certificate is not checked, where the URL says so."""
    options = parse_qs(urlsplit(url).query)
    unchecked = options.get("ssl_cert_reqs") == ["none"]
    unnamed = options.get("ssl_check_hostname", [""])[0].lower() in ("false", "no", "n", "0", "f")
    if url.startswith("rediss:") and (unchecked or unnamed):
        what = "is not checked" if unchecked else "may be of any host"
        log.warning(
            f"Redis: the certificate {what}: anybody may pose as the server",
            url=redact_url(url),
            mend="drop ssl_cert_reqs and ssl_check_hostname; name the CA by ?ssl_ca_certs=/path/ca.pem",
        )


def _distrust(text: str) -> str:
    """What a certificate that was refused is told of."""
    cause = text.partition("certificate verify failed: ")[2].partition(" (_ssl.c")[0].rstrip(".")
    if "mismatch" in cause:
        return f"its certificate is of another host ({cause}): use the host that the certificate names"
    if "expired" in cause:
        return f"its certificate is out of date ({cause}): renew it on the server"
    return f"its certificate is of an unknown authority ({cause}): name it by ?ssl_ca_certs=/path/ca.pem"


def _broken_file(url: str) -> str | None:
    """The authorities that the URL names cannot be read."""
    for path in parse_qs(urlsplit(url).query).get("ssl_ca_certs", []):
        try:
            ssl.create_default_context(cafile=path)
        except ssl.SSLError:
            cause = "it holds no certificate"
        except OSError as error:
            cause = error.strerror or "it cannot be read"
        else:
            continue
        return f"ssl_ca_certs={path}: {cause}: name a file with the certificate of the CA, as PEM"
    return None


async def _answers(ask: Callable[[str, int], Awaitable[bool]], url: str) -> bool:
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port or 6379
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            return await ask(host, port)
    except (OSError, asyncio.IncompleteReadError, ValueError):  # TimeoutError is an OSError
        return False


async def _ask_plainly(host: str, port: int) -> bool:
    """Whether a Redis answers without TLS; anything that looks like an answer will do."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"PING\r\n")
        return (await reader.readline())[:1] in (b"+", b"-")
    finally:
        writer.close()


async def _ask_by_tls(host: str, port: int) -> bool:
    """Whether anything speaks TLS, whoever it is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    writer.close()
    return True
