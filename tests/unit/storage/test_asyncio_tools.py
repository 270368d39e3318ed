"""Ending tasks: nothing is left behind, however often their owner is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from storage.asyncio_tools import cancel_and_wait


async def test_a_task_that_loses_its_cancellation_is_cancelled_again() -> None:
    async def deaf() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await cancel_and_wait([task], retry_seconds=0.01)
    assert task.cancelled()


async def test_a_cleanup_is_not_broken_off_by_the_retries_of_its_owner() -> None:
    cleaned_up = asyncio.Event()

    async def inner() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned_up.set()

    async def outer() -> None:
        task = asyncio.create_task(inner())
        try:
            await asyncio.Event().wait()
        finally:
            await cancel_and_wait([task], retry_seconds=10)

    owner = asyncio.create_task(outer())
    await asyncio.sleep(0.01)
    await cancel_and_wait([owner], retry_seconds=0.005)
    assert owner.cancelled()
    assert cleaned_up.is_set()
