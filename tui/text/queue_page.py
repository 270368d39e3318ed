"""The facts of a queue's page: why nothing starts, what runs and waits, its settings."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from tui.text.format import MISSING, clock_time, count, duration, escape, long_duration, percent
from tui.text.queues import thin_gauge
from tui.text.styles import ACCENT, MUTED
from tui.text.verdict import queue_verdict
from workers.engine.histogram import Percentiles
from workers.engine.policy import DEFAULT_POLICIES, QueuePolicy, RateLimit
from workers.monitoring.snapshot import QueueSnapshot, Snapshot
from workers.operations.job_views import start_facts
from workers.operations.why import explain
from workers.words import plural

_LABEL_CHARS = 13
_GAUGE_CHARS = 20
_MAX_WORKERS = 6


def why(queue: QueueSnapshot, snapshot: Snapshot, policy: QueuePolicy) -> Text:
    """Return one sentence: why nothing more starts, or that it does."""
    verdict = queue_verdict(queue, snapshot.alerts, snapshot.taken_at, snapshot.workers)
    sentence = explain(start_facts(policy, snapshot, None), clock_time).sentence
    return Text.assemble((" why  ", MUTED), (escape(sentence), verdict.style if queue.depth else ""))


def facts(queue: QueueSnapshot, snapshot: Snapshot, policy: QueuePolicy) -> Text:
    """Return what runs and waits, percentiles, outcomes, and the settings with where they come from."""
    text = Text(no_wrap=True, overflow="ellipsis")
    lines = [*_current_rows(queue, snapshot), *_settings(queue, policy)]
    for number, (label, value) in enumerate(lines):
        text.append("\n" if number else "")
        text.append(f" {label:<{_LABEL_CHARS}}", MUTED)
        text.append_text(value if isinstance(value, Text) else Text(value))
    return text


def _current_rows(queue: QueueSnapshot, snapshot: Snapshot) -> Iterator[tuple[str, Text | str]]:
    running = f"{queue.in_flight} of {queue.concurrency}"
    if queue.oldest_running is not None and queue.in_flight:
        running += f", the oldest for {long_duration(queue.oldest_running)}"
        running += f", usually {long_duration(queue.usual_run)}" if queue.usual_run is not None else ""
    yield "runs", running
    oldest = f", the oldest for {long_duration(queue.oldest_age)}" if queue.oldest_age is not None else ""
    yield "waits", f"{count(queue.depth)} ready{oldest}; {count(queue.scheduled)} scheduled"
    if queue.rate_limit is not None:
        yield "rate window", _rate(queue, queue.rate_limit)
    yield "wait", _percentiles(queue.wait, queue.wait_baseline)
    yield "run", _percentiles(queue.run, queue.run_baseline)
    yield "failing", f"{percent(queue.failure_rate)} of {plural(queue.recent_attempts, 'attempt')} in 5 min"
    yield (
        "since ever",
        f"{count(queue.completed)} done, {count(queue.failed)} failed attempts, "
        f"{count(queue.dead_lettered)} died, {count(queue.lost)} lost with a worker",
    )
    serving = [worker for worker in snapshot.workers if worker.alive and queue.name in worker.queues]
    names = ", ".join(f"{escape(worker.host)}:{worker.pid}" for worker in serving[:_MAX_WORKERS])
    others = f" and {len(serving) - _MAX_WORKERS} more" if len(serving) > _MAX_WORKERS else ""
    yield "workers", f"{names}{others}" if serving else "none"


def _rate(queue: QueueSnapshot, limit: RateLimit) -> Text:
    after = "a start is admitted now"
    if queue.next_start_in is not None:
        after = f"next start in {duration(queue.next_start_in)}"
    text = thin_gauge(queue.rate_used, limit.starts, _GAUGE_CHARS, ACCENT)
    return text.append(f"  {queue.rate_used} of {limit.starts} in {limit.seconds:g} s, {after}")


def _percentiles(percentiles: Percentiles, baseline: float | None) -> str:
    usually = f", p95 usually {duration(baseline)}" if baseline is not None else ""
    p50, p95, p99 = map(duration, (percentiles.p50, percentiles.p95, percentiles.p99))
    return f"p50 {p50}, p95 {p95}, p99 {p99}{usually}"


def _settings(queue: QueueSnapshot, policy: QueuePolicy) -> Iterator[tuple[str, Text | str]]:
    default = DEFAULT_POLICIES.get(queue.name)
    delays = ", ".join(f"{delay:g}" for delay in policy.retry_delays)
    values = {
        "function": policy.function,
        "concurrency": str(policy.concurrency),
        "rate limit": _limit_words(policy.rate_limit),
        "timeout": f"{policy.timeout:g} s",
        "retries": f"after {delays} s" if delays else "none",
    }
    names = ("function", "concurrency", "rate_limit", "timeout", "retry_delays")
    for (label, value), name in zip(values.items(), names, strict=True):
        same = default is not None and getattr(policy, name) == getattr(default, name)
        yield label, Text.assemble(escape(value), (f"  {'default' if same else 'from the settings'}", MUTED))
    if queue.paused is not None:
        yield "pause", Text.assemble("in Redis, by ", escape(queue.paused.by))


def _limit_words(limit: RateLimit | None) -> str:
    return MISSING if limit is None else f"{limit.starts} starts in {limit.seconds:g} s"
