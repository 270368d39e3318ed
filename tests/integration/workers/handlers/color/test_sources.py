"""Sources of a picture: allowed folders, public addresses, data URLs; and files that are no pictures."""

from __future__ import annotations

import asyncio
import base64
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image

from couturecast_handlers import PermanentError
from storage.repositories.palettes import PaletteRepository
from tests.integration.workers.handlers.color.conftest import COFFEE, DRESS, data_url, encoded, palette_of
from tests.integration.workers.handlers.conftest import FIRST, Answer, Serve, Server
from workers.handlers.base import validate_payload
from workers.handlers.color import handler as color
from workers.handlers.color.handler import ColorHandler, ColorPayload
from workers.handlers.http_client import DownloadError, ForbiddenAddressError
from workers.handlers.process_pool import CpuPool


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


@pytest.mark.slow
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


@pytest.mark.slow
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
    monkeypatch.setattr(color, "_DOWNLOAD_SECONDS", 0.3)
    with pytest.raises(DownloadError, match=r"longer than 0\.3 s"):
        await palette_of(handler, server.url("/slow"))


async def test_a_long_data_url_is_taken_and_a_broken_one_is_named(handler: ColorHandler) -> None:
    photo = validate_payload(ColorPayload, {"item_id": "a", "image": data_url(COFFEE.read_bytes())})
    assert (await handler.run(photo, FIRST)).colors == (await palette_of(handler, "coffee.jpg")).colors
    for image in ("data:image/png;base64,%%%", "data:image/png;base64", "DATA:;BASE64,A"):
        with pytest.raises(PermanentError, match="image: the data URL"):
            await palette_of(handler, image)
