"""Colour arithmetic against published values, and the bytes of data URLs."""

from __future__ import annotations

import numpy as np
import pytest
import webcolors
from hypothesis import given
from hypothesis import strategies as st

from couturecast_handlers import PermanentError
from workers.handlers.color import palette as pixels
from workers.handlers.color.palette import data_url_bytes, lab_to_rgb, nearest_name, rgb_to_lab


def lab(*rgb: int) -> list[float]:
    return [float(value) for value in rgb_to_lab(np.array([rgb], dtype=np.float64))[0]]


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [  # sRGB under D65, as Lindbloom's calculator gives them
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((255, 255, 0), (97.14, -21.55, 94.48)),
        ((0, 255, 255), (91.11, -48.09, -14.13)),
        ((255, 0, 255), (60.32, 98.23, -60.82)),
        ((128, 128, 128), (53.59, 0.0, 0.0)),
        ((1, 1, 1), (0.27, 0.0, 0.0)),
    ],
)
def test_cielab_values_are_the_published_ones(
    rgb: tuple[int, int, int], expected: tuple[float, float, float]
) -> None:
    assert lab(*rgb) == pytest.approx(expected, abs=0.02)
    assert lab_to_rgb(np.array(expected)) == rgb


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_every_colour_comes_back_from_cielab(rgb: tuple[int, int, int]) -> None:
    assert lab_to_rgb(np.array(lab(*rgb))) == rgb


def test_a_colour_outside_of_srgb_is_shown_as_the_nearest_inside() -> None:
    assert lab_to_rgb(np.array([50.0, 200.0, 0.0]))[0] == 255
    assert all(0 <= value <= 255 for value in lab_to_rgb(np.array([150.0, -200.0, 200.0])))


def test_a_css_colour_is_nearest_to_itself() -> None:
    for name in webcolors.names("css3"):
        found = nearest_name(np.array(lab(*webcolors.name_to_rgb(name))))
        assert webcolors.name_to_rgb(found) == webcolors.name_to_rgb(name)
    assert nearest_name(np.array(lab(250, 10, 10))) == "red"


def test_clusters_are_the_colours_and_their_shares() -> None:
    red, blue = lab(255, 0, 0), lab(0, 0, 255)
    centers, shares = pixels._cluster(np.array([red] * 30 + [blue] * 10), np.ones(40))
    assert centers[0] == pytest.approx(red)
    assert centers[1] == pytest.approx(blue)
    assert list(shares) == pytest.approx([0.75, 0.25])


def test_pixels_count_by_their_weight() -> None:
    red, blue = lab(255, 0, 0), lab(0, 0, 255)
    weights = np.array([0.5] * 10 + [1.0] * 10)
    centers, shares = pixels._cluster(np.array([red] * 10 + [blue] * 10), weights)
    assert centers[0] == pytest.approx(blue)
    assert list(shares) == pytest.approx([2 / 3, 1 / 3])


def test_indistinguishable_colours_are_merged() -> None:
    near = [lab(200, 30, 40), lab(202, 31, 41), lab(198, 29, 39)]
    centers, shares = pixels._cluster(np.array(near * 20), np.ones(60))
    assert (len(centers), list(shares)) == (1, [1.0])


def test_a_single_pixel_is_a_palette() -> None:
    centers, shares = pixels._cluster(np.array([lab(1, 2, 3)]), np.ones(1))
    assert (len(centers), list(shares)) == (1, [1.0])


def picture(background: int, garment: int, size: int) -> np.ndarray:
    """100 x 100 grey pixels with a square in the middle."""
    rgb = np.full((100, 100, 3), background, dtype=np.float64)
    low, high = (100 - size) // 2, (100 + size) // 2
    rgb[low:high, low:high] = garment
    return rgb


def test_the_background_is_what_most_of_the_border_shows() -> None:
    found = pixels._background(picture(240, 60, 50))
    assert found.sum() == 100 * 100 - 50 * 50
    assert not found[50, 50]


def test_a_border_of_many_colours_is_no_background() -> None:
    noise = np.random.default_rng(7).integers(0, 256, (100, 100, 3)).astype(np.float64)
    assert not pixels._background(noise).any()


def test_no_background_is_removed_if_too_little_would_remain() -> None:
    assert not pixels._background(picture(240, 60, 10)).any()
    assert not pixels._background(picture(240, 240, 10)).any()


@pytest.mark.parametrize(
    ("url", "data"),
    [
        ("data:image/png;base64,AAEC", b"\x00\x01\x02"),
        ("data:;base64,AAEC", b"\x00\x01\x02"),
        ("DATA:image/png;BASE64,AAEC", b"\x00\x01\x02"),
        ("data:image/png;base64,%41%41EC", b"\x00\x01\x02"),
        ("data:image/png;base64,+/==", b"\xfb"),
        ("data:image/png,a%00b%2C,c", b"a\x00b,,c"),
        ("data:,", b""),
    ],
)
def test_the_bytes_of_a_data_url(url: str, data: bytes) -> None:
    assert data_url_bytes(url) == data


@pytest.mark.parametrize(
    "url", ["data:image/png;base64", "data:", "data:;base64,A", "data:;base64,a*b=", "data:;base64,é"]
)
def test_a_data_url_that_is_broken_is_permanent(url: str) -> None:
    with pytest.raises(PermanentError, match="image: the data URL"):
        data_url_bytes(url)
