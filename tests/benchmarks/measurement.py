"""What a measurement is: a name, the figures that it gives, and the function that takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.peer import PEERS, Peer


@dataclass(frozen=True)
class Bench:
    """What a measurement works with: the server (empty when it begins), and how much it is to do."""

    url: str
    client: Any
    """A redis.Redis, whose types say of every reply that it may have to be awaited."""
    jobs: int
    idle_seconds: float
    letters: int = 1_000_000
    """Dead letters under the dashboard."""


@dataclass(frozen=True)
class Figure:
    """One row of the report; ``goal`` is what ours is to reach."""

    title: str
    goal: str = ""
    digits: int = 0


@dataclass(frozen=True)
class Measurement:
    """``take`` gives one value a figure, in their order.  Raises BenchmarkError."""

    name: str
    figures: tuple[Figure, ...]
    take: Callable[[Bench, Peer], tuple[float, ...]]
    peers: tuple[Peer, ...] = field(default=tuple(PEERS.values()))
    once: bool = False
    """One run is enough: a count, or minutes long."""
    long: bool = False
    """Only on request: it takes minutes."""
