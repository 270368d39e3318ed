"""Palettes of real photographs, in every shape that photographs come in."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from couturecast_handlers import PermanentError
from storage.database.engine import Database
from storage.repositories.palettes import PaletteRepository
from tests.integration.workers.handlers.color.conftest import COFFEE, data_url, encoded, palette_of
from tests.integration.workers.handlers.conftest import SAMPLES
from workers.handlers.color import pictures
from workers.handlers.color.handler import ColorHandler, ColorResult
from workers.handlers.process_pool import CpuPool


def distance(left: ColorResult, right: ColorResult) -> float:
    """CIELAB distance of two palettes: of each colour to the other's nearest, by its share, both ways."""

    def one_way(ours: ColorResult, others: ColorResult) -> float:
        return sum(
            color.share
            * min(float(np.linalg.norm(np.subtract(color.lab, other.lab))) for other in others.colors)
            for color in ours.colors
        )

    return max(one_way(left, right), one_way(right, left))


@pytest.mark.slow
async def test_a_palette_is_stored_and_a_second_run_replaces_it(
    either_database: Database, pool: CpuPool, folder: Path
) -> None:
    store = PaletteRepository(either_database)
    handler = ColorHandler(store, pool, image_dirs=[SAMPLES, folder])
    first = await palette_of(handler, "red-dress.jpg")
    stored = await store.get("dress-17")
    assert stored == [color.model_dump(mode="json") for color in first.colors]
    assert await palette_of(handler, "red-dress.jpg") == first
    (folder / "blue.png").write_bytes(encoded(Image.new("RGB", (50, 50), (0, 0, 255))))
    await palette_of(handler, "blue.png")
    assert await store.get("dress-17") == [
        {"hex": "#0000ff", "name": "blue", "share": 1.0, "lab": [32.3, 79.19, -107.86]}
    ]
    await handler._http.aclose()


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("red-dress.jpg", "firebrick"),
        ("striped-shirt.png", "whitesmoke"),
        ("coffee.jpg", "sienna"),
        ("astronaut.jpg", "silver"),
    ],
)
async def test_real_photographs_have_the_colours_that_one_sees(
    handler: ColorHandler, name: str, first: str
) -> None:
    result = await palette_of(handler, name)
    assert result.colors[0].name == first
    assert 1 <= len(result.colors) <= 6
    assert sum(color.share for color in result.colors) == pytest.approx(1, abs=0.001)
    shares = [color.share for color in result.colors]
    assert shares == sorted(shares, reverse=True)


async def test_a_plain_background_is_neglected(handler: ColorHandler) -> None:
    picture = Image.new("RGB", (400, 400), (240, 240, 238))
    picture.paste((20, 60, 160), (150, 100, 250, 300))  # an eighth of the picture
    result = await palette_of(handler, data_url(encoded(picture)))
    assert (result.colors[0].name, result.colors[0].share > 0.9) == ("darkslateblue", True) or (
        result.colors[0].hex,
        result.colors[0].share,
    ) == ("#143ca0", 1.0)
    assert all(color.lab[0] < 80 for color in result.colors), "nothing of the background is left"


async def test_a_picture_that_is_all_one_colour_is_not_all_background(handler: ColorHandler) -> None:
    result = await palette_of(handler, data_url(encoded(Image.new("RGB", (64, 64), (255, 0, 0)))))
    assert [(color.hex, color.name, color.share) for color in result.colors] == [("#ff0000", "red", 1.0)]


@pytest.mark.slow
@pytest.mark.parametrize("orientation", range(1, 9))
async def test_a_picture_that_exif_turns_has_the_palette_of_the_upright_one(
    handler: ColorHandler, folder: Path, orientation: int
) -> None:
    upright = Image.open(COFFEE)
    stored_as = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = upright if stored_as is None else upright.transpose(stored_as)
    data = encoded(turned, "JPEG", quality=95, exif=exif)
    (folder / "turned.jpg").write_bytes(data)
    result = await palette_of(handler, "turned.jpg")
    assert distance(result, await palette_of(handler, "coffee.jpg")) < 10
    seen = np.asarray(pictures.decode(data).convert("L"), dtype=float)
    expected = np.asarray(pictures.decode(COFFEE.read_bytes()).convert("L"), dtype=float)
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).mean() < 8, "it stands upright"


def cmyk(photo: Image.Image) -> bytes:
    return encoded(photo.convert("CMYK"), "JPEG", quality=95)


