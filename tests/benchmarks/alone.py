"""The measurements that only this program has: its dashboard, its growth, its start, its memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tests.benchmarks import program
from tests.benchmarks.errors import BenchmarkError
from tests.benchmarks.measurement import Bench, Figure, Measurement
from tests.benchmarks.peer import MAX_WAIT_SECONDS, OURS, Peer
from tests.benchmarks.peers.protocol import QUEUE
from workers.engine.keys import WAKE_CHANNEL, QueueKeys

_HANDLER = f"{QUEUE}=tests.benchmarks.handlers"
_DASHBOARD_FACTOR = 5
"""The dashboard repaints once a second: it is measured over more jobs than the rest."""
_PROCESSES = (1, 2, 4)
_TWO_QUEUES = (QUEUE, "alert-fanout")
"""Without a rate limit."""
_DEPTHS = (1_000, 10_000, 100_000, 1_000_000)
_CONCURRENCY = 100
_MAX_START_SECONDS = 30.0
_SETTLE_SECONDS = 3.0
"""Seconds that a started program gets before it counts as idle."""

Start = Callable[[Path, dict[str, str]], AbstractContextManager[int]]


def _dashboard(bench: Bench, _: Peer) -> tuple[float, ...]:
    """No-op jobs a second of the real program, at concurrency 20: headless, and with the dashboard open."""
    rates = [_program_rate(bench, start) for start in (program.headless, program.dashboard)]
    return (*rates, 100 * rates[1] / rates[0])


def _program_rate(bench: Bench, start: Start) -> float:
    settings = {
        "REDIS_URL": bench.url,
        "COUTURECAST_HANDLERS": f"{_HANDLER}:no_op",
        "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",
        "COUTURECAST_COLOR_EXTRACTION_CONCURRENCY": "20",
    }
    with _data_dir() as folder, held_back(bench, bench.jobs * _DASHBOARD_FACTOR), start(folder, settings):
        time.sleep(_SETTLE_SECONDS)
        return release(bench)


def _processes(bench: Bench, peer: Peer) -> tuple[float, ...]:
    """No-op jobs a second of several processes together, at a concurrency of 100 across them all."""
    return tuple(_processes_rate(bench, peer, number) for number in _PROCESSES)


def _processes_rate(bench: Bench, peer: Peer, number: int) -> float:
    with ExitStack() as stack:
        stack.enter_context(held_back(bench, bench.jobs * number))
        workers = [
            stack.enter_context(peer.start("serve", bench.url, concurrency=_CONCURRENCY))
            for _ in range(number)
        ]
        for worker in workers:
            worker.next("ready")
        _wait_for_listeners(bench, number)
        return release(bench)


def _wait_for_listeners(bench: Bench, processes: int) -> None:
    """Wait until so many processes can be woken."""
    deadline = time.monotonic() + _MAX_START_SECONDS
    while int(bench.client.pubsub_numsub(WAKE_CHANNEL)[0][1]) < processes:
        time.sleep(0.01)
        if time.monotonic() > deadline:
            raise BenchmarkError("a process does not listen")


def _two_queues(bench: Bench, peer: Peer) -> tuple[float, ...]:
    """No-op jobs a second of one process on one queue, and of two processes on two queues."""
    one, two = (_queues_rate(bench, peer, queues) for queues in (_TWO_QUEUES[:1], _TWO_QUEUES))
    return one, two, two / one


def _queues_rate(bench: Bench, peer: Peer, queues: Sequence[str]) -> float:
    with ExitStack() as stack:
        stack.enter_context(held_back(bench, bench.jobs, queues))
        for queue in queues:
            options = {"concurrency": _CONCURRENCY, "queue": queue}
            stack.enter_context(peer.start("serve", bench.url, **options)).next("ready")
        _wait_for_listeners(bench, len(queues))
        return release(bench, queues)


@contextmanager
def held_back(bench: Bench, jobs: int, queues: Sequence[str] = (QUEUE,)) -> Iterator[None]:
    """The queues are paused, and have ``jobs`` jobs each."""
    bench.client.flushall()
    for queue in queues:
        pause = {"by": "benchmark", "reason": "", "since": "0"}
        bench.client.hset(QueueKeys.of(queue).pause, mapping=pause)
        OURS.run("enqueue", bench.url, jobs=jobs, queue=queue)
    yield


def release(bench: Bench, queues: Sequence[str] = (QUEUE,)) -> float:
    """Resume the queues; jobs a second until they are empty."""
    keys = [QueueKeys.of(queue) for queue in queues]
    jobs = sum(int(bench.client.zcard(queue_keys.incomplete)) for queue_keys in keys)
    began = time.perf_counter()
    for queue in queues:
        resume(bench, queue)
    while sum(int(bench.client.hget(queue_keys.totals, "completed") or 0) for queue_keys in keys) < jobs:
        time.sleep(0.01)
        if time.perf_counter() - began > MAX_WAIT_SECONDS:
            raise BenchmarkError("jobs were lost")
    return jobs / (time.perf_counter() - began)


def resume(bench: Bench, queue: str = QUEUE) -> None:
    """Let a queue that was held back start its jobs."""
    bench.client.delete(QueueKeys.of(queue).pause)
    bench.client.publish(WAKE_CHANNEL, queue)


def _depth(bench: Bench, peer: Peer) -> tuple[float, ...]:
    """Jobs a second of one worker while ever more jobs wait; it runs as many as in the other measurements."""
    rates = []
    for depth in _DEPTHS:
        bench.client.flushall()
        peer.run("enqueue", bench.url, jobs=depth)
        jobs = min(bench.jobs, depth)
        done = peer.run("work", bench.url, jobs=jobs, concurrency=_CONCURRENCY)
        rates.append(jobs / float(done["seconds"]))
    return tuple(rates)


def _start(_bench: Bench, _peer: Peer) -> tuple[float, ...]:
    """Seconds from the start of the process, with the embedded servers, until a job that waited starts."""
    with _data_dir() as folder:
        note = folder / "note"
        settings = {
            "COUTURECAST_HANDLERS": f"{_HANDLER}:note_start",
            "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",
            "BENCH_NOTE": str(note),
        }
        program.command(folder, "enqueue", QUEUE, "--data", "{}", settings=settings)
        began = time.monotonic_ns()
        with program.headless(folder, settings):
            return ((int(program.wait_for_file(note)) - began) / 1e9,)


def _memory(_bench: Bench, _peer: Peer) -> tuple[float, ...]:
    """Megabytes (PSS) of the idle process itself, with the embedded servers and the built-in handlers."""
    sizes = []
    for start in (program.headless, program.dashboard):
        with _data_dir() as folder, start(folder, {}) as pid:
            time.sleep(_SETTLE_SECONDS)
            sizes.append(program.pss_megabytes(pid))
    return tuple(sizes)


@contextmanager
def _data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


_US = (OURS,)

MEASUREMENTS = (
    Measurement(
        "dashboard",
        (
            Figure("no-op jobs/s of the program, concurrency 20, headless"),
            Figure("… with the dashboard open"),
            Figure("… of the headless figure, %", "90"),
        ),
        _dashboard,
        _US,
    ),
    Measurement(
        "processes",
        tuple(Figure(f"no-op jobs/s, concurrency {_CONCURRENCY}, {count} processes") for count in _PROCESSES),
        _processes,
        _US,
    ),
    Measurement(
        "two-queues",
        (
            Figure(f"no-op jobs/s, concurrency {_CONCURRENCY}, one process on one queue"),
            Figure("… two processes on two queues"),
            Figure("… of these the second to the first", "1.9, with a core for each", 2),
        ),
        _two_queues,
        _US,
    ),
    Measurement(
        "depth",
        tuple(Figure(f"no-op jobs/s with {depth:,} jobs queued", "as with 10,000") for depth in _DEPTHS),
        _depth,
        _US,
    ),
    Measurement(
        "start", (Figure("from start to the first job, embedded servers, s", "1.5", 2),), _start, _US
    ),
    Measurement(
        "memory",
        (
            Figure("memory when idle, headless, MB (PSS)", "110"),
            Figure("… with the dashboard, MB (PSS)", "130"),
        ),
        _memory,
        _US,
    ),
)
"""In the order of the report."""
