"""Pictures of every kind that is accepted, and damaged forms of them, the same for the same seed."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from tests.integration.workers.handlers.conftest import SAMPLES

pillow_heif.register_heif_opener()

RED, BLUE = (200, 30, 40), (20, 40, 200)
PHONE_200 = (16320, 12240)
"""Width and height of a photograph of 200 megapixels."""

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEAD_BYTES = 600  # where sizes, tables and offsets stand


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def halves(size: tuple[int, int]) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, size[0], size[1]))
    return image


def claim_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG, as if it had this size."""
    at = data.index(b"\xff\xc2" if b"\xff\xc2" in data else b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def tiled_tiff(*, claimed_tile: int = 16, claimed_size: int | None = None) -> bytes:
    """A grey TIFF of 64 x 48 pixels in tiles, which Pillow does not write; tags may claim other figures."""
    side, tiles = 16, 12
    parts = [zlib.compress(bytes(range(256))) for _ in range(tiles)]
    offsets = [8 + sum(map(len, parts[:number])) for number in range(tiles)]
    arrays = 8 + sum(map(len, parts))
    entries = [
        (256, 1, claimed_size or 4 * side),  # width
        (257, 1, claimed_size or 3 * side),  # height
        (258, 1, 8),  # bits per sample
        (259, 1, 8),  # compression: deflate
        (262, 1, 1),  # black is zero
        (277, 1, 1),  # samples per pixel
        (322, 1, claimed_tile),  # width of a tile
        (323, 1, claimed_tile),
        (324, tiles, arrays),  # where the tiles are
        (325, tiles, arrays + 4 * tiles),  # how many bytes they have
    ]
    numbers = struct.pack(f"<{2 * tiles}I", *offsets, *map(len, parts))
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in entries)
    start = arrays + len(numbers)
    return struct.pack("<2sHI", b"II", 42, start) + b"".join(parts) + numbers + directory + bytes(4)


def whole_pictures() -> dict[str, bytes]:
    """Each format in each of the forms that its decoder has code of its own for."""
    photo = Image.open(SAMPLES / "coffee.jpg").convert("RGB").resize((72, 48))
    faded = photo.copy()
    faded.putalpha(Image.linear_gradient("L").resize(photo.size))
    few = photo.quantize(16)
    deep = Image.fromarray(np.asarray(photo.convert("L"), dtype=np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "jpeg": encode(photo, "JPEG", exif=exif),
        "jpeg-progressive": encode(photo, "JPEG", progressive=True),
        "jpeg-cmyk": encode(photo.convert("CMYK"), "JPEG"),
        "mpo": encode(photo, "MPO", save_all=True, append_images=[photo]),
        "png": encode(photo),
        "png-alpha": encode(faded),
        "png-palette": encode(few, transparency=3),
        "png-deep": encode(deep),
        "webp": encode(photo, "WEBP", exif=exif),
        "webp-lossless": encode(faded, "WEBP", lossless=True),
        "webp-animated": encode(photo, "WEBP", save_all=True, append_images=[faded]),
        "avif": encode(photo, "AVIF"),
        "avif-alpha": encode(faded, "AVIF"),
        "gif": encode(few, "GIF", save_all=True, append_images=[few.rotate(90)]),
        "tiff": encode(photo, "TIFF"),
        "tiff-lzw": encode(faded, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encode(photo, "TIFF", compression="jpeg"),
        "tiff-deflate": encode(deep, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-tiled": tiled_tiff(),
        "tiff-fax": encode(photo.convert("1"), "TIFF", compression="group4"),
        "bmp": encode(photo, "BMP"),
        "bmp-palette": encode(few, "BMP"),
        "heic": encode(photo, "HEIF"),
        "heic-alpha": encode(faded, "HEIF"),
        "heic-grid": encode(photo.resize((140, 100)), "HEIF", tile_size=64),
    }


def damaged_pictures(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of ``count`` damaged pictures, of all formats in turn."""
    chance = random.Random(seed)
    whole = whole_pictures()
    names = list(whole)
    for number in range(count):
        name = names[number % len(names)]
        data = bytearray(whole[name])
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            chance.choice((_flip, _flip, _set_number, _set_number, _cut, _repeat, _remove, _splice))(
                data, chance, whole[chance.choice(names)]
            )
        if name.startswith("png") and chance.random() < 0.8:
            _fix_checksums(data)
        yield name, bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    end = min(len(data), _HEAD_BYTES) if chance.random() < 0.7 else len(data)
    return chance.randrange(max(1, end))


def _flip(data: bytearray, chance: random.Random, other: bytes) -> None:
    if data:
        data[_place(data, chance)] = chance.randrange(256)


def _set_number(data: bytearray, chance: random.Random, other: bytes) -> None:
    size = chance.choice((1, 2, 4))
    at = _place(data, chance)
    value = chance.choice(_EXTREMES) % 256**size
    data[at : at + size] = value.to_bytes(size, chance.choice(("big", "little")))


def _cut(data: bytearray, chance: random.Random, other: bytes) -> None:
    del data[_place(data, chance) :]


def _repeat(data: bytearray, chance: random.Random, other: bytes) -> None:
    at, size = _place(data, chance), chance.randint(1, 64)
    data[at:at] = data[at : at + size] * chance.randint(1, 20)


def _remove(data: bytearray, chance: random.Random, other: bytes) -> None:
    at = _place(data, chance)
    del data[at : at + chance.randint(1, 32)]


def _splice(data: bytearray, chance: random.Random, other: bytes) -> None:
    at = _place(data, chance)
    data[at:] = other[chance.randrange(len(other)) :]


def _fix_checksums(data: bytearray) -> None:
    """Fix the checksums of a PNG's chunks: else nearly all damage ends at the first check."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4)
        at = end + 4