def sixteen_bit_colour(photo: Image.Image) -> bytes:
    """A PNG with 16 bits a channel, written by hand, since Pillow writes none."""
    rows = np.asarray(photo, dtype=">u2") * 257
    raw = b"".join(b"\x00" + row.tobytes() for row in rows)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", photo.width, photo.height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(raw, 1))
        + chunk(b"IEND", b"")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "convert",
    [
        cmyk,
        sixteen_bit_colour,
        lambda photo: encoded(photo.quantize(64)),
        lambda photo: encoded(photo.convert("RGBA")),
        lambda photo: encoded(photo, "WEBP", quality=95),
        lambda photo: encoded(photo, "AVIF", quality=90),
        lambda photo: encoded(photo, "TIFF", compression="tiff_lzw"),
        lambda photo: encoded(photo, "BMP"),
        lambda photo: encoded(photo.quantize(64), "GIF"),
        lambda photo: encoded(photo, "JPEG", progressive=True, quality=95),
    ],
    ids=["cmyk", "16-bit", "palette", "rgba", "webp", "avif", "tiff", "bmp", "gif", "progressive"],
)
async def test_the_form_of_a_photograph_does_not_change_its_palette(
    handler: ColorHandler, folder: Path, convert: Callable[[Image.Image], bytes]
) -> None:
    (folder / "form").write_bytes(convert(Image.open(COFFEE).convert("RGB")))
    assert distance(await palette_of(handler, "form"), await palette_of(handler, "coffee.jpg")) < 10


@pytest.mark.parametrize(
    ("picture", "grey"),
    [
        (Image.new("L", (40, 40), 128), 128),
        (Image.new("LA", (40, 40), (128, 255)), 128),
        (Image.fromarray(np.full((40, 40), 128 * 257, dtype=np.uint16)), 128),
        (Image.fromarray(np.full((40, 40), 200, dtype=np.uint16)), 1),  # dark: no 8-bit picture
        (Image.new("1", (40, 40), 1), 255),
        (Image.fromarray(np.full((40, 40), 128 * 257, dtype=np.int32)), 128),
        (Image.fromarray(np.full((40, 40), 0.5, dtype=np.float32)), 128),
        (Image.fromarray(np.full((40, 40), np.nan, dtype=np.float32)), 0),
    ],
    ids=["8-bit", "alpha", "16-bit", "dark-16-bit", "1-bit", "32-bit", "float", "nan"],
)
async def test_grey_pictures_of_any_depth_have_their_grey(
    handler: ColorHandler, picture: Image.Image, grey: int
) -> None:
    kind = "TIFF" if picture.mode in ("I", "F") else "PNG"
    result = await palette_of(handler, data_url(encoded(picture, kind)))
    assert [(one.hex, one.share) for one in result.colors] == [(f"#{grey:02x}{grey:02x}{grey:02x}", 1.0)]


async def test_what_is_transparent_does_not_count(handler: ColorHandler) -> None:
    picture = Image.new("RGBA", (100, 100), (0, 255, 0, 0))
    picture.paste((255, 0, 0, 255), (40, 40, 60, 60))
    result = await palette_of(handler, data_url(encoded(picture)))
    assert [(color.hex, color.share) for color in result.colors] == [("#ff0000", 1.0)]
    keyed = Image.new("P", (100, 100), 0)
    keyed.putpalette([0, 255, 0, 0, 0, 255])
    keyed.paste(1, (40, 40, 60, 60))
    result = await palette_of(handler, data_url(encoded(keyed, transparency=0)))
    assert [(color.hex, color.share) for color in result.colors] == [("#0000ff", 1.0)]
    with pytest.raises(PermanentError, match="transparent"):
        await palette_of(handler, data_url(encoded(Image.new("RGBA", (9, 9), (1, 2, 3, 0)))))


async def test_a_colour_profile_is_heeded_and_a_damaged_one_is_not(handler: ColorHandler) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red = Image.new("RGB", (40, 40), (200, 30, 40))
    plain = await palette_of(handler, data_url(encoded(red)))
    assert await palette_of(handler, data_url(encoded(red, icc_profile=lab))) == plain
    assert await palette_of(handler, data_url(encoded(red, icc_profile=b"no profile"))) == plain
    swapped = bytearray(lab)  # the profile's red and blue primaries change places
    r, b = swapped.index(b"rXYZ"), swapped.index(b"bXYZ")
    swapped[r : r + 4], swapped[b : b + 4] = b"bXYZ", b"rXYZ"
    turned = await palette_of(handler, data_url(encoded(red, icc_profile=bytes(swapped))))
    assert turned.colors[0].lab[2] < -20, "bluish"
