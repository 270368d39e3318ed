"""From the bytes of a picture to its palette.

Runs in the processes of the pool.  It lies outside of `workers.handlers`, and imports little, since each of
these processes pays for all that is imported.
"""

from __future__ import annotations

import base64
import binascii
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import webcolors
from numpy.typing import NDArray
from PIL import Image

from couturecast_handlers import PermanentError
from workers.handlers.color.pictures import decode

Floats = NDArray[np.float64]

_MAX_COLORS = 6
_MAX_ROUNDS = 20
_MAX_SAME_COLOR_DISTANCE = 8.0  # CIELAB distance below which two clusters are one colour
_MAX_BACKGROUND_DISTANCE = 12.0  # CIELAB distance from the border's colour below which a pixel is background
_MAX_TRANSPARENT_SHARE = 0.1  # of the highest alpha
_MIN_UNIFORM_BORDER_SHARE = 0.7  # share of the border that must agree for it to count as a background


def data_url_bytes(url: str) -> bytes:
    """Return the bytes in a ``data:`` URL.  Raises PermanentError."""
    head, comma, body = url.partition(",")
    if not comma:
        raise PermanentError("image: the data URL has no comma")
    try:
        if head.lower().endswith(";base64"):
            return base64.b64decode(unquote_to_bytes(body), validate=True)
    except binascii.Error:
        raise PermanentError("image: the data URL is not valid base64") from None
    return unquote_to_bytes(body)


def palette(data: bytes) -> list[dict[str, Any]]:
    """Return up to six colours, the most frequent first: hex, name, share (their sum is 1), lab.

    Raises PermanentError for data that `workers.handlers.color.pictures.decode` refuses.
    """
    colors, weights = _foreground(decode(data))
    centers, shares = _cluster(rgb_to_lab(colors), weights)
    return [
        {
            "hex": _hex(lab_to_rgb(center)),
            "name": nearest_name(center),
            "share": round(float(share), 4),
            "lab": [round(float(value), 2) + 0.0 for value in center],  # + 0.0 makes 0 of -0.0
        }
        for center, share in zip(centers, shares, strict=True)
    ]


def _foreground(image: Image.Image) -> tuple[Floats, Floats]:
    """Return colours (n x 3, 0 to 255) and weights of pixels that are not transparent or background.

    A pixel counts by its alpha; one that is (nearly) transparent has no colour that could be relied on.
    """
    pixels = np.asarray(image, dtype=np.float64)
    rgb, alpha = pixels[..., :3], pixels[..., 3] / 255
    if alpha.max() == 0:  # a few specks, in a picture of many pixels
        raise PermanentError("image: all of it is transparent")
    visible = alpha >= alpha.max() * _MAX_TRANSPARENT_SHARE
    if visible.all():
        visible &= ~_background(rgb)
    return rgb[visible], alpha[visible]


def _background(rgb: Floats) -> NDArray[np.bool_]:
    """Return the pixels of the colour that most of the border has; none if too little would be left."""
    lab = rgb_to_lab(rgb.reshape(-1, 3)).reshape(rgb.shape)
    border = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    middle = np.median(border, axis=0)
    agree = np.linalg.norm(border - middle, axis=1) < _MAX_BACKGROUND_DISTANCE
    near = np.linalg.norm(lab - middle, axis=2) < _MAX_BACKGROUND_DISTANCE
    if agree.mean() < _MIN_UNIFORM_BORDER_SHARE or near.mean() > 0.95:
        return np.zeros(near.shape, dtype=np.bool_)
    result: NDArray[np.bool_] = near
    return result


def _cluster(lab: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Run k-means in CIELAB from a fixed seed; clusters of the same colour are put together.

    Returns centres (k x 3) and shares (k), the largest first.
    """
    random = np.random.default_rng(7)
    centers = lab[random.integers(len(lab))][None, :]
    while len(centers) < min(_MAX_COLORS, len(lab)):
        distance = ((lab[:, None] - centers[None]) ** 2).sum(axis=2).min(axis=1) * weights
        if distance.max() < 1.0:
            break
        centers = np.vstack([centers, lab[random.choice(len(lab), p=distance / distance.sum())]])
    for _ in range(_MAX_ROUNDS):
        nearest = ((lab[:, None] - centers[None]) ** 2).sum(axis=2).argmin(axis=1)
        mass = np.bincount(nearest, weights, len(centers))
        sums = np.stack(
            [np.bincount(nearest, weights * lab[:, axis], len(centers)) for axis in range(3)], axis=1
        )
        moved = np.where(mass[:, None] > 0, sums / np.maximum(mass, 1e-9)[:, None], centers)
        if np.allclose(moved, centers, atol=0.05):
            break
        centers = moved
    return _merge(centers, mass)


def _merge(centers: Floats, mass: NDArray[Any]) -> tuple[Floats, Floats]:
    clusters: list[tuple[Floats, float]] = []
    for index in np.argsort(-mass):
        if mass[index] <= 0:
            continue
        for rank, (center, weight) in enumerate(clusters):
            if np.linalg.norm(center - centers[index]) < _MAX_SAME_COLOR_DISTANCE:
                total = weight + mass[index]
                clusters[rank] = ((center * weight + centers[index] * mass[index]) / total, total)
                break
        else:
            clusters.append((centers[index], float(mass[index])))
    clusters.sort(key=lambda colour: -colour[1])
    weights = np.array([weight for _, weight in clusters])
    return np.array([center for center, _ in clusters]), weights / weights.sum()


def nearest_name(lab: Floats) -> str:
    """Return the CSS colour whose CIELAB values are nearest."""
    names, values = _named_colors()
    return names[int(((values - lab) ** 2).sum(axis=1).argmin())]


@cache
def _named_colors() -> tuple[list[str], Floats]:
    names = webcolors.names("css3")
    rgb = np.array([webcolors.name_to_rgb(name) for name in names], dtype=np.float64)
    return names, rgb_to_lab(rgb)


_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])  # D65


def rgb_to_lab(rgb: Floats) -> Floats:
    """Convert sRGB (n x 3, 0 to 255) to CIELAB (n x 3), white point D65 (IEC 61966-2-1, CIE 15)."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    scaled = linear @ _TO_XYZ.T / _WHITE
    f = np.where(scaled > (6 / 29) ** 3, np.cbrt(scaled), scaled * 841 / 108 + 4 / 29)
    lab: Floats = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    return lab


def lab_to_rgb(lab: Floats) -> tuple[int, int, int]:
    """Convert one CIELAB value (3) to sRGB, 0 to 255."""
    fy = (lab[0] + 16) / 116
    f = np.array([fy + lab[1] / 500, fy, fy - lab[2] / 200])
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 108 / 841) * _WHITE
    linear = np.clip(np.linalg.inv(_TO_XYZ) @ xyz, 0, 1)
    value = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (round(float(channel)) for channel in value * 255)
    return red, green, blue


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
