"""Concurrent callers share a round trip, and each gets its own replies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from storage.redis.auto_pipeline import AutoPipeline


class Wire:
    """Replies to each command with its argument, once it is open; records the round trips."""

    def __init__(self) -> None:
        self.trips: list[int] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def send(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        self.trips.append(len(commands))
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [words[-1] for words in commands]


@pytest.fixture
def wire() -> Wire:
    return Wire()


async def ask(pipeline: AutoPipeline, *numbers: int) -> list[Any]:
    return await pipeline.round_trip([("ECHO", number) for number in numbers])


async def test_concurrent_callers_share_a_round_trip(wire: Wire) -> None:
    pipeline = AutoPipeline(wire.send)
    asking = [asyncio.create_task(ask(pipeline, n, n + 1000)) for n in range(250)]
    await asyncio.sleep(0)
    wire.open.set()
    assert await asyncio.gather(*asking) == [[n, n + 1000] for n in range(250)]
    assert len(wire.trips) <= 4
    assert sum(wire.trips) == 500


async def test_a_cancelled_caller_takes_no_reply_of_another(wire: Wire) -> None:
    pipeline = AutoPipeline(wire.send)
    asking = [asyncio.create_task(ask(pipeline, n)) for n in range(20)]
    await asyncio.sleep(0.01)
    for task in asking[::2]:
        task.cancel()
    wire.open.set()
    done = await asyncio.gather(*asking, return_exceptions=True)
    assert [result for result in done if not isinstance(result, asyncio.CancelledError)] == [
        [n] for n in range(1, 20, 2)
    ]


async def test_a_broken_round_trip_fails_its_callers_and_the_next_succeeds(wire: Wire) -> None:
    pipeline = AutoPipeline(wire.send)
    early = asyncio.create_task(ask(pipeline, 1))
    await asyncio.sleep(0.01)
    late = asyncio.create_task(ask(pipeline, 2))
    wire.error = ConnectionError("broken")
    wire.open.set()
    with pytest.raises(ConnectionError, match="broken"):
        await early
    with pytest.raises(ConnectionError, match="broken"):
        await late
    wire.error = None
    assert await ask(pipeline, 3) == [3]
