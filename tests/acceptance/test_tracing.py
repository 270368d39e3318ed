"""The program sends its spans to a collector, if one is configured."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed: make test-otel")

from tests.acceptance.served import QUEUE, served
from tests.support.servers import free_port
from tests.support.waiting import until


class Collector(ThreadingHTTPServer):
    """Takes what is sent to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []

    @property
    def received(self) -> bytes:
        return b"".join(self.bodies)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Collector)
        self.server.bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_spans_of_the_program_reach_the_collector_before_it_ends(
    tmp_path: Path, collector: Collector
) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    }
    with served(tmp_path, **environment) as running, running.client() as client:
        job = {"data": {}, "key": "dress-17"}
        assert client.post(f"/api/v1/queues/{QUEUE}/jobs", json=job).status_code == 202
        until(lambda: f'jobs_completed_total{{queue="{QUEUE}"}} 1' in client.get("/metrics").text)
        running.process.terminate()
        assert running.ended() == 0
    assert f"send {QUEUE}".encode() in collector.received
    assert f"process {QUEUE}".encode() in collector.received
    assert b"dress-17" in collector.received
    assert b"couturecast-tui" in collector.received


def test_a_collector_that_is_down_keeps_neither_jobs_nor_the_end_waiting(tmp_path: Path) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with served(tmp_path, **environment) as running, running.client() as client:
        assert client.post(f"/api/v1/queues/{QUEUE}/jobs", json={"data": {}}).status_code == 202
        until(lambda: f'jobs_completed_total{{queue="{QUEUE}"}} 1' in client.get("/metrics").text)
        running.process.terminate()
        assert running.ended() == 0
