"""From the bytes of a picture to a small RGBA picture, within a bounded amount of memory.

Runs in the processes of the pool, and imports little, since each of these processes pays for all of it.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageCms, ImageOps, UnidentifiedImageError

from couturecast_handlers import PermanentError
from storage.errors import one_line
from workers.handlers.color.picture_memory import MEMORY_BYTES, WEBP_BYTES, decoding_bytes

SIDE_PIXELS = 160
"""The longer side of the small picture, at most."""
_KINDS = "JPEG, HEIC, PNG, WebP, AVIF, GIF, TIFF or BMP"
_UNKNOWN = f"image: not a picture of a known format, or its head is damaged: use {_KINDS}"
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
"""Beside HEIC and AVIF.  Pillow reads many more; for one of them it runs Ghostscript."""
_STRIP_PIXELS = 250_000  # that are converted at a time: a copy of the whole picture may not fit
_INVISIBLE_ALPHA = 5  # of 255
_MESSAGE_CHARS = 200  # of what a decoder says
_OUT_OF_MEMORY = re.compile(r"^Out of memory|: Out of memory|Allocating \d+ bytes failed")  # libheif, libavif
_ORIENTATION_TAG = 0x0112  # EXIF 2.3, section 4.6.4


def decode(data: bytes) -> Image.Image:
    """Return a small RGBA picture in sRGB, turned by its EXIF orientation.

    Alpha is relative: it is 255 where the picture is least transparent.  Raises PermanentError for data that
    is not a picture, is damaged, is transparent all over, or needs more than `MEMORY_BYTES` to decode.
    """
    if not data:
        raise PermanentError(f"image: it is empty (0 bytes): use {_KINDS}")
    try:
        with warnings.catch_warnings(), _silenced_stderr():
            warnings.simplefilter("ignore")
            return _decode(data)
    except PermanentError:
        raise
    except Image.DecompressionBombError:
        raise PermanentError(_too_large("the picture")) from None
    except UnidentifiedImageError:
        raise PermanentError(
            f"image: not a picture of a known format, or its head is damaged: use {_KINDS}"
        ) from None
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # decoders raise whatever their damaged input leads them to
        reason = one_line(error)[:_MESSAGE_CHARS]
        if _OUT_OF_MEMORY.search(reason):
            raise MemoryError(reason) from None
        raise PermanentError(f"image: the picture is damaged: {reason}") from None


def _too_large(size: str) -> str:
    return (
        f"image: {size} would take more than {MEMORY_BYTES >> 20} MiB of memory to decode: make it smaller, "
        "or send a baseline JPEG, which may have 200 megapixels"
    )


def _decode(data: bytes) -> Image.Image:
    image = _open(data)
    width, height = image.size
    shrink = max(1, max(image.size) // (4 * SIDE_PIXELS))
    if image.format in ("JPEG", "MPO"):  # others' `draft` would decode the thumbnail, which may be anything
        image.draft("RGB", (max(1, width // shrink), max(1, height // shrink)))
    if decoding_bytes(image, data, (width, height)) > MEMORY_BYTES:
        raise PermanentError(_too_large(f"a {image.format} of {width:,} x {height:,} pixels"))
    image.load()
    orientation = _orientation(image)
    small = _to_srgb(_small(image), image.info.get("icc_profile"))
    if orientation != 1:
        exif = Image.Exif()
        exif[_ORIENTATION_TAG] = orientation
        small.info["exif"] = exif.tobytes()
        small = ImageOps.exif_transpose(small)
    return small


def _open(data: bytes) -> Image.Image:
    """Open a picture; this reads the head only.  Raises what Pillow raises."""
    # Pillow's limit counts pixels.  It is needed for WebP alone, whose decoder takes its memory on opening.
    webp = data[:4] == b"RIFF"
    Image.MAX_IMAGE_PIXELS = MEMORY_BYTES // WEBP_BYTES // 2 if webp else None
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the queue's other jobs use the other cores
    if data[4:8] == b"ftyp":  # HEIC's and AVIF's first box
        _register_heif()
        return Image.open(io.BytesIO(data), formats=("AVIF", "HEIF"))
    return Image.open(io.BytesIO(data), formats=_FORMATS)


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Silence descriptor 2, on which libtiff and Pillow's log report damage.

    It may be the dashboard's terminal.
    """
    try:
        saved = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _register_heif() -> None:
    import pillow_heif  # 15 MB, which only processes that meet such a picture pay for

    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def _orientation(image: Image.Image) -> int:
    """Return the orientation, 1 to 8 as EXIF counts; 1 if the EXIF is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # whatever a damaged EXIF leads to: the picture itself is good
        return 1
    return value if value in range(1, 9) else 1


def _small(image: Image.Image) -> Image.Image:
    """Shrink a picture of mode L, LA, RGB, RGBA or CMYK: strip by strip, then as a whole."""
    factor = max(1, max(image.size) // (4 * SIDE_PIXELS))
    scale = _alpha_scale(image)
    top = _brightest(image)
    small: Image.Image | None = None
    for row, strip in _strips(image, factor):
        plain = _plain(strip, top)
        if scale is not None:
            plain.putalpha(plain.getchannel("A").point(scale))
        reduced = plain.reduce(factor) if factor > 1 else plain
        if small is None:
            small = Image.new(reduced.mode, (-(-image.width // factor), -(-image.height // factor)))
        small.paste(reduced, (0, row // factor))
    if small is None:
        raise ValueError("it has no pixels")
    small.thumbnail((SIDE_PIXELS, SIDE_PIXELS), Image.Resampling.BOX)
    return small


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield the first row and the pixels of each strip, whose rows are a multiple of ``factor``."""
    rows = factor * max(1, _STRIP_PIXELS // (image.width * factor))
    for row in range(0, image.height, rows):
        yield row, image.crop((0, row, image.width, min(row + rows, image.height)))


def _plain(image: Image.Image, top: float) -> Image.Image:
    """Convert to one of the modes that can be reduced and converted by a colour profile."""
    mode = image.mode
    if _is_deep(image):
        values = _deep_values(image) / top * 255
        return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    if mode in ("LA", "La"):
        return image.convert("LA")
    if image.has_transparency_data:
        return image.convert("RGBA")
    if mode == "1":
        return image.convert("L")
    return image if mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def _alpha_scale(image: Image.Image) -> list[int] | None:
    """Return a table that makes the least transparent pixel opaque, None for a picture without transparency.

    Raises PermanentError if (nearly) nothing is visible.
    """
    if not image.has_transparency_data or _is_deep(image):
        return None
    highest = 0
    for _, strip in _strips(image):
        highest = max(highest, int(_plain(strip, 255).getchannel("A").getextrema()[1]))  # type: ignore[arg-type]
        if highest == 255:
            break
    if highest <= _INVISIBLE_ALPHA:
        raise PermanentError("image: all of it is transparent")
    return [min(255, round(alpha * 255 / highest)) for alpha in range(256)]


def _is_deep(image: Image.Image) -> bool:
    """Return whether it is grey with 16 bits and more."""
    return image.mode.startswith("I") or image.mode == "F"


def _deep_values(image: Image.Image) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)


