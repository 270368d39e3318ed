"""What processes and dashboards cost the server: many light processes, each with the four queues."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from saq import Job

from storage.database.engine import Database
from storage.redis.client import make_client
from storage.redis.pipeline import PipelineConnection
from tests.benchmarks.errors import BenchmarkError
from tests.benchmarks.peer import ROOT
from tests.benchmarks.scaling.light_processes import make_snapshots
from tests.benchmarks.scaling.meter import Usage, empty, read, usage_since
from tests.benchmarks.table import table
from workers.engine.keys import WORKERS, QueueKeys
from workers.engine.policy import ALERT, DEFAULT_POLICIES, NORMAL
from workers.engine.queue import JobQueue
from workers.monitoring.snapshot_reader import SnapshotReader

_MAX_LIGHT_PROCESSES = 125
"""Light processes in one process of the machine."""
_SETTLE_SECONDS = 40.0
"""After the start: each process has published its presence, and its alert keeper has made its first pass."""
_IDLE_SECONDS = 30.0
"""As long as the slowest interval of an idle process."""
_DASHBOARDS = 3
_JOBS_A_SECOND = 1
_BURST_JOBS = 2_000
_MAX_BURST_PROCESSES = 50
"""Processes, beyond which so many light ones are too slow for their jobs on a small machine."""
_MAX_SECONDS = 60.0


@dataclass(frozen=True)
class Look:
    """What the server did while dashboards were open."""

    used: Usage
    snapshots: list[float]
    """Seconds that each took."""


@dataclass(frozen=True)
class Cluster:
    """What was measured with so many processes."""

    processes: int
    memory: float
    """Bytes that the server holds for all of them."""
    presence: float
    """Bytes of one in the hash that every snapshot reads."""
    connections: float
    idle: Usage
    one: Look
    several: Look
    trickle: Usage
    burst: Usage | None


def cost_of_processes(url: str, client: Any, counts: list[int], seconds: float) -> str:
    """One row for each number of processes."""
    clusters = [_measure(url, client, count, seconds) for count in counts]
    return "\n\n".join((_idle_table(clusters), _dashboard_table(clusters), _jobs_table(clusters)))


def _measure(url: str, client: Any, count: int, seconds: float) -> Cluster:
    empty(client)
    before = read(client)
    with light_processes(url, count):
        time.sleep(_SETTLE_SECONDS)
        held = usage_since(client, before)
        presence = float(client.memory_usage(WORKERS, samples=0) or 0)
        start = read(client)
        time.sleep(_IDLE_SECONDS)
        idle = usage_since(client, start)
        one, several = (asyncio.run(_look(url, client, seconds, count)) for count in (1, _DASHBOARDS))
        trickle = asyncio.run(_trickle(url, client, seconds))
        burst = asyncio.run(_burst(url, client)) if count <= _MAX_BURST_PROCESSES else None
    cluster = Cluster(
        count,
        held.memory,
        presence / count,
        held.connections / count,
        idle,
        one,
        several,
        trickle,
        burst,
    )
    sys.stderr.write(f"{cluster}\n")
    return cluster


@contextmanager
def light_processes(url: str, count: int) -> Iterator[None]:
    """So many processes take jobs until the block ends."""
    with ExitStack() as stack:
        started = []
        for first in range(0, count, _MAX_LIGHT_PROCESSES):
            module = "tests.benchmarks.scaling.light_processes"
            process = subprocess.Popen(
                [sys.executable, "-m", module, url, str(min(_MAX_LIGHT_PROCESSES, count - first))],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            started.append(process)
            stack.callback(_end, process)
        for process in started:
            assert process.stdout is not None
            if not json.loads(process.stdout.readline() or "{}").get("ready"):
                raise BenchmarkError("light processes do not start")
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


async def _look(url: str, client: Any, seconds: float, dashboards: int) -> Look:
    """The snapshots of dashboards, as often as they take them."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/couturecast.db")
        await database.start()
        readers = [make_snapshots(url, database) for _ in range(dashboards)]
        for reader in readers:
            await reader.take()  # the first reads the history, and waits for what is refreshed later
        start = read(client)
        took = await asyncio.gather(*(_take(reader, start.at + seconds) for reader in readers))
        used = usage_since(client, start)
        for reader in readers:
            await reader.close()
        await database.close()
    return Look(used, [snapshot for snapshots in took for snapshot in snapshots])


async def _take(reader: SnapshotReader, until: float) -> list[float]:
    took: list[float] = []
    while time.monotonic() < until:
        began = time.monotonic()
        await reader.take()
        took.append(time.monotonic() - began)
        await asyncio.sleep(max(0.0, NORMAL.snapshot - took[-1]))
    return took


