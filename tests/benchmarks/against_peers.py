"""The measurements that every tool goes through."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import quantiles

from tests.benchmarks.distant import distant
from tests.benchmarks.measurement import Bench, Figure, Measurement
from tests.benchmarks.peer import BULLMQ, BULLMQ_ON_BUN, OURS, SAQ, STREAQ, Peer, Running

_PICKUPS = 200
_PICKUP_PAUSE_SECONDS = 0.043
"""Seconds between two pickups; no divisor of a polling interval, so that polls are met at any phase."""
_DELAYED_JOBS = 1_000
_DELAYED_PAUSE_SECONDS = 0.009
"""Seconds between two delayed jobs, so that all of them are due within ten seconds."""
_DELAY_SECONDS = 2.0
_SETTLE_SECONDS = 3.0
"""Seconds after the start of an idle worker that are not counted."""
_ECONOMICAL_FACTOR = 6
"""The economical mode does something every few minutes: it is watched for as many times longer."""
_ROUND_TRIP_MS = 2.5
"""To a server in another building."""
_HELD_MS = 30_000
"""How long the job of the worker that is killed would have run."""


def _no_op(concurrency: int) -> Callable[[Bench, Peer], tuple[float, ...]]:
    def take(bench: Bench, peer: Peer) -> tuple[float, ...]:
        return (_rate(bench, peer, concurrency=concurrency),)

    return take


def _measure_sleeping(bench: Bench, peer: Peer) -> tuple[float, ...]:
    ms, concurrency = 5, 20
    ideal = concurrency * 1000 / ms
    return (100 * _rate(bench, peer, concurrency=concurrency, ms=ms) / ideal,)


def _rate(bench: Bench, peer: Peer, *, concurrency: int, ms: int = 0) -> float:
    """Jobs a second of one worker, all jobs queued before."""
    peer.run("enqueue", bench.url, jobs=bench.jobs, ms=ms)
    done = peer.run("work", bench.url, jobs=bench.jobs, concurrency=concurrency)
    return bench.jobs / float(done["seconds"])


def _distant(bench: Bench, peer: Peer) -> tuple[float, ...]:
    """5 ms jobs, 20 at once: as a share of the rate at which each slot waits for one round trip a job."""
    ms, concurrency = 5, 20
    peer.run("enqueue", bench.url, jobs=bench.jobs, ms=ms)
    with distant(bench.url, _ROUND_TRIP_MS) as url:
        done = peer.run("work", url, jobs=bench.jobs, concurrency=concurrency)
    ideal = concurrency * 1000 / (ms + _ROUND_TRIP_MS)
    return (100 * bench.jobs / float(done["seconds"]) / ideal,)


def _enqueue(bench: Bench, peer: Peer) -> tuple[float, ...]:
    """With the best number of jobs in one call."""
    rates = []
    for chunk in peer.chunks:
        bench.client.flushall()
        done = peer.run("enqueue", bench.url, jobs=bench.jobs, chunk=chunk)
        rates.append(bench.jobs / float(done["seconds"]))
    return (max(rates),)


def _pickup(bench: Bench, peer: Peer) -> tuple[float, ...]:
    with peer.start("serve", bench.url) as worker:
        worker.next("ready")
        with peer.start("send", bench.url, jobs=_PICKUPS, pause=_PICKUP_PAUSE_SECONDS):
            waits = [_pickup_ms(worker) for _ in range(_PICKUPS)]
    percentiles = quantiles(waits, n=100, method="inclusive")
    return percentiles[49], percentiles[98]


def _pickup_ms(worker: Running) -> float:
    started = worker.line() or {}
    return float(started["at"] - started["sent"]) / 1e6


def _measure_delayed(bench: Bench, peer: Peer) -> tuple[float, ...]:
    """Jobs that are due one after the other: by how much each starts late, in ms."""
    with peer.start("serve", bench.url) as worker:
        worker.next("ready")
        with peer.start(
            "send", bench.url, jobs=_DELAYED_JOBS, pause=_DELAYED_PAUSE_SECONDS, delay=_DELAY_SECONDS
        ):
            late = [_pickup_ms(worker) for _ in range(_DELAYED_JOBS)]
    percentiles = quantiles(late, n=100, method="inclusive")
    return percentiles[49], percentiles[98]


def _idle(economical: bool) -> Callable[[Bench, Peer], tuple[float, ...]]:
    def take(bench: Bench, peer: Peer) -> tuple[float, ...]:
        seconds = bench.idle_seconds * (_ECONOMICAL_FACTOR if economical else 1)
        with peer.start(
            "serve", bench.url, queues=4, **({"economical": True} if economical else {})
        ) as worker:
            worker.next("ready")
            time.sleep(_SETTLE_SECONDS)
            before = _commands(bench)
            time.sleep(seconds)
            sent = _commands(bench) - before - 1  # the INFO of the first count
        return (sent * 60 / seconds,)

    return take


def _commands(bench: Bench) -> int:
    return int(bench.client.info("stats")["total_commands_processed"])


def _measure_killed(bench: Bench, peer: Peer) -> tuple[float, ...]:
    """Two workers; the one that has the job is killed with -9.  Seconds until the other starts the job."""
    with peer.start("serve", bench.url) as holder:
        holder.next("ready")
        peer.run("send", bench.url, jobs=1, ms=_HELD_MS)
        holder.next("at")
        with peer.start("serve", bench.url) as heir:
            heir.next("ready")
            holder.kill()
            killed = time.monotonic_ns()
            return ((heir.next("at") - killed) / 1e9,)


MEASUREMENTS = (
    Measurement("no-op-10", (Figure("no-op jobs/s, concurrency 10", "1.4 × BullMQ"),), _no_op(10)),
    Measurement("no-op-100", (Figure("no-op jobs/s, concurrency 100", "2.3 × BullMQ"),), _no_op(100)),
    Measurement(
        "5-ms", (Figure("5 ms jobs, concurrency 20, % of the ideal 4,000/s", "90"),), _measure_sleeping
    ),
    Measurement(
        "5-ms-distant", (Figure("the same with 2.5 ms to Redis, % of the ideal 2,667/s", "92"),), _distant
    ),
    Measurement("enqueue", (Figure("bulk enqueue, jobs/s", "1.2 × BullMQ"),), _enqueue),
    Measurement(
        "delayed",
        (
            Figure("a delayed job starts after its time, p50, ms", "ahead of both", 1),
            Figure("a delayed job starts after its time, p99, ms", "ahead of both", 1),
        ),
        _measure_delayed,
        peers=(OURS, SAQ, STREAQ, BULLMQ, BULLMQ_ON_BUN),
    ),
    Measurement(
        "pickup",
        (
            Figure("pickup on an idle worker, p50, ms", "0.7 × SAQ", 2),
            Figure("pickup on an idle worker, p99, ms", "0.5 × SAQ", 2),
        ),
        _pickup,
    ),
    Measurement("idle", (Figure("commands a minute when idle, four queues", "90"),), _idle(False), once=True),
    Measurement(
        "idle-economical",
        (Figure("… in the economical mode", "10"),),
        _idle(True),
        peers=(OURS,),
        once=True,
    ),
    Measurement(
        "killed",
        (Figure("a job of a killed worker runs again after, s", "10", 1),),
        _measure_killed,
        peers=(OURS, SAQ, BULLMQ),
        once=True,
        long=True,
    ),
)
"""In the order of the report."""
