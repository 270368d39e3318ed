"""The command line that every measured tool has, so that the driver need not know them apart.

``python -m tests.benchmarks.peers.NAME VERB --redis URL …`` prints JSON, one object a line:

enqueue  put ``--jobs`` jobs on the queue, in bulk where the tool can: ``{"seconds": s}``
work     one worker, until ``--jobs`` of the jobs that wait have ended: ``{"seconds": s}``, from the moment at
         which the worker begins to take until Redis has recorded the last end
serve    one worker on ``--queues`` queues, or on ``--queue`` alone: ``{"ready": true}``; runs until its
         standard input closes
send     one job at a time, ``--pause`` seconds apart; its worker prints ``{"sent": ns, "at": ns}`` as it
         starts: the clock before the enqueue call and in the handler, one monotonic clock for all processes;
         with ``--delay`` the job is to start so many seconds later, and ``sent`` is that time

``--chunk`` is the number of jobs in one bulk call.

This module needs the standard library alone: the peers have environments of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

QUEUES = ("color-extraction", "weather-ingestion", "alert-fanout", "moderation-review")
"""The product's four; jobs go to the first."""
QUEUE = QUEUES[0]

MAX_BULK_JOBS = 10_000
"""Jobs in one bulk call."""
_MAX_CALLS = 100
"""Enqueue calls under way at once, for a tool that has no bulk call."""
_SETTLE_SECONDS = 1.0
"""Seconds that a worker gets before it counts as idle."""


class Jobs:
    """What every job does, whichever tool runs it, and how many have done it."""

    def __init__(self, expected: int = 0) -> None:
        self.all_done = asyncio.Event()
        self._left = expected

    async def run(self, ms: float = 0, sent: int = 0) -> None:
        """Wait ``ms`` milliseconds, or do nothing at all; with ``sent``, say first that it started."""
        if sent:
            say(sent=sent, at=time.monotonic_ns())
        if ms:
            await asyncio.sleep(ms / 1000)
        self._left -= 1
        if not self._left:
            self.all_done.set()


class Tool(ABC):
    """One queue tool; made inside the event loop."""

    def __init__(self, redis_url: str, jobs: Jobs, *, economical: bool, queue: str) -> None:
        self.redis_url = redis_url
        self.jobs = jobs
        self.queue = queue
        """To which jobs go."""
        self.economical = economical
        """Wanted: the tool's own cheap mode, if it has one."""

    async def open(self) -> None:  # noqa: B027 - few tools have anything to open
        """What comes before the first job and is not measured."""

    @abstractmethod
    async def enqueue(self, jobs: Sequence[dict[str, Any]]) -> None:
        """Put jobs on the queue; each is the arguments of `Jobs.run`."""

    async def enqueue_later(self, job: dict[str, Any], seconds: float) -> None:
        """Put one job on the queue that is to start in ``seconds``."""
        raise NotImplementedError

    @abstractmethod
    async def work(self, queues: Sequence[str], concurrency: int) -> None:
        """Run a worker until cancelled."""

    @abstractmethod
    async def count_unfinished(self) -> int:
        """Jobs that Redis does not know as ended."""


async def await_in_batches(calls: Iterable[Awaitable[Any]]) -> None:
    """Await ``calls``, a hundred at a time: what a producer does whose tool has no bulk call."""
    batch: list[Awaitable[Any]] = []
    for call in calls:
        batch.append(call)
        if len(batch) == _MAX_CALLS:
            await asyncio.gather(*batch)
            batch.clear()
    await asyncio.gather(*batch)


def say(**fields: Any) -> None:
    """One line for the driver."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main(make: Callable[..., Tool], run: Callable[[Coroutine[Any, Any, None]], Any] = asyncio.run) -> None:
    """Carry out the command line with the tool that ``make`` makes, on the event loop of ``run``."""
    run(_main(make, _arguments()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["enqueue", "work", "serve", "send"])
    parser.add_argument("--redis", required=True)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--ms", type=float, default=0)
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--queues", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("--delay", type=float, default=0)
    parser.add_argument("--economical", action="store_true")
    parser.add_argument("--queue", choices=QUEUES, default=QUEUE)
    parser.add_argument("--chunk", type=int, default=MAX_BULK_JOBS)
    return parser.parse_args()


async def _main(make: Callable[..., Tool], options: argparse.Namespace) -> None:
    jobs = Jobs(options.jobs)
    tool = make(options.redis, jobs, economical=options.economical, queue=options.queue)
    await tool.open()
    verb = {"enqueue": _enqueue, "work": _work, "serve": _serve, "send": _send}[options.verb]
    await verb(tool, options)
    os._exit(0)  # how long a tool takes to say goodbye is not measured


async def _enqueue(tool: Tool, options: argparse.Namespace) -> None:
    await tool.count_unfinished()  # the connection is there
    arguments = {"ms": options.ms} if options.ms else {}
    began = time.perf_counter()
    for start in range(0, options.jobs, options.chunk):
        await tool.enqueue([arguments] * min(options.chunk, options.jobs - start))
    say(seconds=time.perf_counter() - began)


async def _work(tool: Tool, options: argparse.Namespace) -> None:
    left = await tool.count_unfinished() - options.jobs
    began = time.perf_counter()
    worker = asyncio.create_task(tool.work(QUEUES[:1], options.concurrency))
    done = asyncio.create_task(tool.jobs.all_done.wait())
    await asyncio.wait({worker, done}, return_when=asyncio.FIRST_COMPLETED)
    if worker.done():
        worker.result()
        raise RuntimeError("the worker ended before its jobs")
    while await tool.count_unfinished() > left:  # noqa: ASYNC110 - Redis has no event to await
        await asyncio.sleep(0.001)
    say(seconds=time.perf_counter() - began)


async def _serve(tool: Tool, options: argparse.Namespace) -> None:
    queues = QUEUES[: options.queues] if options.queues > 1 else [options.queue]
    worker = asyncio.create_task(tool.work(queues, options.concurrency))
    closed = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait({worker, closed}, timeout=_SETTLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    say(ready=True)
    await asyncio.wait({worker, closed}, return_when=asyncio.FIRST_COMPLETED)
    if worker.done():
        worker.result()
        raise RuntimeError("the worker ended")


async def _send(tool: Tool, options: argparse.Namespace) -> None:
    await tool.count_unfinished()
    for _ in range(options.jobs):
        await asyncio.sleep(options.pause)
        arguments = {"ms": options.ms} if options.ms else {}
        due = time.monotonic_ns() + round(options.delay * 1e9)
        if options.delay:
            await tool.enqueue_later({**arguments, "sent": due}, options.delay)
        else:
            await tool.enqueue([{**arguments, "sent": due}])
