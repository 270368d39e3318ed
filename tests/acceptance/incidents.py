"""A cluster to hurt, and all surfaces on which an alert must be seen to fire and to end."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from redis import Redis

from tests.acceptance.served import QUEUE, Served
from tests.support.program import Program
from tests.support.prometheus import find_program
from tests.support.prometheus_server import Prometheus
from tests.support.servers import ValkeyServer
from tests.support.webhook import Webhook

log = logging.getLogger(__name__)
"""How many seconds each alert took, by surface: pytest shows it with ``--log-cli-level WARNING``."""

COLOR, WEATHER, FANOUT, MODERATION = QUEUE, "weather-ingestion", "alert-fanout", "moderation-review"
PATIENCE_SECONDS = 300.0
Alert = tuple[str, str]
"""Its name, and its queue: empty if it is about a server."""

STATUS, LISTED, HEALTH, METRICS, HISTORY, WEBHOOK, PROMETHEUS = (
    "status",
    "list",
    "health",
    "metrics",
    "history",
    "webhook",
    "prometheus",
)
SURFACES = (STATUS, LISTED, HEALTH, METRICS, HISTORY, WEBHOOK, PROMETHEUS)
HANDLERS = """
import asyncio
import os
import time


async def work(ctx, fails=False, seconds=0, hangs=False, blocks=False):
    await asyncio.sleep(seconds)
    if fails and not os.path.exists("mended"):
        raise ValueError("the CDN is down")
    while hangs and not os.path.exists("released"):
        await asyncio.sleep(0.1)
    while blocks and not os.path.exists("released"):
        time.sleep(0.1)
