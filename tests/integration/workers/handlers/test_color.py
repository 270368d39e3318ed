"""Palettes of real photographs, in every shape that photographs come in, and of what is none."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from couturecast_handlers import PermanentError
from storage.database.engine import Database
from storage.repositories.palettes import PaletteRepository
from tests.integration.workers.conftest import MakeBench, eventually
from tests.integration.workers.handlers import calls
from tests.integration.workers.handlers.conftest import FIRST, SAMPLES, Answer, Serve, Server, Ticker
from workers.handlers.base import validate_payload
from workers.handlers.color import handler as color
from workers.handlers.color import palette as pixels
from workers.handlers.color import pictures
from workers.handlers.color.handler import ColorHandler, ColorPayload, ColorResult
from workers.handlers.http_client import DownloadError, ForbiddenAddressError
from workers.handlers.process_pool import CpuPool

COFFEE = SAMPLES / "coffee.jpg"
DRESS = SAMPLES / "red-dress.jpg"


class WatchedPool(CpuPool):
    """Notes what it was given to do, and in which process that was done."""

    def __init__(self) -> None:
        super().__init__(1)
        self.done: list[tuple[Any, int]] = []

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        pid, result = await super().run(calls.with_pid, function, *args)
        self.done.append((function, pid))
        return result


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


def distance(left: ColorResult, right: ColorResult) -> float:
    """CIELAB distance of two palettes: of each colour to the other's nearest, by its share, both ways."""

    def one_way(ours: ColorResult, others: ColorResult) -> float:
        return sum(
            each.share
            * min(float(np.linalg.norm(np.subtract(each.lab, other.lab))) for other in others.colors)
            for each in ours.colors
        )

    return max(one_way(left, right), one_way(right, left))


async def test_a_palette_is_stored_and_a_second_run_replaces_it(
    either_database: Database, pool: CpuPool, folder: Path
) -> None:
    store = PaletteRepository(either_database)
    handler = ColorHandler(store, pool, image_dirs=[SAMPLES, folder])
    first = await palette_of(handler, "red-dress.jpg")
    stored = await store.get("dress-17")
    assert stored == [each.model_dump(mode="json") for each in first.colors]
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
    assert sum(each.share for each in result.colors) == pytest.approx(1, abs=0.001)
    shares = [each.share for each in result.colors]
    assert shares == sorted(shares, reverse=True)


async def test_a_plain_background_is_neglected(handler: ColorHandler) -> None:
    picture = Image.new("RGB", (400, 400), (240, 240, 238))
    picture.paste((20, 60, 160), (150, 100, 250, 300))  # an eighth of the picture
    result = await palette_of(handler, data_url(encoded(picture)))
    assert (result.colors[0].name, result.colors[0].share > 0.9) == ("darkslateblue", True) or (
        result.colors[0].hex,
        result.colors[0].share,
    ) == ("#143ca0", 1.0)
    assert all(each.lab[0] < 80 for each in result.colors), "nothing of the background is left"


async def test_a_picture_that_is_all_one_colour_is_not_all_background(handler: ColorHandler) -> None:
    result = await palette_of(handler, data_url(encoded(Image.new("RGB", (64, 64), (255, 0, 0)))))
    assert [(each.hex, each.name, each.share) for each in result.colors] == [("#ff0000", "red", 1.0)]


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
    assert [(each.hex, each.share) for each in result.colors] == [(f"#{grey:02x}{grey:02x}{grey:02x}", 1.0)]


async def test_what_is_transparent_does_not_count(handler: ColorHandler) -> None:
    picture = Image.new("RGBA", (100, 100), (0, 255, 0, 0))
    picture.paste((255, 0, 0, 255), (40, 40, 60, 60))
    result = await palette_of(handler, data_url(encoded(picture)))
    assert [(each.hex, each.share) for each in result.colors] == [("#ff0000", 1.0)]
    keyed = Image.new("P", (100, 100), 0)
    keyed.putpalette([0, 255, 0, 0, 0, 255])
    keyed.paste(1, (40, 40, 60, 60))
    result = await palette_of(handler, data_url(encoded(keyed, transparency=0)))
    assert [(each.hex, each.share) for each in result.colors] == [("#0000ff", 1.0)]
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


def bomb() -> bytes:
    """A valid PNG of 900 million pixels in some kilobytes."""
    small = bytearray(encoded(Image.new("1", (8, 8))))
    small[16:24] = struct.pack(">II", 30_000, 30_000)
    small[29:33] = struct.pack(">I", zlib.crc32(bytes(small[12:29])))
    return bytes(small)


def real_bomb() -> bytes:
    return encoded(Image.new("1", (26_000, 26_000)))


def cut_png() -> bytes:
    return encoded(Image.open(COFFEE))[:20_000]


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        (b"", "empty .0 bytes.: use JPEG, HEIC"),
        (b"<html>not here</html>", "not a picture of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a picture of a known"),
        (b"\x89PNG\r\n\x1a\n", "not a picture|damaged"),
        (COFFEE.read_bytes()[:20_000], "damaged: .*truncated"),
        (cut_png, "damaged: .*truncated"),
        (bomb, r"a PNG of 30,000 x 30,000 pixels would take more than 640 MiB of memory"),
        (real_bomb, r"a PNG of 26,000 x 26,000 pixels would take more than 640 MiB of memory"),
    ],
    ids=["empty", "html", "eps", "head-only", "cut-jpeg", "cut-png", "claimed-bomb", "real-bomb"],
)
async def test_what_is_no_whole_picture_is_permanent(
    handler: ColorHandler,
    store: PaletteRepository,
    folder: Path,
    picture: bytes | Callable[[], bytes],
    problem: str,
) -> None:
    data = picture if isinstance(picture, bytes) else picture()
    assert len(data) < 100_000
    (folder / "bad").write_bytes(data)
    with pytest.raises(PermanentError, match=f"image: .*({problem})"):
        await palette_of(handler, "bad")
    assert await store.get("dress-17") is None


