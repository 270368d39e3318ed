"""Shared by the tests of the colour handler: handlers, and pictures in some form."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from storage.database.engine import Database
from storage.repositories.palettes import PaletteRepository
from tests.integration.workers.handlers.conftest import FIRST, SAMPLES
from workers.handlers.color.handler import ColorHandler, ColorPayload, ColorResult
from workers.handlers.process_pool import CpuPool

COFFEE = SAMPLES / "coffee.jpg"
DRESS = SAMPLES / "red-dress.jpg"


@pytest.fixture
def store(database: Database) -> PaletteRepository:
    return PaletteRepository(database)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that image paths may lie in."""
    made = tmp_path / "images"
    made.mkdir()
    return made


@pytest.fixture
async def handler(store: PaletteRepository, pool: CpuPool, folder: Path) -> AsyncIterator[ColorHandler]:
    """One that may reach the test's server; the pool outlives it."""
    handler = ColorHandler(store, pool, image_dirs=[folder, SAMPLES], allow_private_addresses=True)
    yield handler
    await handler._http.aclose()


@pytest.fixture
async def guarded(store: PaletteRepository, pool: CpuPool, folder: Path) -> AsyncIterator[ColorHandler]:
    """One as it is by default: public addresses only."""
    handler = ColorHandler(store, pool, image_dirs=[folder])
    yield handler
    await handler._http.aclose()


async def palette_of(handler: ColorHandler, image: str) -> ColorResult:
    return await handler.run(ColorPayload(item_id="dress-17", image=image), FIRST)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
