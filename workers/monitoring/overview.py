"""The figures of one queue, from the reply of overview.lua.  Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from workers.engine import histogram, wire
from workers.engine.policy import TIMINGS, QueuePolicy, RateLimit
from workers.engine.reconciler import REPAIR_KINDS, REPAIRED
from workers.monitoring.roster import age, number, text
from workers.monitoring.snapshot import Pause, QueueSnapshot

HISTORY_MINUTES = 60
_RECENT_MINUTES = 5
"""Over which rates and percentiles are taken, the current minute included."""
_MAX_COUNT = 2**53
"""A counter that claims more was not written by us."""
_BUCKET = re.compile(r"([wr])(\d{1,2})", re.ASCII)

Minute = dict[str, int]
"""The counters of one minute: outcomes, ``w…`` and ``r…`` buckets, depth."""


class OverviewReply(NamedTuple):
    """The reply of overview.lua, by the names in its head."""

    now: float
    """Unix seconds of the server's clock."""
    depth: int
    incomplete: int
    leases: list[bytes]
    starts: int
    oldest_start: bytes
    head: bytes
    pause: list[bytes]
    totals: Minute
    current_minute: Minute
    checks: Sequence[bytes | None]
    broken_keys: tuple[str, ...]
    minutes: list[Minute]

    @classmethod
    def parse(cls, reply: list[Any]) -> OverviewReply:
        """The reply as it came from the server."""
        now_us, depth, incomplete, leases, starts, oldest, head, pause, totals, current, *rest = reply
        checks, broken_keys, *minutes = rest
        return cls(
            now=int(now_us) / 1e6,
            depth=depth,
            incomplete=incomplete,
            leases=leases,
            starts=starts,
            oldest_start=oldest,
            head=head,
            pause=pause,
            totals=_minute(totals),
            current_minute=_minute(current),
            checks=checks,
            broken_keys=tuple(map(text, broken_keys)),
            minutes=list(map(_minute, minutes)),
        )

    @property
    def checked_for(self) -> float:
        """Seconds for which processes have checked for dead workers without a gap: see `lost.lua`."""
        since, last = (age(number(value), self.now) for value in self.checks)
        if since is None or last is None or last > TIMINGS.max_check_gap_seconds:
            return 0.0
        return since


def queue_snapshot(
    policy: QueuePolicy, reply: OverviewReply, remembered: Mapping[int, Minute]
) -> QueueSnapshot:
    """All figures but those on the holders of jobs; ``remembered`` has the last hour's minutes by number."""
    minute = int(reply.now // 60)
    history = [remembered.get(number) for number in range(minute - HISTORY_MINUTES + 1, minute)]
    history.append(reply.current_minute)
    recent = [counters for counters in history[-_RECENT_MINUTES:] if counters]
    totals = reply.totals
    in_flight = len(reply.leases) // 2
    return QueueSnapshot(
        name=policy.name,
        function=policy.function,
        depth=reply.depth,
        scheduled=max(0, reply.incomplete - reply.depth - in_flight),
        oldest_age=_age_of_job(reply.head, reply.now),
        in_flight=in_flight,
        concurrency=policy.concurrency,
        rate_limit=policy.rate_limit,
        rate_used=reply.starts,
        next_start_in=_next_start(policy.rate_limit, reply),
        wait=histogram.percentiles(_buckets(recent, "w")),
        run=histogram.percentiles(_buckets(recent, "r")),
        failure_rate=_failure_rate(recent),
        throughput=_throughput(history, reply.now),
        completed=totals.get("completed", 0),
        failed=totals.get("failed", 0),
        retried=totals.get("retried", 0),
        repairs={kind: totals.get(f"{REPAIRED}{kind}", 0) for kind in REPAIR_KINDS},
        broken_keys=reply.broken_keys,
        dead_lettered=totals.get("dead_lettered", 0),
        depth_history=_fill_depths(history, reply.depth),
        throughput_history=tuple(
            counters.get("completed", 0) if counters is not None else None for counters in history
        ),
        paused=parse_pause(dict(_pairs(reply.pause))),
        workers=0,
        usual_run=histogram.percentile(_buckets([minute for minute in history if minute], "r"), 0.5),
    )


def parse_pause(fields: dict[bytes, bytes]) -> Pause | None:
    """The pause in a queue's pause hash, None if that is empty."""
    if not fields:
        return None
    pause = {text(key): text(value) for key, value in fields.items()}
    return Pause(by=pause.get("by", "?"), reason=pause.get("reason", ""), since=number(pause.get("since")))


def whole_number(value: Any) -> int | None:
    """A count that others may have written; None if it is not a number."""
    parsed = number(value)
    return None if parsed is None else max(0, min(int(parsed), _MAX_COUNT))


def _next_start(limit: RateLimit | None, reply: OverviewReply) -> float | None:
    """Seconds until a full rate window admits another start; None if it is not full."""
    oldest = number(reply.oldest_start)
    if limit is None or reply.starts < limit.starts or oldest is None:
        return None
    return min(limit.seconds, max(0.0, oldest / 1e6 + limit.seconds - reply.now))


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _minute(flat: list[bytes]) -> Minute:
    counters = {text(key): whole_number(value) for key, value in _pairs(flat)}
    return {name: value for name, value in counters.items() if value is not None}


def _buckets(minutes: Sequence[Minute], kind: str) -> Counter[int]:
    counts: Counter[int] = Counter()
    for counters in minutes:
        for name, count in counters.items():
            match = _BUCKET.fullmatch(name)
            if match is not None and match[1] == kind:
                counts[int(match[2])] += count
    return counts


def _failure_rate(minutes: Sequence[Minute]) -> float | None:
    completed, failed = (
        sum(counters.get(name, 0) for counters in minutes) for name in ("completed", "failed")
    )
    return failed / (completed + failed) if completed + failed else None


def _throughput(history: Sequence[Minute | None], now: float) -> float:
    """Completed jobs a second over the last minute: this minute, and the rest from the one before."""
    passed = now % 60
    current, before = history[-1] or {}, history[-2] or {}
    completed = current.get("completed", 0) + before.get("completed", 0) * (1 - passed / 60)
    return float(completed) / 60


def _fill_depths(history: Sequence[Minute | None], depth: int) -> tuple[int | None, ...]:
    """Depth at the end of each minute; a minute without a finished job has the depth of the one before."""
    last: int | None = None
    depths: list[int | None] = []
    for counters in history:
        last = counters.get("depth", last) if counters is not None else last
        depths.append(last)
    return (*depths[:-1], depth)


def _age_of_job(body: bytes, now: float) -> float | None:
    """How long a ready job has waited, by its own record; None if that cannot be read."""
    try:
        job = wire.load(body)
        queued, touched, scheduled = (
            number(job.get(name)) or 0.0 for name in ("queued", "touched", "scheduled")
        )
    except (ValueError, AttributeError, RecursionError):
        return None
    ready = max(queued, touched) / 1000
    return max(0.0, now - max(ready, scheduled)) if ready > 0 else None