async def _trickle(url: str, client: Any, seconds: float) -> Usage:
    """Jobs one at a time, while none other waits."""
    async with _queue(url) as queue:
        start = read(client)
        for _ in range(round(seconds * _JOBS_A_SECOND)):
            await queue.enqueue_many([_job()])
            await asyncio.sleep(1 / _JOBS_A_SECOND)
        return usage_since(client, start)


async def _burst(url: str, client: Any) -> Usage:
    """Many jobs at once, until the last has ended."""
    keys = QueueKeys.of(ALERT)
    async with _queue(url) as queue:
        start = read(client)
        await queue.enqueue_many([_job() for _ in range(_BURST_JOBS)])
        while client.zcard(keys.incomplete):
            await asyncio.sleep(0.1)
            if time.monotonic() - start.at > _MAX_SECONDS:
                raise BenchmarkError("jobs were lost")
        return usage_since(client, start)


@asynccontextmanager
async def _queue(url: str) -> AsyncIterator[JobQueue]:
    redis, pipeline = make_client(url), PipelineConnection(url)
    yield JobQueue(redis, DEFAULT_POLICIES[ALERT], pipeline)
    await pipeline.close()
    await redis.aclose()


def _job() -> Job:
    return Job(function=DEFAULT_POLICIES[ALERT].function, kwargs={})


def _idle_table(clusters: list[Cluster]) -> str:
    head = (
        "processes",
        "connections of one",
        "MB for all",
        "bytes of a presence",
        "commands/s, idle",
        "% of the server's core",
        "kB/s out",
    )
    return table(
        head,
        [
            (
                str(cluster.processes),
                f"{cluster.connections:.1f}",
                f"{cluster.memory / 1e6:,.1f}",
                f"{cluster.presence:,.0f}",
                f"{cluster.idle.commands_a_second:,.0f}",
                f"{cluster.idle.cpu_percent:.1f}",
                f"{cluster.idle.output_bytes / cluster.idle.seconds / 1e3:,.0f}",
            )
            for cluster in clusters
        ],
    )


def _dashboard_table(clusters: list[Cluster]) -> str:
    head = (
        "processes",
        "a snapshot takes, ms (median, longest)",
        "the first dashboard, a snapshot: commands",
        "µs of the server's core",
        "kB",
        "each further one: commands",
        "µs of the server's core",
        "kB",
    )
    return table(head, map(_dashboard_row, clusters))


def _dashboard_row(cluster: Cluster) -> tuple[str, ...]:
    one, several, idle = cluster.one, cluster.several, cluster.idle
    taken, further = len(one.snapshots), len(several.snapshots) - len(one.snapshots)
    share, again = one.used.seconds / idle.seconds, several.used.seconds / one.used.seconds

    def costs(name: str) -> tuple[float, float]:
        first: float = getattr(one.used, name)
        first_one = (first - share * getattr(idle, name)) / taken
        return first_one, (getattr(several.used, name) - again * first) / further

    figures = [
        (f"{commands:,.0f}", f"{1e6 * cpu:,.0f}", f"{output / 1e3:,.1f}")
        for commands, cpu, output in zip(
            *map(costs, ("commands", "cpu_seconds", "output_bytes")), strict=True
        )
    ]
    took = f"{1e3 * median(one.snapshots):.1f}, {1e3 * max(one.snapshots):.1f}"
    return (str(cluster.processes), took, *figures[0], *figures[1])


def _jobs_table(clusters: list[Cluster]) -> str:
    head = (
        "processes",
        f"{_JOBS_A_SECOND} job/s: commands a job",
        "% of the server's core",
        f"{_BURST_JOBS:,} jobs at once: seconds",
        "commands a job",
        "µs of the server's core a job",
    )
    return table(head, map(_jobs_row, clusters))


def _jobs_row(cluster: Cluster) -> tuple[str, ...]:
    trickle, burst = cluster.trickle, cluster.burst
    many = ("", "", "")
    if burst is not None:
        microseconds = 1e6 * burst.cpu_seconds / _BURST_JOBS
        many = (f"{burst.seconds:.1f}", f"{burst.commands / _BURST_JOBS:,.1f}", f"{microseconds:,.0f}")
    return (
        str(cluster.processes),
        f"{trickle.commands / trickle.seconds / _JOBS_A_SECOND:,.0f}",
        f"{trickle.cpu_percent:.1f}",
        *many,
    )
