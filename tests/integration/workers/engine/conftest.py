"""Shared by the engine's tests: a handler, and conditions to wait for."""

from __future__ import annotations

from typing import Any

from tests.support.engine import Bench
from tests.support.waiting import eventually


async def succeed(ctx: dict[str, Any], number: int) -> None: ...


async def run_next_job(bench: Bench) -> None:
    done = await bench.total("completed")
    assert await bench.stock.enqueue("extract_colors", number=1) is not None
    await eventually(lambda: has_completed(bench, done + 1), what="the next job")
    await eventually(bench.empty, what="nothing is held")


async def has_completed(bench: Bench, count: int) -> bool:
    return await bench.total("completed") >= count


async def has_letters(bench: Bench, count: int) -> bool:
    return await bench.letters.count() == count


async def has_total(bench: Bench, outcome: str, expected: int) -> bool:
    return await bench.total(outcome) == expected
