"""Distinguishes private hosts from public ones: what goes to a public host leaves the private network."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address


async def is_private_host(host: str) -> bool:
    """Return whether every address of ``host`` is of this machine or a private network.

    The empty text is this machine.
    """
    if not host or host.startswith("/"):  # a Unix socket
        return True
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        return False
    addresses = [ip_address(str(address[0]).partition("%")[0]) for *_, address in entries]
    return all(address.is_private or address.is_loopback or address.is_link_local for address in addresses)
