"""Downloads and webhooks that cannot be pointed at the inside of our own network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore
import httpx

from workers.errors import PermanentError

_MAX_REDIRECTS = 3


class ForbiddenAddressError(PermanentError):
    """A host is, or resolves to, an address that is not a public one."""


class TooLargeError(PermanentError):
    """A download is larger than allowed."""


def is_public(address: str) -> bool:
    """Whether an IP address is a public one: not private, loopback, link-local, reserved or multicast."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if mapped is not None:
        return is_public(str(mapped))
    return ip.is_global and not ip.is_multicast


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
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise httpcore.ConnectError(f"{host}: {error.strerror}") from error
        addresses = [str(entry[4][0]) for entry in found]
        refused = [address for address in addresses if not is_public(address)]
        if refused:
            raise ForbiddenAddressError(
                f"{host} is at {refused[0]}, which is not a public address; "
                "COUTURECAST_ALLOW_PRIVATE_ADDRESSES=1 allows it"
            )
        return await self._real.connect_tcp(
            addresses[0], port, timeout=timeout, local_address=local_address, socket_options=socket_options
        )

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never: no URL of a job leads to a socket of this machine."""
        raise ForbiddenAddressError("Unix sockets are not reached from a job")

    async def sleep(self, seconds: float) -> None:
        """As httpcore asks."""
        await asyncio.sleep(seconds)


def client(*, allow_private_addresses: bool, timeout: float) -> httpx.AsyncClient:
    """A client that follows no redirect by itself, uses no proxy, and reaches public addresses only.

    ``timeout`` is in seconds, for each of connecting, writing and reading.
    """
    if allow_private_addresses:
        return httpx.AsyncClient(timeout=timeout, trust_env=False)
    transport = httpx.AsyncHTTPTransport(trust_env=False)
    transport._pool = httpcore.AsyncConnectionPool(
        ssl_context=ssl.create_default_context(), network_backend=_PublicOnlyBackend()
    )
    return httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)


async def download(
    http: httpx.AsyncClient, url: str, *, max_bytes: int, headers: Mapping[str, str] | None = None
) -> bytes:
    """The body at ``url``, after at most three redirects, each checked like the first address.

    Raises PermanentError for what will not change (a refused address, 4xx, too large), httpx.HTTPError or
    httpx.HTTPStatusError for what may.
    """
    for _ in range(_MAX_REDIRECTS + 1):
        async with http.stream("GET", url, headers=headers) as response:
            if response.is_redirect:
                url = str(response.url.join(response.headers["location"]))
                continue
            if 400 <= response.status_code < 500 and response.status_code not in (408, 425, 429):
                raise PermanentError(f"{response.url.host} answers {response.status_code} for the download")
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > max_bytes:
                    raise TooLargeError(f"the download is larger than {max_bytes:,} bytes")
            return bytes(body)
    raise PermanentError(f"more than {_MAX_REDIRECTS} redirects")