@pytest.mark.parametrize(
    "name", ["coffee.jpg", str(COFFEE), "./coffee.jpg", "sub/../coffee.jpg", f"../images/{COFFEE.name}"]
)
async def test_a_path_below_an_allowed_folder_is_read(handler: ColorHandler, name: str) -> None:
    assert len((await palette_of(handler, name)).colors) > 1


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "sub/../../secret.png",
        "link-out.png",
        "folder-out/secret.png",
        "missing.png",
        ".",
        "/",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/environ",
        "file:///etc/passwd",
        "circle",
        "nul\x00.png",
        "~/secret.png",
        base64.b64encode(b"x" * 5000).decode(),
    ],
)
async def test_paths_that_lead_out_of_the_allowed_folders_are_refused(
    guarded: ColorHandler, folder: Path, name: str
) -> None:
    secret = folder.parent / "secret.png"
    secret.write_bytes(encoded(Image.new("RGB", (8, 8), (255, 0, 0))))
    (folder / "sub").mkdir()
    (folder / "link-out.png").symlink_to(secret)
    (folder / "folder-out").symlink_to(folder.parent)
    (folder / "circle").symlink_to(folder / "circle")
    with pytest.raises(PermanentError, match=r"image: no file .* COUTURECAST_IMAGE_DIRS") as refused:
        await palette_of(guarded, name)
    assert len(str(refused.value)) < 400


async def test_the_absolute_path_of_a_file_outside_is_refused(guarded: ColorHandler, folder: Path) -> None:
    secret = folder.parent / "images-of-others" / "secret.png"  # its path begins as the folder's does
    secret.parent.mkdir()
    secret.write_bytes(encoded(Image.new("RGB", (8, 8), (255, 0, 0))))
    with pytest.raises(PermanentError, match="no file"):
        await palette_of(guarded, str(secret))
    (folder / "inside.png").symlink_to(folder / "other.png")
    (folder / "other.png").write_bytes(secret.read_bytes())
    assert (await palette_of(guarded, "inside.png")).colors[0].name == "red"


async def test_without_allowed_folders_no_path_is_read(store: PaletteRepository, pool: CpuPool) -> None:
    handler = ColorHandler(store, pool, image_dirs=[])
    with pytest.raises(PermanentError, match="COUTURECAST_IMAGE_DIRS"):
        await palette_of(handler, str(COFFEE))
    await handler._http.aclose()


async def test_a_file_that_is_too_large_is_refused_unread(handler: ColorHandler, folder: Path) -> None:
    with (folder / "huge.png").open("wb") as file:
        file.truncate(80_000_001)
    with pytest.raises(PermanentError, match="larger than 80,000,000 bytes"):
        await palette_of(handler, "huge.png")


async def test_a_picture_is_downloaded(handler: ColorHandler, server: Server) -> None:
    server.answers |= {
        "/a": Answer(302, headers={"Location": "/dress.jpg"}),
        "/dress.jpg": Answer(200, DRESS.read_bytes()),
    }
    assert await palette_of(handler, server.url("/a")) == await palette_of(handler, "red-dress.jpg")


async def test_a_download_reaches_no_private_address(
    guarded: ColorHandler, server: Server, serve: Serve, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ForbiddenAddressError):
        await palette_of(guarded, server.url("/dress.jpg"))
    request.getfixturevalue("only_public")
    inside = await serve("127.0.0.2")
    server.answers["/a"] = Answer(302, headers={"Location": inside.url("/dress.jpg")})
    with pytest.raises(ForbiddenAddressError):
        await palette_of(guarded, server.url("/a"))
    assert inside.requests == []


async def test_downloads_that_are_too_large_or_too_slow_are_given_up(
    handler: ColorHandler, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drip() -> AsyncIterator[bytes]:
        for byte in DRESS.read_bytes():
            yield bytes([byte])
            await asyncio.sleep(0.05)

    server.answers |= {"/large": Answer(200, DRESS.read_bytes()), "/slow": Answer(200, more=drip())}
    monkeypatch.setattr(color, "_MAX_BYTES", 10_000)
    with pytest.raises(PermanentError, match="larger than 10,000 bytes"):
        await palette_of(handler, server.url("/large"))
    monkeypatch.setattr(color, "_DOWNLOAD", 0.3)
    with pytest.raises(DownloadError, match=r"longer than 0\.3 s"):
        await palette_of(handler, server.url("/slow"))


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


async def test_a_long_data_url_is_taken_and_a_broken_one_is_named(handler: ColorHandler) -> None:
    photo = validate_payload(ColorPayload, {"item_id": "a", "image": data_url(COFFEE.read_bytes())})
    assert (await handler.run(photo, FIRST)).colors == (await palette_of(handler, "coffee.jpg")).colors
    for image in ("data:image/png;base64,%%%", "data:image/png;base64", "DATA:;BASE64,A"):
        with pytest.raises(PermanentError, match="image: the data URL"):
            await palette_of(handler, image)
