"""A call that takes too much memory ends as a clear error, and its process is replaced."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from couturecast_handlers import PermanentError
from storage.database.engine import Database
from storage.repositories.palettes import PaletteRepository
from tests.integration.workers.handlers import calls
from tests.integration.workers.handlers.color.mutations import encode
from tests.integration.workers.handlers.conftest import FIRST
from tests.support.processes import pid_in
from workers.handlers.color.handler import ColorHandler, ColorPayload
from workers.handlers.process_pool import CpuPool, PoolMemoryError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no other system limits the address space")

MIB = 1 << 20


@pytest.fixture
async def small_pool() -> AsyncIterator[CpuPool]:
    pool = CpuPool(2, call_bytes=100 * MIB)
    yield pool
    await pool.close()


async def test_a_call_that_takes_too_much_memory_fails_alone(small_pool: CpuPool, tmp_path: Path) -> None:
    neighbour = asyncio.create_task(small_pool.run(calls.nap, str(tmp_path / "nap"), 1.0))
    pid = await pid_in(tmp_path / "nap")
    with pytest.raises(PoolMemoryError, match="needs more than 100 MiB of memory"):
        await small_pool.run(calls.allocate, 200 * MIB)
    assert await neighbour == pid


async def test_the_process_of_such_a_call_is_replaced() -> None:
    pool = CpuPool(1, call_bytes=100 * MIB)
    pid = await pool.run(os.getpid)
    with pytest.raises(PoolMemoryError):
        await pool.run(calls.allocate, 200 * MIB)
    assert await pool.run(os.getpid) != pid
    await pool.close()


async def test_memory_that_was_given_back_does_not_count(small_pool: CpuPool) -> None:
    for _ in range(10):
        assert await small_pool.run(calls.allocate, 60 * MIB) == 60 * MIB


@pytest.mark.slow
async def test_a_picture_that_its_estimate_understates_is_permanent(
    database: Database, small_pool: CpuPool, tmp_path: Path
) -> None:
    """Here the limit is lowered instead: no estimate is known to be wrong."""
    image = Image.new("RGB", (6000, 6000), (200, 30, 40))
    for name, data in (
        ("png", encode(image, compress_level=1)),
        ("tiff", encode(image, "TIFF", compression="tiff_lzw")),
    ):
        (tmp_path / name).write_bytes(data)
    handler = ColorHandler(PaletteRepository(database), small_pool, image_dirs=[tmp_path])
    for name in ("png", "tiff"):
        with pytest.raises(
            PermanentError, match="image: it cannot be decoded, it needs more than 100 MiB of memory: make"
        ):
            await handler.run(ColorPayload(item_id="a", image=name), FIRST)
    await handler._http.aclose()
