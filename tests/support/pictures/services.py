"""Services that the jobs of the pictures call: for weather, failing at times, and one that never answers."""

from __future__ import annotations

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.prometheus import PROJECT

_ONE_CALL = (PROJECT / "tests/integration/workers/handlers/onecall.json").read_bytes()
_FAILING_LATITUDE = "69.65"
_FAILURE_REQUESTS = 8
_numbers = itertools.count()
_TRICKLE_SECONDS = 3.0
"""Between two bytes of a picture that never ends; the handler gives up a silence of ten."""


class Services(BaseHTTPRequestHandler):
    """Answers ``/data/…`` with weather, for one place at times with 503; ``/uploads/…`` never to its end."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path.startswith("/uploads/"):
            self._trickle()
            return
        failing = f"lat={_FAILING_LATITUDE}" in self.path and next(_numbers) % _FAILURE_REQUESTS == 0
        body = json.dumps({"cod": 503, "message": "overloaded"}).encode() if failing else _ONE_CALL
        self.send_response(503 if failing else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _trickle(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4000000")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"\x00")
                self.wfile.flush()
                time.sleep(_TRICKLE_SECONDS)
        except OSError:
            return  # the handler has given up

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients give up."""


def serve() -> str:
    """Start in the background, until the program ends; the base URL."""
    server = _Server(("127.0.0.1", 0), Services)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def images() -> Path:
    """The sample pictures."""
    return PROJECT / "app/process/samples/images"
