"""Statistics of reads: counted by each process, and added up in Redis minute by minute."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from storage.cache.entries import PREFIX
from storage.redis.scripts import Script, ScriptCall

_COUNT_SCRIPT = Script.load(__name__, "count")
_MINUTE = f"{PREFIX}minute:"
_MINUTES = 60
_EXPIRE_SECONDS = (_MINUTES + 2) * 60
_REPORT_SECONDS = 5.0
"""Seconds for which a process gathers counts before it sends them along with a read."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Outcomes of the reads of the last hour, in all processes."""

    hits: int = 0
    misses: int = 0
    stale: int = 0
    errors: int = 0
    """Reads during which Redis was unavailable."""
    minutes: tuple[float | None, ...] = ()
    """Share of hits in each of the last 60 minutes, oldest first; None for a minute without reads."""

    @property
    def hit_rate(self) -> float | None:
        """Share of reads that the cache answered, 0 to 1; None if there were none."""
        reads = self.hits + self.misses + self.stale + self.errors
        return self.hits / reads if reads else None


class ReadCounter:
    """Counts how the reads of this process end, and gathers the counts that Redis does not have yet."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self._unreported: Counter[str] = Counter()
        self._reported_at = time.monotonic()

    def add(self, outcome: str) -> None:
        """Count one read."""
        self.totals[outcome] += 1
        self._unreported[outcome] += 1

    def take(self) -> Counter[str]:
        """Return the unreported counts, which count as reported from now on."""
        counts, self._unreported = self._unreported, Counter()
        self._reported_at = time.monotonic()
        return counts

    def take_due(self) -> Counter[str]:
        """Like `take`, but returns nothing until the last report is `_REPORT_SECONDS` old."""
        due = self._unreported and time.monotonic() - self._reported_at >= _REPORT_SECONDS
        return self.take() if due else Counter()

    def restore(self, counts: Counter[str]) -> None:
        """Keep counts that could not be reported."""
        self._unreported.update(counts)


class LastHour:
    """Counts of the last 60 minutes.  It remembers past minutes, since their counts do not change."""

    def __init__(self) -> None:
        self._minutes: dict[int, Mapping[str, int]] = {}

    def missing_minutes(self, minute: int) -> list[int]:
        """Return the minutes to read, at ``minute`` (Unix time / 60)."""
        return [number for number in _hour(minute) if number not in self._minutes]

    def update(self, minute: int, counts: Iterable[tuple[int, Mapping[str, int]]]) -> CacheStats:
        """Take the counts of the missing minutes, and return the statistics."""
        minutes = {number: self._minutes[number] for number in _hour(minute) if number in self._minutes}
        minutes |= counts
        self._minutes = {number: counts for number, counts in minutes.items() if number < minute}
        totals: Counter[str] = Counter()
        for minute_counts in minutes.values():
            totals.update(minute_counts)
        return CacheStats(
            totals["hits"],
            totals["misses"],
            totals["stale"],
            totals["errors"],
            tuple(_hit_rate(minutes[number]) for number in _hour(minute)),
        )


def count_call(counts: Mapping[str, int]) -> ScriptCall:
    """Add counts, by outcome, to the current minute of the server's clock."""
    pairs = (word for pair in counts.items() for word in pair)
    return _COUNT_SCRIPT.call([_MINUTE], [_EXPIRE_SECONDS, *pairs])


def minute_key(minute: int) -> str:
    """Return the Redis key of a minute's counts."""
    return f"{_MINUTE}{minute}"


def parse_counts(reply: Sequence[bytes]) -> Mapping[str, int]:
    """Return the counts in a reply to HGETALL."""
    return {name.decode(): int(number) for name, number in zip(reply[::2], reply[1::2], strict=True)}


def _hour(minute: int) -> range:
    return range(minute - _MINUTES + 1, minute + 1)


def _hit_rate(counts: Mapping[str, int]) -> float | None:
    reads = sum(counts.values())
    return counts.get("hits", 0) / reads if reads else None
