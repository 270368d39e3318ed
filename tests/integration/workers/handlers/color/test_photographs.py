"""Photographs as phones and shops make them: how large, in which format, how transparent."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from couturecast_handlers import PermanentError
from storage.database.engine import Database
from storage.repositories.palettes import PaletteRepository
from tests.integration.workers.handlers import calls
from tests.integration.workers.handlers.color.mutations import (
    BLUE,
    PHONE_200,
    RED,
    claim_size,
    encode,
    halves,
    tiled_tiff,
)
from tests.integration.workers.handlers.conftest import FIRST, SAMPLES
from workers.handlers.color import palette as pixels
from workers.handlers.color import pictures
from workers.handlers.color.handler import ColorHandler, ColorPayload
from workers.handlers.process_pool import CpuPool

pillow_heif.register_heif_opener()

PHONE_50 = (8192, 6144)
PHONE_108 = (12000, 9000)


@pytest.fixture
async def handler(database: Database, pool: CpuPool, tmp_path: Path) -> AsyncIterator[ColorHandler]:
    handler = ColorHandler(PaletteRepository(database), pool, image_dirs=[tmp_path])
    yield handler
    await handler._http.aclose()


@pytest.fixture
async def palette_of(handler: ColorHandler, tmp_path: Path) -> Callable[..., Any]:
    """The colours of a picture as {hex: share}, found by the handler in the file of that name."""

    async def run(data: bytes, name: str = "picture") -> dict[str, float]:
        (tmp_path / name).write_bytes(data)
        result = await handler.run(ColorPayload(item_id="a", image=name), FIRST)
        return {color.hex: color.share for color in result.colors}

    return run


def near(hex_color: str, rgb: tuple[int, int, int], tolerance: int = 6) -> bool:
    found = bytes.fromhex(hex_color[1:])
    return max(abs(value - other) for value, other in zip(found, rgb, strict=True)) <= tolerance


def assert_halves(colors: dict[str, float], tolerance: int = 6) -> None:
    """Besides the two, a lossy format has a few pixels of other colours where they meet."""
    red, blue = sorted(list(colors)[:2], reverse=True)
    assert near(red, RED, tolerance)
    assert near(blue, BLUE, tolerance)
    assert min(colors[red], colors[blue]) > 0.45


# -- size ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [
        PHONE_50,
        pytest.param(PHONE_108, marks=pytest.mark.slow),
        pytest.param(PHONE_200, marks=pytest.mark.slow),
    ],
)
async def test_jpegs_of_phones_have_a_palette(palette_of: Callable[..., Any], size: tuple[int, int]) -> None:
    assert_halves(await palette_of(encode(halves(size), "JPEG", quality=30)))


@pytest.mark.slow
async def test_a_progressive_jpeg_of_200_megapixels_has_a_palette(palette_of: Callable[..., Any]) -> None:
    assert_halves(await palette_of(encode(halves(PHONE_200), "JPEG", quality=30, progressive=True)))


@pytest.mark.slow
async def test_a_heic_of_48_megapixels_has_a_palette(palette_of: Callable[..., Any]) -> None:
    assert_halves(await palette_of(heic(halves((8064, 6048)), tile_size=512)))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (65_500, 1), (1, 65_500), (65_500, 3)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
async def test_narrow_and_tiny_pictures_have_a_palette(
    palette_of: Callable[..., Any], kind: str, size: tuple[int, int]
) -> None:
    colors = await palette_of(encode(Image.new("RGB", size, RED), kind))
    assert [near(color, RED) for color in colors] == [True]


def one_component_a_scan(size: tuple[int, int]) -> bytes:
    """A JPEG that is not progressive and says that its first scan holds one component of three."""
    data = bytearray(encode(Image.new("RGB", (16, 16), RED), "JPEG"))
    data[data.index(b"\xff\xda") + 4] = 1
    return claim_size(bytes(data), *size)


def webp_claiming(side: int) -> bytes:
    data = bytearray(encode(halves((32, 32)).convert("RGBA"), "WEBP", xmp=b"<x/>"))
    assert data[12:16] == b"VP8X"
    data[24:27] = data[27:30] = (side - 1).to_bytes(3, "little")
    return bytes(data)


def heic(image: Image.Image, **options: Any) -> bytes:
    return encode(image, "HEIF", quality=60, enc_params={"preset": "ultrafast"}, **options)


def heic_claiming(side: int) -> bytes:
    data = heic(halves((64, 64)))
    return data.replace(
        b"ispe" + struct.pack(">III", 0, 64, 64), b"ispe" + struct.pack(">III", 0, side, side)
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (
            claim_size(encode(halves((64, 64)), "JPEG", progressive=True), 60_000, 60_000),
            "JPEG of 60,000 x 60,000",
        ),
        (one_component_a_scan((60_000, 60_000)), "JPEG of 60,000 x 60,000"),
        (tiled_tiff(claimed_tile=65_520), "TIFF of 64 x 48"),
        (tiled_tiff(claimed_size=60_000), "TIFF of 60,000 x 60,000"),
        (webp_claiming(16_000), "the picture"),
        (heic_claiming(20_000), "HEIF of 20,000 x 20,000"),
    ],
    ids=["progressive", "scans", "tiff-tile", "tiff", "webp", "heic"],
)
async def test_pictures_are_refused_by_the_memory_that_decoding_would_take(
    palette_of: Callable[..., Any], data: bytes, what: str
) -> None:
    assert len(data) < 20_000
    with pytest.raises(PermanentError, match=f"image: .*{what}.* more than 640 MiB .*: make it smaller"):
        await palette_of(data)


# -- formats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        heic(halves((320, 240))),
        heic(halves((640, 480)), tile_size=128),
        heic(halves((320, 240)).convert("RGBA")),
        heic(halves((320, 240)), chroma=444),
        encode(halves((320, 240)), "MPO", save_all=True, append_images=[halves((80, 60))]),
    ],
    ids=["heic", "grid", "alpha", "444", "mpo"],
)
async def test_what_phones_take_is_read(palette_of: Callable[..., Any], data: bytes) -> None:
    assert_halves(await palette_of(data, "picture.png"))


@pytest.mark.parametrize(
    "orientation", [6, *(pytest.param(turned, marks=pytest.mark.slow) for turned in (3, 8))]
)
def test_a_heic_that_exif_turns_stands_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = Image.open(SAMPLES / "coffee.jpg").convert("RGB")
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    turned = pictures.decode(encode(photo.transpose(back[orientation]), "HEIF", exif=exif.tobytes()))
    expected = np.asarray(pictures.decode(encode(photo)).convert("L"), dtype=float)
    seen = np.asarray(turned.convert("L"), dtype=float)
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).mean() < 8


async def test_a_damaged_exif_is_ignored(palette_of: Callable[..., Any]) -> None:
    broken = b"Exif\x00\x00MM\x00*\xff\xff\xff\xf0\x00"
    assert_halves(await palette_of(encode(halves((80, 60)), "JPEG", exif=broken, quality=95)))


async def test_grey_and_cmyk_profiles_are_heeded_and_foreign_ones_ignored(
    palette_of: Callable[..., Any],
) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = Image.new("L", (40, 40), 128)
    assert await palette_of(encode(grey, icc_profile=srgb)) == {"#808080": 1.0}
    cmyk = Image.new("CMYK", (40, 40), (0, 255, 255, 0))
    with_profile = await palette_of(encode(cmyk, "TIFF", icc_profile=srgb))
    assert with_profile == await palette_of(encode(cmyk, "TIFF"))


async def test_a_cielab_tiff_has_its_colour(palette_of: Callable[..., Any]) -> None:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(Image.new("RGB", (40, 40), RED), to_lab)
    assert lab is not None
    (color,) = await palette_of(encode(lab, "TIFF"))
    assert near(color, RED)


@pytest.mark.parametrize("mime", ["image/jpeg", "text/plain", ""])
async def test_what_a_data_url_calls_a_picture_does_not_matter(handler: ColorHandler, mime: str) -> None:
    url = f"data:{mime};base64," + base64.b64encode(encode(halves((80, 60)))).decode()
    result = await handler.run(ColorPayload(item_id="a", image=url), FIRST)
    assert_halves({color.hex: color.share for color in result.colors})


# -- transparency ----------------------------------------------------------------------------------


def faded(alpha: int, mode: str = "RGBA") -> Image.Image:
    """Red and blue halves, all over of this alpha (0 to 255)."""
    image = halves((120, 80)).convert(mode)
    image.putalpha(alpha)
    return image


def faded_palette(alpha: int) -> bytes:
    image = halves((120, 80)).quantize(2)
    return encode(image, transparency=bytes([alpha, alpha]))


@pytest.mark.parametrize(
    "data",
    [
        encode(faded(100)),
        encode(faded(100), "WEBP", lossless=True, exact=True),
        encode(faded(100), "AVIF", quality=95),
        heic(faded(100)),
        encode(faded(100), "TIFF"),
        encode(faded(8)),
        faded_palette(100),
    ],
    ids=["png", "webp", "avif", "heic", "tiff", "nearly-transparent", "palette"],
)
async def test_a_cloth_that_is_half_transparent_all_over_is_a_cloth(
    palette_of: Callable[..., Any], data: bytes
) -> None:
    assert_halves(await palette_of(data), tolerance=12)


@pytest.mark.parametrize("size", [(60, 60), (3000, 2000)])
async def test_faint_colours_stay_exact_when_they_are_made_small(
    palette_of: Callable[..., Any], size: tuple[int, int]
) -> None:
    (color,) = await palette_of(encode(Image.new("RGBA", size, (*RED, 9)), compress_level=1))
    assert near(color, RED, 1)


async def test_pixels_count_by_their_alpha(palette_of: Callable[..., Any]) -> None:
    cloth = Image.new("RGBA", (100, 100), (*RED, 100))
    cloth.paste((*BLUE, 200), (0, 0, 100, 20))  # a fifth of the picture, twice as visible
    colors = await palette_of(encode(cloth))
    assert {near(color, RED): share for color, share in colors.items()} == {
        True: pytest.approx(2 / 3, abs=0.01),
        False: pytest.approx(1 / 3, abs=0.01),
    }


@pytest.mark.parametrize(
    ("image", "options", "color"),
    [
        (Image.new("LA", (40, 40), (128, 100)), {}, "#808080"),
        (Image.new("L", (40, 40), 128), {"transparency": 7}, "#808080"),
        (Image.new("1", (40, 40), 1), {"transparency": 0}, "#ffffff"),
        (Image.new("RGB", (40, 40), (255, 0, 0)), {"transparency": (0, 0, 9)}, "#ff0000"),
    ],
    ids=["grey-alpha", "grey-key", "1-bit-key", "colour-key"],
)
async def test_other_ways_to_be_transparent(
    palette_of: Callable[..., Any], image: Image.Image, options: dict[str, Any], color: str
) -> None:
    assert await palette_of(encode(image, **options)) == {color: 1.0}


@pytest.mark.parametrize(
    "data",
    [
        encode(faded(0)),
        encode(faded(3)),
        encode(Image.new("LA", (9, 9), (128, 0))),
        encode(Image.new("L", (9, 9), 7), transparency=7),
        encode(Image.new("1", (9, 9), 0), transparency=0),
        faded_palette(0),
    ],
    ids=["rgba", "nearly", "grey", "grey-key", "1-bit-key", "palette"],
)
async def test_a_picture_of_which_nothing_is_visible_is_refused(
    palette_of: Callable[..., Any], data: bytes
) -> None:
    with pytest.raises(PermanentError, match="image: all of it is transparent"):
        await palette_of(data)


def test_every_mode_can_be_made_small() -> None:
    photo = Image.open(SAMPLES / "coffee.jpg").convert("RGB").resize((900, 700))
    for mode in (
        "1",
        "L",
        "LA",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBX",
        "RGBa",
        "La",
        "CMYK",
        "YCbCr",
        "HSV",
        "I",
        "F",
    ):
        by_way_of = {"PA": "P", "RGBa": "RGBA", "La": "LA"}.get(mode)
        image = (photo.convert(by_way_of) if by_way_of else photo).convert(mode)
        small = pictures._to_srgb(pictures._small(image), None)
        assert (small.mode, max(small.size)) == ("RGBA", 160), mode


# -- where it is decoded ---------------------------------------------------------------------------


async def test_pillow_heif_is_loaded_only_by_a_process_that_meets_a_heic() -> None:
    pool = CpuPool(1)
    assert not await pool.run(calls.loads_pillow_heif, pixels.palette, encode(halves((80, 60)), "JPEG"))
    assert await pool.run(calls.loads_pillow_heif, pixels.palette, heic(halves((80, 60))))
    await pool.close()
