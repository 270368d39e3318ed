"""The program with its HTTP, and a client that knows the token."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.program import RUN_SECONDS, Program, stop_server

QUEUE = "color-extraction"
HANDLERS = '''
import asyncio
import os


async def nothing(ctx, **kwargs):
    """Takes whatever it is given."""


async def slow(ctx, seconds):
    await asyncio.sleep(seconds)


async def gated(ctx, **kwargs):
    """Runs until there is a file ``opened``."""
    while not os.path.exists("opened"):
        await asyncio.sleep(0.05)


async def picky(ctx, fails=None, **kwargs):
    """Fails with what it is told to, until there is a file ``mended``."""
    if fails is not None and not os.path.exists("mended"):
        raise ValueError(fails)
'''


class Served:
    """A process that serves HTTP, headless, on a free port unless ``environment`` names an address."""

    def __init__(
        self, program: Program, *arguments: str, handler: str = "nothing", **environment: str
    ) -> None:
        (program.directory / "ours.py").write_text(HANDLERS)
        queues = ("weather-ingestion", "alert-fanout", QUEUE, "moderation-review")
        given = {
            "COUTURECAST_HTTP": "127.0.0.1:0",
            "COUTURECAST_HANDLERS": ",".join(f"{queue}=ours:{handler}" for queue in queues),
            # Four processes less to start, for tests of HTTP.
            **{f"COUTURECAST_{queue.upper().replace('-', '_')}_RUN": "inline" for queue in queues},
        }
        self.program = program
        self._log = Path(program.directory, f"served-{time.monotonic_ns()}")
        with self._log.open("wb") as log:
            self.process, self._out = program.spawn("--no-ui", *arguments, log=log, **(given | environment))
        line = self._out.readline()
        assert line == b"ready\n", self.log

    @property
    def log(self) -> str:
        """Return its standard error so far."""
        return self._log.read_text()

    def event(self, name: str) -> dict[str, Any]:
        """The first line of its log of that name; waits for it."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            for line in self.log.splitlines():
                with contextlib.suppress(json.JSONDecodeError):  # half a line
                    found: dict[str, Any] = json.loads(line)
                    if found["event"].startswith(name):
                        return found
            assert self.process.poll() is None, self.log
            time.sleep(0.01)
        raise AssertionError(f"it never logged {name!r}: {self.log}")

    @property
    def url(self) -> str:
        """Return the URL at which it answers."""
        url: str = self.event("http answers")["url"]
        return url

    @property
    def token(self) -> str:
        """The token that is kept in the data directory."""
        return (self.program.data_dir / "admin-token").read_text().strip()

    def client(self, *, token: str | None = None) -> httpx.Client:
        """A client with the token."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def ended(self, *, within: float = 20.0) -> int:
        """Its exit code."""
        return self.process.wait(within)

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._out.close()


@contextlib.contextmanager
def served(
    directory: Path, *arguments: str, handler: str = "nothing", **environment: str
) -> Iterator[Served]:
    """One that runs for the length of a block, on a data directory of its own."""
    program = Program(directory)
    running = Served(program, *arguments, handler=handler, **environment)
    try:
        yield running
    finally:
        running.close()
        stop_server(program.data_dir)


def assert_problem(response: httpx.Response, status: int, says: str = "") -> dict[str, Any]:
    """The problem that ``response`` is."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["type"] == "about:blank"
    assert says in problem["detail"]
    return problem


def in_flight(client: httpx.Client) -> int:
    """Jobs that run, by the health of the queues."""
    health = client.get("/api/v1/health/queues").json()
    return sum(queue["in_flight"] for queue in health["queues"])


def metrics(client: httpx.Client) -> dict[tuple[str, str], float]:
    """The figures, by name and queue."""
    return {
        (sample.name, sample.labels.get("queue", "")): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if "quantile" not in sample.labels
    }
