"""Background tasks of a process, next to its dispatchers."""

from __future__ import annotations

import asyncio

import pytest

from workers.process import background_tasks


async def test_a_periodic_check_that_failed_is_made_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    is_back = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            is_back.set()
            await asyncio.Event().wait()

    async def check() -> None:
        if len(pauses) < 3:
            raise ConnectionError("refused")

    monkeypatch.setattr(background_tasks.asyncio, "sleep", sleep)
    running = asyncio.create_task(background_tasks.run_every(30, check))
    await is_back.wait()
    running.cancel()
    assert pauses == [30, 5, 5, 30]