def _brightest(image: Image.Image) -> float:
    """Return the value that stands for white."""
    if not _is_deep(image) or image.mode.startswith("I;16"):
        return 65535.0
    highest = max(float(_deep_values(strip).max()) for _, strip in _strips(image))
    return next((white for white in (1.0, 255.0, 65535.0) if highest <= white), highest)


def _to_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """Return an RGBA picture, by the colour profile that the picture carries, if it is a good one."""
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if image.mode in ("LA", "RGBA"):
        image = image.convert(image.mode.removesuffix("A"))
    try:
        converted = _convert_profile(image, profile)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        converted = image.convert("RGB")  # the profile is damaged, the picture is not
    if alpha is not None:
        converted.putalpha(alpha)
    return converted.convert("RGBA")


def _convert_profile(image: Image.Image, profile: Any) -> Image.Image:
    if not profile:
        return image.convert("RGB")
    srgb = ImageCms.createProfile("sRGB")
    embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(embedded.profile.xcolor_space.strip())
    if mode != image.mode and (mode, image.mode) != ("RGB", "L"):  # a profile for other pictures
        return image.convert("RGB")
    converted = ImageCms.profileToProfile(image.convert(mode), embedded, srgb, outputMode="RGB")
    return converted or image.convert("RGB")
