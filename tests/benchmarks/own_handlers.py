"""A team's handlers in processes of their own, beside the same ones inline: what the isolation costs."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import program
from tests.benchmarks.alone import held_back, release
from tests.benchmarks.measurement import Bench, Figure, Measurement
from tests.benchmarks.peer import OURS, ROOT, Peer
from tests.benchmarks.peers.protocol import QUEUE
from workers.handlers.processes.launch import HandlerSource
from workers.handlers.processes.process import HandlerProcess

_MODULE = "tests.benchmarks.handlers"
_CONCURRENCIES = (10, 100)
_WORK_SECONDS = 0.005
_SETTLE_SECONDS = 2.0
"""Seconds that a started program gets before its queue is resumed."""
_STARTS = 10


def _beside_inline(bench: Bench, _: Peer) -> tuple[float, ...]:
    """Of each kind of job and each concurrency: jobs a second inline, in a process, and their ratio."""
    found: list[float] = []
    for function in ("no_op", "sleep"):
        for concurrency in _CONCURRENCIES:
            inline, process = (_rate(bench, function, run, concurrency) for run in ("inline", "process"))
            found += [inline, process, 100 * process / inline]
    return tuple(found)


def _plain(bench: Bench, _: Peer) -> tuple[float, ...]:
    """No-op jobs a second of plain functions, then which share of all cores 5 ms of computing keep busy."""
    no_ops = [_rate(bench, "plain_no_op", "process", concurrency) for concurrency in _CONCURRENCIES]
    rate = _rate(bench, "plain_work", "process", 10)
    return (*no_ops, 100 * rate * _WORK_SECONDS / (os.cpu_count() or 1))


def _rate(bench: Bench, function: str, run: str, concurrency: int) -> float:
    """Jobs a second of the program, headless."""
    settings = {
        "REDIS_URL": bench.url,
        "COUTURECAST_HANDLERS": f"{QUEUE}={_MODULE}:{function}",
        "COUTURECAST_COLOR_EXTRACTION_RUN": run,
        "COUTURECAST_COLOR_EXTRACTION_CONCURRENCY": str(concurrency),
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        held_back(bench, bench.jobs),
        program.headless(Path(folder), settings),
    ):
        time.sleep(_SETTLE_SECONDS)
        return release(bench)


def _start(_bench: Bench, _peer: Peer) -> tuple[float, ...]:
    """Milliseconds until a process takes jobs whose module imports nothing; the fastest of some."""
    return (min(asyncio.run(_start_seconds()) for _ in range(_STARTS)) * 1000,)


async def _start_seconds() -> float:
    async def refuse(*_: object) -> None: ...

    process = HandlerProcess(
        HandlerSource(QUEUE, f"{_MODULE}:plain_no_op", sys.executable, (str(ROOT),)), refuse, lambda _: None
    )
    began = time.perf_counter()
    await process.start()
    took = time.perf_counter() - began
    await process.close()
    return took


def _figures(title: str, goal: str) -> tuple[Figure, ...]:
    return tuple(
        figure
        for concurrency in _CONCURRENCIES
        for figure in (
            Figure(f"{title} jobs/s, concurrency {concurrency}, inline"),
            Figure(f"{title} jobs/s, concurrency {concurrency}, in a process"),
            Figure(f"{title} jobs, concurrency {concurrency}, % of inline", goal),
        )
    )


_US = (OURS,)

MEASUREMENTS = (
    Measurement(
        "handlers", (*_figures("no-op async", "60"), *_figures("5 ms async", "95")), _beside_inline, _US
    ),
    Measurement(
        "plain-handlers",
        (
            *(Figure(f"no-op jobs/s of a plain function, concurrency {count}") for count in _CONCURRENCIES),
            Figure("5 ms of computing in a plain function: % of all cores", "85"),
        ),
        _plain,
        _US,
    ),
    Measurement("handler-start", (Figure("start of a handler process, ms", "150"),), _start, _US),
)
"""In the order of the report."""
