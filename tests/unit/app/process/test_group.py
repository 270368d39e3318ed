"""A stop signal reaches every process of a group, whatever has become of the others."""

from __future__ import annotations

import asyncio

from app.process.group import ProcessGroup


async def test_a_process_that_has_just_ended_does_not_keep_the_others_from_their_signal() -> None:
    ended = await asyncio.create_subprocess_exec("true")
    await ended.wait()
    living = await asyncio.create_subprocess_exec("sleep", "600")
    group = ProcessGroup(2, [], drain_seconds=30.0)
    group._running = {1: ended, 2: living}
    group.drain()
    async with asyncio.timeout(20):
        assert await living.wait() != 0
