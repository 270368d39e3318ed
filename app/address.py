"""Where HTTP is served: HOST:PORT, read and bound."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

_BACKLOG = 128
_FORM = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", re.ASCII
)
_MEND = "is no HOST:PORT: use for instance 127.0.0.1:8020, 0.0.0.0:8020 or [::1]:8020"


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or number, and a TCP port; port 0 is any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that ``text`` names.  Raises ValueError, which says how to mend it."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} {_MEND}")
        if int(found["port"]) > 65_535:
            raise ValueError(f"{text!r}: ports end at 65535")
        return cls(found["six"] or found["host"], int(found["port"]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


DEFAULT_ADDRESS = Address("127.0.0.1", 8020)


def listen(address: Address) -> socket.socket:
    """A socket that listens there.  Raises OSError where it cannot be bound.

    What connects before the server runs waits for it.
    """
    (family, kind, protocol, _, place), *_ = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def bound(listener: socket.socket) -> Address:
    """Where ``listener`` really listens."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)
