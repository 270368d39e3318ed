"""Where a server is: whether what goes there leaves the private network."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address


async def is_near(host: str) -> bool:
    """Whether every address of ``host`` is of this machine or of a private network; '' is this machine."""
    if not host or host.startswith("/"):  # a Unix socket
        return True
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        return False
    addresses = [ip_address(str(place[0]).partition("%")[0]) for *_, place in found]
    return all(each.is_private or each.is_loopback or each.is_link_local for each in addresses)
