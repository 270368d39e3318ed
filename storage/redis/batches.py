"""Batches that no server refuses for their size: managed ones accept a megabyte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

REQUEST_BYTES = 900_000
"""Size of a request or reply that carries several things; a single thing may be larger."""


def batch_by_size(items: Iterable[T], size: Callable[[T], int], max_items: int) -> Iterator[list[T]]:
    """Yield ``items`` in order, in batches of at most `REQUEST_BYTES`; ``size`` returns the bytes of one."""
    batch: list[T] = []
    total = 0
    for item in items:
        item_bytes = size(item)
        if batch and (len(batch) >= max_items or total + item_bytes > REQUEST_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += item_bytes
    if batch:
        yield batch