"""


class Cluster:
    """Processes on servers of its own; the first one serves the HTTP that is looked at."""

    def __init__(self, directory: Path, redis: ValkeyServer, webhook: Webhook, **environment: str) -> None:
        self.program = Program(directory)
        self.redis = redis
        self.webhook = webhook
        self.directory = self.program.directory
        (self.directory / "incident_handlers.py").write_text(HANDLERS)
        self.environment = {
            "REDIS_URL": redis.url,
            "COUTURECAST_NOTIFY_URLS": webhook.url,
            "COUTURECAST_HANDLERS": ",".join(
                f"{queue}=incident_handlers:work" for queue in (COLOR, FANOUT, MODERATION)
            ),
            **{
                f"COUTURECAST_{queue.upper().replace('-', '_')}_RETRY_DELAYS": "none"
                for queue in (COLOR, FANOUT, MODERATION)
            },
            "COUTURECAST_ALERT_FANOUT_TIMEOUT": "900",
            "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",  # it is to block the event loop
            **environment,
        }
        # Commands do not wait for a server that is stopped on purpose.
        self.program.environment |= self.environment | {"COUTURECAST_START_PATIENCE": "0"}
        self.processes: list[Served] = []
        self.prometheus: Prometheus | None = None

    async def start(self, *queues: str) -> Served:
        """One more process, which serves ``queues``, by default all."""
        arguments = ("--queues", ",".join(queues)) if queues else ()
        environment = {**self.environment, "COUTURECAST_START_PATIENCE": "20"}
        process = await asyncio.to_thread(Served, self.program, *arguments, **environment)
        self.processes.append(process)
        if self.prometheus is None and find_program("prometheus") is not None:
            await self._start_prometheus(process)
        return process

    async def _start_prometheus(self, process: Served) -> None:
        rules = (await self.run("--data-dir", str(self.program.data_dir), "rules")).out
        target = process.url.removeprefix("http://")
        self.prometheus = Prometheus(self.directory / "prometheus", rules, [target])
        await _until(self._is_scraped)

    def _is_scraped(self) -> bool:
        assert self.prometheus is not None
        with suppress(httpx.TransportError, json.JSONDecodeError):
            return bool(self.prometheus.query("couturecast_build_info"))
        return False

    async def run(self, *arguments: str, **environment: str) -> Any:
        """Run a command to its end."""
        return await asyncio.to_thread(self.program.run, *arguments, **environment)

    async def enqueue(self, queue: str, count: int = 1, **data: float) -> None:
        """Have ``count`` jobs with these arguments."""

        def post() -> httpx.Response:
            with self.processes[0].client() as http:
                return http.post(f"/api/v1/queues/{queue}/jobs", json=[{"data": data}] * count)

        answer = await asyncio.to_thread(post)
        assert answer.status_code == 202, answer.text

    async def keep_active(self) -> None:
        """Have one long job: while nothing happens, the workers do not look for each alert."""
        await self.enqueue(FANOUT, seconds=600)

    def valkey(self) -> Redis:
        """A client of its Redis."""
        return Redis(port=self.redis.port)

    def release(self) -> None:
        """Let the jobs that hang or block end."""
        (self.directory / "released").touch()

    async def fires(self, *alerts: Alert, except_for: Mapping[Alert, Collection[str]] | None = None) -> None:
        """Wait until each alert fires on every surface, but those of ``except_for``."""
        await self._wait("fired", alerts, except_for or {})

    async def ended(self, *alerts: Alert, except_for: Mapping[Alert, Collection[str]] | None = None) -> None:
        """Wait until each alert has ended on every surface, but those of ``except_for``."""
        await self._wait("ended", alerts, except_for or {})

    async def _wait(
        self, change: str, alerts: Collection[Alert], except_for: Mapping[Alert, Collection[str]]
    ) -> None:
        surfaces = [name for name in SURFACES if name != PROMETHEUS or self.prometheus is not None]
        missing = {
            (alert, surface)
            for alert in alerts
            for surface in surfaces
            if surface not in except_for.get(alert, ())
        }
        began = time.monotonic()
        taken: dict[Alert, dict[str, float]] = {alert: {} for alert in alerts}
        try:
            while missing:
                seen = await asyncio.to_thread(self._look, {surface for _, surface in missing}, change)
                passed = time.monotonic() - began
                for alert, surface in sorted(missing):
                    if seen[surface] is not None and (alert in seen[surface]) == (
                        change == "fired" or surface in (HISTORY, WEBHOOK)
                    ):
                        missing.discard((alert, surface))
                        taken[alert][surface] = round(passed)
                assert passed < PATIENCE_SECONDS, (change, sorted(missing), self.webhook.lines)
                await asyncio.sleep(0.5)
        finally:
            for alert, seconds in taken.items():
                log.warning("%s %s %s: %s", change, *alert, seconds)

    def _look(self, surfaces: Collection[str], change: str) -> Mapping[str, set[Alert] | None]:
        """The alerts that each surface has; None if it says nothing now."""
        return {surface: getattr(self, f"_{surface}")(change) for surface in surfaces}

    def _status(self, change: str) -> set[Alert] | None:
        done = self.program.run("status", "--json")
        found = done.json["alerts"] if done.out else None
        return None if found is None else set(_firing(found, "name"))

    def _list(self, change: str) -> set[Alert] | None:
        done = self.program.run("alerts", "list", "--json")
        return set(_firing(done.json["items"], "alert")) if done.out else None

    def _health(self, change: str) -> set[Alert] | None:
        answer = self._get("/api/v1/health/queues")
        found = answer.json()
        alerts = found["alerts"] + [alert for queue in found["queues"] for alert in queue["alerts"]]
        firing = set(_firing(alerts, "name"))
        assert answer.status_code == (200 if found["healthy"] else 503)
        assert not found["healthy"] or not firing
        return firing

    def _metrics(self, change: str) -> set[Alert]:
        lines = self._get("/metrics").text.splitlines()
        found = set()
        for line in lines:
            if line.startswith("couturecast_alert{") and line.endswith(" 1.0"):
                pairs = (pair.split("=") for pair in line[line.index("{") + 1 : line.index("}")].split(","))
                labels = {name: value.strip('"') for name, value in pairs}
                found.add((labels["alert"], labels["queue"]))
        return found

    def _get(self, path: str) -> httpx.Response:
        with httpx.Client(base_url=self.processes[0].url, timeout=30) as http:
            return http.get(path)

    def _history(self, change: str) -> set[Alert] | None:
        """While it fires the newest record fires; when it has ended that one is resolved.

        By HTTP: the command refuses while Redis is down, too.
        """
        with self.processes[0].client() as http:
            answer = http.get("/api/v1/alerts/history")
        if answer.status_code != 200:  # the database is down
            return None
        newest: dict[Alert, str] = {}
        for record in answer.json()["items"]:
            newest.setdefault((record["alert"], record["queue"]), record["state"])
        expected = "firing" if change == "fired" else "resolved"
        return {alert for alert, state in newest.items() if state == expected}

    def _webhook(self, change: str) -> set[Alert]:
        """The alerts of which the last line is that they fire, or have ended."""
        last: dict[str, bool] = {}
        for line in self.webhook.lines:
            subject, _, text = line.removeprefix("warning: ").removeprefix("critical: ").partition(":")
            last[subject] = text.startswith(" resolved after ")
        found = set()
        for subject, is_resolved in last.items():
            queue = next((queue for queue in (COLOR, WEATHER, FANOUT, MODERATION) if queue in subject), "")
            if is_resolved == (change == "ended"):
                found.add((subject.removeprefix(queue).strip().replace(" ", "_"), queue))
        return found

    def _prometheus(self, change: str) -> set[Alert]:
        assert self.prometheus is not None
        return self.prometheus.firing()

    def close(self) -> None:
        """End all that was started."""
        if self.prometheus is not None:
            self.prometheus.close()
        for process in self.processes:
            process.close()


def _firing(alerts: Collection[dict[str, Any]], name: str) -> Iterator[Alert]:
    for alert in alerts:
        if alert["state"] == "firing":
            yield alert[name], alert["queue"] or ""


async def _until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, condition
        await asyncio.sleep(0.2)


@asynccontextmanager
async def cluster(directory: Path, **environment: str) -> AsyncIterator[Cluster]:
    """A cluster without a process yet, for the length of a block."""
    redis, webhook = ValkeyServer(directory / "valkey", "--appendonly", "yes"), Webhook()
    await asyncio.to_thread(redis.start)
    await webhook.start()
    made = Cluster(directory, redis, webhook, **environment)
    try:
        yield made
    finally:
        made.close()
        await webhook.close()
        redis.kill()


def kill(process: Served) -> None:
    """End a process as the kernel does when memory runs out."""
    process.process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.process.wait()
