"""Color jobs of a queue: decoding holds neither the event loop nor the queue; wrong payloads die at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from storage.repositories.palettes import PaletteRepository
from tests.integration.workers.handlers import calls
from tests.integration.workers.handlers.color.conftest import COFFEE, encoded, palette_of
from tests.integration.workers.handlers.conftest import SAMPLES, Ticker
from tests.support.engine import MakeBench
from tests.support.waiting import eventually
from workers.handlers.color import palette as pixels
from workers.handlers.color.handler import ColorHandler
from workers.handlers.process_pool import CpuPool


class WatchedPool(CpuPool):
    """Notes what it was given to do, and in which process that was done."""

    def __init__(self) -> None:
        super().__init__(1)
        self.done: list[tuple[Any, int]] = []

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        pid, result = await super().run(calls.with_pid, function, *args)
        self.done.append((function, pid))
        return result


async def test_a_picture_is_decoded_in_another_process(store: PaletteRepository) -> None:
    pool = WatchedPool()
    handler = ColorHandler(store, pool, image_dirs=[SAMPLES])
    await palette_of(handler, "coffee.jpg")
    ((function, pid),) = pool.done
    assert function is pixels.palette
    assert pid != os.getpid()
    await handler.close()
    with pytest.raises(RuntimeError, match="closed"):
        await pool.run(os.getpid)


@pytest.mark.slow
async def test_the_event_loop_goes_on_while_a_heavy_picture_is_decoded(
    handler: ColorHandler, folder: Path
) -> None:
    heavy = encoded(Image.open(COFFEE).resize((7000, 7000)), "JPEG", quality=40, progressive=True)
    (folder / "heavy.jpg").write_bytes(heavy)
    async with Ticker() as ticker:
        await palette_of(handler, "heavy.jpg")
    assert ticker.took > 0.2, "a heavy picture"
    assert ticker.worst < ticker.took / 3


@pytest.mark.slow
async def test_stuck_pictures_do_not_stop_the_queue(
    make_bench: MakeBench, store: PaletteRepository, tmp_path: Path
) -> None:
    """Calls past the queue's timeout are killed; the next job runs."""
    bench = make_bench(concurrency=2, timeout=6, retry_delays=())
    pool = CpuPool(2)
    handler = ColorHandler(store, pool, image_dirs=[SAMPLES])
    extract = handler.as_function()

    async def stuck_or_not(ctx: dict[str, Any], /, **kwargs: Any) -> Any:
        if kwargs["item_id"].startswith("stuck"):
            return await pool.run(calls.spin, str(tmp_path / kwargs["item_id"]))
        return await extract(ctx, **kwargs)

    await bench.start(stuck_or_not)
    for number in range(2):
        await bench.stock.enqueue("extract_colors", item_id=f"stuck-{number}", image="coffee.jpg")
    result = await bench.stock.apply("extract_colors", timeout=30, item_id="a", image="coffee.jpg")
    assert result["item_id"] == "a"
    await eventually(lambda: _two(bench), what="the stuck ones are dead letters")
    assert {letter.error_type for letter in (await bench.letters.page()).items} == {"JobTimeoutError"}
    await handler.close()


async def _two(bench: Any) -> bool:
    return bool(await bench.letters.count() == 2)


async def test_from_a_stock_producer_to_its_palette(
    make_bench: MakeBench, handler: ColorHandler, store: PaletteRepository
) -> None:
    bench = make_bench()
    await bench.start(handler.as_function())
    result = await bench.stock.apply("extract_colors", timeout=15, item_id="dress-1", image="red-dress.jpg")
    assert result["item_id"] == "dress-1"
    assert result["colors"][0]["name"] == "firebrick"
    assert await store.get("dress-1") == result["colors"]
    assert await bench.empty()


@pytest.mark.parametrize(
    ("arguments", "error_type", "message"),
    [
        ({"item_id": "a"}, "InvalidJobError", "image: Field required"),
        (
            {"item_id": "", "image": "x"},
            "InvalidJobError",
            "item_id: String should have at least 1 character",
        ),
        (
            {"item_id": "a", "image": "x", "size": 1},
            "InvalidJobError",
            "size: Extra inputs are not permitted",
        ),
        ({"item_id": "a", "image": "no.jpg"}, "PermanentError", "image: no file 'no.jpg' in the folders"),
    ],
)
async def test_a_payload_that_cannot_work_is_a_dead_letter_on_its_first_attempt(
    make_bench: MakeBench, handler: ColorHandler, arguments: dict[str, Any], error_type: str, message: str
) -> None:
    bench = make_bench()
    await bench.start(handler.as_function())
    await bench.stock.enqueue("extract_colors", **arguments)
    await eventually(bench.letters.count, what="the dead letter")
    (letter,) = (await bench.letters.page()).items
    assert (letter.attempts, letter.error_type) == (1, error_type)
    assert message in letter.error_message
