"""Requests that no server refuses for their size: managed ones take a megabyte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

REQUEST_BYTES = 900_000
"""Of one request that carries more than one thing, and of one reply; one thing alone may be larger."""


def batch_by_size(items: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """``items`` in order, up to ``most`` and `REQUEST_BYTES` together; ``size`` is one's in bytes."""
    batch: list[T] = []
    total = 0
    for item in items:
        each = size(item)
        if batch and (len(batch) >= most or total + each > REQUEST_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += each
    if batch:
        yield batch
