"""The child's end of its two sockets.

A message is a length (4 bytes, big-endian) and a JSON object.

- First socket, to the child: ``run`` (a list of jobs).
- First socket, to the appliance: ``ready`` or ``refused``, then ``ended`` (a list of results and errors, by
  the number of the job), ``ask`` (update a job, enqueue one), ``lines`` (of a job; of none: number 0),
  ``stack``, ``files``.
- Second socket, to the child, obeyed while handlers run: ``cancel`` (a number), ``stack`` (a number),
  ``files``, ``answer`` (to an ``ask``).  The process ends when this socket is closed.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

_LENGTH = struct.Struct(">I")
_READ_BYTES = 1 << 16

MAX_VALUE_BYTES = 32 << 20
"""Largest result or request, as JSON: the appliance closes the socket of a process that sends much more."""
_decode = json.loads
"""Not looked up in the module, in which a handler may have replaced it."""
encode = json.JSONEncoder(separators=(",", ":")).encode
"""A value as JSON; what the standard library's ``json`` makes of it, without its spaces."""


def check_size(text: str) -> str:
    """Return a text of JSON, which is ASCII.  Raises ValueError if it is too large to be sent."""
    if len(text) > MAX_VALUE_BYTES:
        raise ValueError(f"it has {len(text) >> 20} MB, {MAX_VALUE_BYTES >> 20} MB are possible")
    return text


class Reader:
    """Cuts what is received into messages."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()

    def fileno(self) -> int:
        """Return the descriptor, for an event loop."""
        return self._connection.fileno()

    def receive(self, flags: int = 0) -> list[Any] | None:
        """Return the whole messages of one reading; None once the appliance has closed the socket.

        Raises BlockingIOError with the flag MSG_DONTWAIT.
        """
        data = self._connection.recv(_READ_BYTES, flags)
        if not data:
            return None
        received = self._received
        received += data
        messages, begin = [], 0
        while len(received) - begin >= _LENGTH.size:
            end = begin + _LENGTH.size + _LENGTH.unpack_from(received, begin)[0]
            if len(received) < end:
                break
            messages.append(_decode(received[begin + _LENGTH.size : end]))
            begin = end
        del received[:begin]
        return messages

    def messages(self) -> Iterator[Any]:
        """Yield every message until the socket is closed."""
        while True:
            messages = self.receive()
            if messages is None:
                return
            yield from messages


class Writer:
    """Sends messages; any thread may."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message.  Raises TypeError or ValueError if JSON does not have it, or it is too large."""
        self.send_json(check_size(encode(message)))

    def send_json(self, text: str) -> None:
        """Send a message that is JSON already."""
        body = text.encode()
        if os.getpid() != self._pid:  # a child that a handler forked
            os._exit(1)
        try:
            with self._lock:
                self._connection.sendall(_LENGTH.pack(len(body)) + body)
        except OSError:  # the appliance is gone, or a handler has closed the socket
            os._exit(1)
