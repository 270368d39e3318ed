"""A server that is milliseconds away: every byte waits half of the round trip on its way, in both directions.

A program of its own, with two threads a connection: sleeping threads are late by some 60 µs, where timers of
an event loop are late by a millisecond.  The time of the proxy itself is part of the delay.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from urllib.parse import urlsplit

_CHUNK_BYTES = 1 << 16
_LATE_SECONDS = 0.00010
"""By which a sleep ends late, and what the proxy takes: it is asked to be so much shorter."""


@contextmanager
def distant(url: str, round_trip_ms: float) -> Iterator[str]:
    """The URL of the same server, as far away as ``round_trip_ms``."""
    command = [sys.executable, "-m", "tests.benchmarks.distant", str(urlsplit(url).port), str(round_trip_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout is not None
            yield f"redis://127.0.0.1:{proxy.stdout.readline().strip()}/0"
        finally:
            proxy.kill()


def _forward(source: socket.socket, target: socket.socket, delay: float) -> None:
    """Send what arrives at ``source`` to ``target``, each piece ``delay`` seconds later."""
    pieces: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
    Thread(target=_send, args=(pieces, target), daemon=True).start()
    while True:
        try:
            data = source.recv(_CHUNK_BYTES)
        except OSError:
            data = b""
        pieces.put((time.monotonic() + delay, data))
        if not data:
            return


def _send(pieces: SimpleQueue[tuple[float, bytes]], target: socket.socket) -> None:
    while True:
        due, data = pieces.get()
        left = due - time.monotonic() - _LATE_SECONDS
        if left > 0:
            time.sleep(left)
        try:
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(data)
        except OSError:
            return


def _serve(port: int, delay: float) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, target in ((client, server), (server, client)):
            Thread(target=_forward, args=(source, target, delay), daemon=True).start()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]) / 2000)
