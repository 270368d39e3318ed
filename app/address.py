"""The address of HTTP: HOST:PORT, parsed and bound."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from app.errors import InvalidValueError

_BACKLOG_CONNECTIONS = 128
"""Connections that may wait for the server."""
_FORM = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", re.ASCII
)
_LOOPBACK_OF_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - requested there
_FIX = "use for instance 127.0.0.1:8020, 0.0.0.0:8020 or [::1]:8020"


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or number, and a TCP port; port 0 is any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse HOST:PORT.  Raises InvalidValueError."""
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise InvalidValueError(f"{text!r} is not HOST:PORT", fix=_FIX)
        if int(match["port"]) > 65_535:
            raise InvalidValueError(f"{text!r}: ports end at 65535", fix="use a smaller number")
        return cls(match["six"] or match["host"], int(match["port"]))

    @property
    def for_clients(self) -> Address:
        """The address at which programs of this machine reach a server that listens here."""
        return Address(_LOOPBACK_OF_ANY.get(self.host, self.host), self.port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


DEFAULT_ADDRESS = Address("127.0.0.1", 8020)


def listen(address: Address) -> socket.socket:
    """Return a socket that listens there.  Raises OSError if it cannot be bound.

    Connections that are made before the server runs wait for it.
    """
    (family, kind, protocol, _, socket_address), *_ = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(socket_address)
        listener.listen(_BACKLOG_CONNECTIONS)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def local_address(listener: socket.socket) -> Address:
    """Return the address at which ``listener`` really listens."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)
