"""Downloads and webhooks that cannot be pointed at the inside of our own network."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Iterable
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from couturecast_handlers import PermanentError

_MAX_REDIRECTS = 3
_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=5.0)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_MAY_PASS = (408, 425, 429)  # of the 4xx answers, those that mean "later"

for _chatty in ("httpx", "httpcore"):  # they log whole URLs, and these may hold keys
    logging.getLogger(_chatty).setLevel(logging.WARNING)


NO_URL = (httpx.InvalidURL, UnicodeError, OverflowError)
"""Errors of httpx for text that is not a URL, a name that IDNA refuses, a port of 99999."""


class ForbiddenAddressError(PermanentError):
    """A host is, or resolves to, an address that is not a public one."""


class DownloadTooLargeError(PermanentError):
    """A download is larger than allowed."""


class DownloadError(Exception):
    """A download failed in a way that may pass; the message names the host, not the URL."""


def is_public(address: str) -> bool:
    """Return whether an IP address is a public one, also if an IPv6 address only carries an IPv4 one.

    Not public: private, loopback, link-local, shared, reserved, multicast, unspecified.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour
        if carried is None and ip in _NAT64:
            carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class _PublicOnlyBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, refuses what is not public, and connects to the very address that was checked.

    A second look-up, which might answer differently, does not happen.
    """

    def __init__(self) -> None:
        self._real = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a public address of ``host``.  Raises ForbiddenAddressError."""
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await _public_addresses(host, port):
            try:
                return await self._real.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no URL of a job leads to a socket of this machine."""
        raise ForbiddenAddressError("Unix sockets are not reached from a job")

    async def sleep(self, seconds: float) -> None:
        """Sleep, as httpcore requires."""
        await asyncio.sleep(seconds)


async def _public_addresses(host: str, port: int) -> list[str]:
    """Return all addresses of ``host``; one that is not public is refused."""
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise httpcore.ConnectError(f"{host}: {error.strerror}") from error
    except UnicodeError:
        raise PermanentError(f"{host[:100]!r} is no host name") from None
    addresses = [str(entry[4][0]) for entry in entries]
    for address in addresses:
        if not is_public(address):
            raise ForbiddenAddressError(
                f"{host} is at {address}, which is not a public address; "
                "COUTURECAST_ALLOW_PRIVATE_ADDRESSES=1 allows it"
            )
    return addresses


@cache
def _trusted_context() -> ssl.SSLContext:
    """Trust the CAs of certifi, or of SSL_CERT_FILE.  They are read once, since that takes a while."""
    return httpx.create_ssl_context()


def client(
    *, allow_private_addresses: bool, timeout: float, headers: dict[str, str] | None = None
) -> httpx.AsyncClient:
    """Return a client that follows no redirect by itself, keeps no cookies, and uses no proxy.

    ``timeout`` is in seconds, for each of connecting, writing and reading.  Without
    ``allow_private_addresses`` it reaches public addresses only.
    """
    transport = httpx.AsyncHTTPTransport(verify=_trusted_context(), limits=_CONNECTIONS, trust_env=False)
    if not allow_private_addresses:
        transport._pool = httpcore.AsyncConnectionPool(  # httpx has no argument for the network backend
            ssl_context=_trusted_context(),
            max_connections=_CONNECTIONS.max_connections,
            max_keepalive_connections=_CONNECTIONS.max_keepalive_connections,
            keepalive_expiry=_CONNECTIONS.keepalive_expiry,
            network_backend=_PublicOnlyBackend(),
        )
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(
        transport=transport, timeout=timeout, headers=headers, cookies=no_cookies, trust_env=False
    )


def is_retryable(status: int) -> bool:
    """Return whether another attempt may succeed after an answer of this status, which is not a success."""
    return status >= 500 or status in _MAY_PASS


async def request_limited(
    http: httpx.AsyncClient, method: str, url: str, *, max_bytes: int, seconds: float, **options: Any
) -> tuple[int, bytes]:
    """Send one request; return status and body of its answer, the body only of a success.

    ``options`` are httpx's.

    Raises httpx.HTTPError, TimeoutError after ``seconds``, and DownloadTooLargeError.
    """
    async with (
        asyncio.timeout(seconds),
        http.stream(method, url, headers={"Accept-Encoding": "identity"}, **options) as response,
    ):
        body = await _body(response, max_bytes) if response.is_success else b""
        return response.status_code, body


async def download(http: httpx.AsyncClient, url: str, *, max_bytes: int, seconds: float) -> bytes:
    """Return the body at ``url``, after at most three redirects, each checked like the first address.

    Raises PermanentError for lasting errors (a refused address, most of 4xx, too large, no URL), and
    DownloadError for those that may pass, such as no answer within ``seconds``.
    """
    host = _host(url)
    try:
        async with asyncio.timeout(seconds):
            return await _follow(http, url, max_bytes)
    except (*NO_URL, httpx.UnsupportedProtocol):
        raise PermanentError(f"the download from {host} leads to no http(s) URL") from None
    except httpx.HTTPError as error:
        raise DownloadError(f"the download from {host} failed: {reason(error)}") from None
    except TimeoutError:
        raise DownloadError(f"the download from {host} took longer than {seconds:g} s") from None


async def _follow(http: httpx.AsyncClient, url: str, max_bytes: int) -> bytes:
    for _ in range(_MAX_REDIRECTS + 1):
        # a compressed answer could unfold to any size, and pictures are compressed already
        async with http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
            if response.has_redirect_location:
                url = str(response.url.join(response.headers["location"]))
                continue
            host, status = response.url.host, response.status_code
            if is_retryable(status):
                raise DownloadError(f"{host} answers {status} for the download")
            if status != 200:
                raise PermanentError(f"{host} answers {status} for the download")
            return await _body(response, max_bytes)
    raise PermanentError(f"the download has more than {_MAX_REDIRECTS} redirects")


async def _body(response: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    if int(response.headers.get("content-length", 0)) <= max_bytes:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > max_bytes:
                break
        else:
            return bytes(body)
    raise DownloadTooLargeError(f"the download from {response.url.host} is larger than {max_bytes:,} bytes")


def reason(error: httpx.HTTPError) -> str:
    """Describe why there is no answer; some of httpx' errors have no text."""
    return str(error) or type(error).__name__


def _host(url: str) -> str:
    """Return the host, for messages: a URL may hold a password or a signature, its host does not."""
    try:
        return httpx.URL(url).host or "no host"
    except NO_URL:
        return "no host"
