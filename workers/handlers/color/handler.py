"""Finds the colour palette of a garment photo."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from couturecast_handlers import PermanentError
from storage.repositories.palettes import PaletteRepository
from workers.engine.policy import COLOR
from workers.handlers.base import Handler, JobContext, Payload
from workers.handlers.lazy_http import LazyHttpClient
from workers.handlers.process_pool import CpuPool, PoolMemoryError

_MAX_BYTES = 80_000_000  # of a picture as it comes; a phone's 200 megapixels are 20 to 60 million
_TIMEOUT_SECONDS = 10.0  # for each of connecting and reading
_PATH_CHARS = 200  # characters of a path that a message shows
_DOWNLOAD_SECONDS = 25.0  # for all of it, so that the job's 60 s leave time to decode


class ColorPayload(Payload):
    """A garment and its picture: a path below an allowed folder, an http(s) URL, or a data URL."""

    item_id: str = Field(min_length=1, max_length=200, description="The garment")
    image: str = Field(min_length=1, max_length=1_000_000, description="A path or a URL")


class Color(BaseModel):
    """One colour; ``share`` of the picture is from 0 to 1, ``lab`` is CIELAB under D65."""

    hex: str
    name: str
    share: float
    lab: tuple[float, float, float]


class ColorResult(BaseModel):
    """The palette, the most frequent colour first."""

    item_id: str
    colors: list[Color]


class ColorHandler(Handler[ColorPayload, ColorResult]):
    """Fetches on the event loop; decodes and counts in ``pool`` only."""

    queue: ClassVar[str] = COLOR
    payload_model = ColorPayload

    def __init__(
        self,
        store: PaletteRepository,
        pool: CpuPool,
        *,
        image_dirs: Sequence[Path],
        allow_private_addresses: bool = False,
    ) -> None:
        self._store = store
        self._pool = pool
        self._image_dirs = [folder.resolve() for folder in image_dirs]
        self._http = LazyHttpClient(allow_private_addresses=allow_private_addresses, timeout=_TIMEOUT_SECONDS)

    async def run(self, payload: ColorPayload, context: JobContext) -> ColorResult:
        """Find the palette and store it."""
        data = await self._fetch(payload.image)
        from workers.handlers.color import palette as pixels

        try:
            colors: list[dict[str, Any]] = await self._pool.run(pixels.palette, data)
        except PoolMemoryError as error:
            raise PermanentError(f"image: it cannot be decoded, {error}: make it smaller") from None
        await self._store.upsert(payload.item_id, colors)
        return ColorResult(item_id=payload.item_id, colors=[Color(**color) for color in colors])

    async def close(self) -> None:
        """Close the connections and end the pool."""
        await self._http.aclose()
        await self._pool.close()

    async def _fetch(self, image: str) -> bytes:
        scheme = image.partition(":")[0].lower()
        if scheme == "data":
            from workers.handlers.color.palette import data_url_bytes

            return data_url_bytes(image)
        if scheme in ("http", "https"):
            http = await self._http.open()
            from workers.handlers.http_client import download

            return await download(http, image, max_bytes=_MAX_BYTES, seconds=_DOWNLOAD_SECONDS)
        return await asyncio.to_thread(self._read, image)

    def _read(self, name: str) -> bytes:
        """Return a file below an allowed folder, after all links have been followed."""
        for folder in self._image_dirs:
            path = _file(folder, name)
            if path is not None:
                if path.stat().st_size > _MAX_BYTES:
                    raise PermanentError(f"image: {name[:_PATH_CHARS]} is larger than {_MAX_BYTES:,} bytes")
                return path.read_bytes()
        raise PermanentError(
            f"image: no file {name[:_PATH_CHARS]!r} in the folders of COUTURECAST_IMAGE_DIRS"
        )


def _file(folder: Path, name: str) -> Path | None:
    """Return the file ``name`` below ``folder``, None if it does not exist or its links lead out of it."""
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None
    except (ValueError, RuntimeError):  # NUL; links in a circle
        return None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):  # a picture in base64 without its data:
            return None
        raise
