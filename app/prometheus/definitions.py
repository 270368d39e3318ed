"""The definition of a metric, and the source of its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from workers.monitoring.alert_rules import DEFAULTS, Thresholds
from workers.monitoring.snapshot import Durations, QueueSnapshot, Snapshot

PREFIX = "couturecast_"

Scope = Literal["queue", "cluster", "process"]
"""Whose figure it is.  Those of queues and of the cluster are equal in every process that can reach Redis."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that one answer shows.  ``snapshot`` is None if Redis does not answer; ``build`` has labels."""

    snapshot: Snapshot | None
    build: Mapping[str, str]
    cache_counts: Mapping[str, int] = field(default_factory=dict)
    """Reads of this process, by the names of the cache."""
    dropped_log_lines: int = 0
    thresholds: Thresholds = DEFAULTS
    notification_counts: Mapping[str, int] = field(default_factory=dict)
    """Deliveries of this process, by how they ended."""

    @property
    def is_redis_up(self) -> bool:
        """Whether Redis answered; of several, all."""
        return self.snapshot is not None and all(redis.error is None for redis in self.snapshot.redises)

    @property
    def has_answer(self) -> bool:
        """Whether a Redis answered."""
        return self.snapshot is not None and not self.snapshot.is_old

    @property
    def queues(self) -> tuple[QueueSnapshot, ...]:
        """The queues; none of a Redis that is down: old figures would pass for new ones."""
        if self.snapshot is None:
            return ()
        return tuple(
            queue for queue in self.snapshot.queues if self.snapshot.redis_of(queue.name).error is None
        )


Value = float | int | None
"""None: unknown, and left out."""
Sample = tuple[tuple[str, ...], Value | Durations]
"""Values of the labels, and the figure; durations of a histogram."""


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric; ``name`` is without our prefix, and without the ``_total`` of a counter."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    scope: Scope
    help: str
    labels: tuple[str, ...]
    read: Callable[[Facts], Iterable[Sample]]

    @property
    def full_name(self) -> str:
        """The name with our prefix, as a query has it."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


def read_snapshot(read: Callable[[Snapshot], Value]) -> Callable[[Facts], Iterator[Sample]]:
    """Read one figure of a snapshot; none without one."""

    def samples(facts: Facts) -> Iterator[Sample]:
        if facts.snapshot is not None:
            yield (), read(facts.snapshot)

    return samples


def read_queues(read: Callable[[QueueSnapshot], Value | Durations]) -> Callable[[Facts], Iterator[Sample]]:
    """Read one figure of every queue."""

    def samples(facts: Facts) -> Iterator[Sample]:
        for queue in facts.queues:
            yield (queue.name,), read(queue)

    return samples
