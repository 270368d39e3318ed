"""Estimates the memory that a decoder takes for a picture, from the picture's head alone.

The figures per pixel are peaks of resident memory, measured with Pillow 13.0 and pillow-heif 1.8.  They are
rounded up to the worst that the formats allow.
"""

from __future__ import annotations

import math
from typing import Any

from PIL import Image

MEMORY_BYTES = 640 << 20
"""The most that one picture may take.  A progressive JPEG of 200 megapixels takes 590 MiB, a HEIC of 48
megapixels 330.  Five pictures at a time, the queue's concurrency, take 3.2 GiB at the most."""
WEBP_BYTES = 20  # per pixel: two canvases, the frame, its copy, and Pillow's; 16.3 to 17.1 were measured
_AVIF_BYTES = 16  # per pixel, with 10 bits, 4:4:4 and transparency; 9.1 to 10.6 were measured with 8 bits
_HEIF_BYTES = 12  # per pixel, with 10 bits; 7.1 to 8.5 were measured with 8 bits
_COEFFICIENT_BYTES = 2  # of a JPEG, per sample
_PLANAR_MODES = ("1", "L", "P")  # a byte per pixel; all others of Pillow's modes take 2 or 4
_TIFF_ORIENTATION, _TIFF_SAMPLE_BITS, _TIFF_SAMPLES, _TIFF_STRIP_ROWS = 274, 258, 277, 278
_TIFF_TILE_WIDTH, _TIFF_TILE_ROWS = 322, 323


def decoding_bytes(image: Image.Image, data: bytes, full_size: tuple[int, int]) -> int:
    """Return the bytes that ``image.load()`` will take at its peak.

    ``image`` has been opened and not loaded; ``full_size`` is its size before `Image.draft`.
    """
    pixels = image.width * image.height
    match image.format:
        case "WEBP":
            return pixels * WEBP_BYTES
        case "AVIF":
            return pixels * _AVIF_BYTES
        case "HEIF":
            return pixels * _HEIF_BYTES
        case "JPEG" | "MPO":
            return pixels * _mode_bytes(image) + _coefficient_bytes(image, data, full_size)
        case "TIFF":
            return _tiff_bytes(image)
        case _:  # PNG, GIF and BMP are decoded row by row, GIF and BMP with one more byte per pixel
            return pixels * (_mode_bytes(image) + (image.format != "PNG"))


def _mode_bytes(image: Image.Image) -> int:
    """Return the bytes per pixel in Pillow's memory."""
    if image.mode in _PLANAR_MODES:
        return 1
    return 2 if image.mode.startswith("I;16") else 4


def _coefficient_bytes(image: Any, data: bytes, full_size: tuple[int, int]) -> int:
    """Return what a JPEG takes if each of its scans has a part of all blocks; 0 if it is decoded by rows."""
    sampling = [(across, down) for _, across, down, _ in image.layer]
    if not image.info.get("progressive") and _components_of_first_scan(data) == len(sampling):
        return 0
    widest, tallest = max(across for across, _ in sampling), max(down for _, down in sampling)
    samples = math.prod(full_size) * sum(across * down for across, down in sampling) / (widest * tallest)
    return int(samples * _COEFFICIENT_BYTES)


def _components_of_first_scan(data: bytes) -> int:
    """Count the components of a JPEG's first scan; 0 if it has no scan."""
    start_of_image, start_of_scan, fill = 0xD8, 0xDA, 0xFF
    offset = 0
    while offset + 4 < len(data):
        marker = data[offset + 1]
        if data[offset] != fill or marker == fill:
            offset += 1
        elif marker == start_of_scan:
            return data[offset + 4]
        elif marker == start_of_image:
            offset += 2
        else:
            offset += 2 + int.from_bytes(data[offset + 2 : offset + 4])
    return 0


def _tiff_bytes(image: Any) -> int:
    """Count the bytes: Pillow turns a TIFF itself and so makes a copy.

    The library libtiff decodes a whole strip or tile at a time.
    """
    tags = image.tag_v2
    copies = 2 if tags.get(_TIFF_ORIENTATION, 1) != 1 else 1
    decoded = image.width * image.height * _mode_bytes(image) * copies
    if image.info.get("compression") == "raw":
        return int(decoded)
    sample_bits = max(tags.get(_TIFF_SAMPLE_BITS, (1,)))
    pixel_bytes = max(4, tags.get(_TIFF_SAMPLES, 1) * sample_bits // 8)
    if _TIFF_TILE_WIDTH in tags:
        piece = tags[_TIFF_TILE_WIDTH] * tags[_TIFF_TILE_ROWS]
    else:
        piece = image.width * min(image.height, tags.get(_TIFF_STRIP_ROWS, image.height))
    return int(decoded + piece * pixel_bytes)
