"""Damaged pictures of every format: each has a palette or a one-line error, and no process dies of one."""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import signal
import struct
from collections import Counter

import pytest
from PIL import Image

from couturecast_handlers import PermanentError
from tests.integration.workers.handlers import calls
from tests.integration.workers.handlers.color.mutations import (
    damaged_pictures,
    encode,
    tiled_tiff,
    whole_pictures,
)
from workers.handlers.color import palette as pixels
from workers.handlers.process_pool import CpuPool, PoolProcessDiedError

MAX_ERROR_CHARS = 400


async def outcome(pool: CpuPool, data: bytes) -> str:
    try:
        return "palette" if await pool.run(pixels.palette, data) else "nothing"
    except PermanentError as error:
        message = str(error)
        assert message.startswith("image: ")
        assert "\n" not in message
        assert len(message) < MAX_ERROR_CHARS
        return "refused"


async def outcomes_of(pool: CpuPool, seed: int, count: int) -> Counter[str]:
    at_a_time = asyncio.Semaphore(4)

    async def one(name: str, data: bytes) -> str:
        async with at_a_time:
            try:
                return await outcome(pool, data)
            except BaseException as error:
                error.add_note(f"seed {seed}, {name}: {data.hex()}")
                raise

    return Counter(await asyncio.gather(*(one(*damaged) for damaged in damaged_pictures(seed, count))))


def children() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}


@pytest.mark.slow
async def test_the_whole_ones_have_palettes(pool: CpuPool) -> None:
    for name, data in whole_pictures().items():
        assert await outcome(pool, data) == "palette", name


@pytest.mark.parametrize(
    "count", [100, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
async def test_damaged_pictures_have_a_palette_or_a_one_line_error(count: int) -> None:
    pool = CpuPool(2)
    await pool.run(calls.length, b"")
    before = children()
    found = await outcomes_of(pool, seed=count, count=count)
    assert set(found) == {"palette", "refused"}
    assert min(found.values()) > count / 20, "the damage is neither always nor never fatal"
    assert children() == before, "no process died"
    await pool.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "avif", "gif", "tiff-lzw", "bmp", "heic"])
async def test_pictures_that_are_cut_off_have_a_palette_or_a_one_line_error(pool: CpuPool, name: str) -> None:
    data = whole_pictures()[name]
    for end in {0, 1, 2, 4, 8, 11, 12, 13, 20, len(data) // 4, len(data) // 2, len(data) - 1}:
        assert await outcome(pool, data[:end]) in ("palette", "refused")


async def test_what_follows_a_picture_does_not_matter(pool: CpuPool) -> None:
    """A file that is a picture, and something else to other programs."""
    red = Image.new("RGB", (40, 40), (255, 0, 0))
    archive = b"PK\x03\x04" + bytes(500) + b"<script>alert(1)</script>%!PS-Adobe-3.0 EPSF-3.0\n"
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        (color,) = await pool.run(pixels.palette, encode(red, kind) + archive)
        assert color["hex"] == "#ff0000"
    other = encode(Image.new("RGB", (40, 40), (0, 0, 255)))
    (color,) = await pool.run(pixels.palette, encode(red) + other)
    assert color["hex"] == "#ff0000", "the first of two"


async def test_only_the_first_frame_of_an_animation_is_decoded(pool: CpuPool) -> None:
    red = Image.new("RGB", (40, 40), (255, 0, 0))
    others = [Image.new("RGB", (40, 40), (0, shade, 255)) for shade in range(0, 250, 10)]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = encode(red, kind, save_all=True, append_images=others, **options)
        assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) > 1
        (color,) = await pool.run(pixels.palette, data)
        assert color["hex"] == "#ff0000"


async def test_a_damaged_tiff_writes_nothing_to_the_terminal(pool: CpuPool) -> None:
    whole = whole_pictures()["tiff-fax"]
    for place in range(8, len(whole) - 8, 40):
        data = whole[:place] + bytes(8) + whole[place + 8 :]
        assert await pool.run(calls.stderr_of, pixels.palette, data) == b""
    many_samples = tiled_tiff().replace(
        struct.pack("<HHII", 277, 4, 1, 1), struct.pack("<HHII", 277, 4, 1, 10**8)
    )
    assert await pool.run(calls.stderr_of, pixels.palette, many_samples) == b""


@pytest.mark.slow
async def test_a_decoder_that_crashes_fails_its_own_job_with_a_readable_error() -> None:
    pool = CpuPool(1)
    with pytest.raises(PoolProcessDiedError, match=f"died .exit code -{signal.SIGSEGV:d}"):
        await pool.run(calls.die, signal.SIGSEGV)
    assert await outcome(pool, whole_pictures()["jpeg"]) == "palette"
    await pool.close()
