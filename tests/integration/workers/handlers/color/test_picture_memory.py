"""Memory that a decoder takes for a picture: estimated from the header, and measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.integration.workers.handlers.color.mutations import PHONE_200, claim_size, encode, halves
from workers.handlers.color import pictures
from workers.handlers.color.picture_memory import MEMORY_BYTES, decoding_bytes

MARGIN_BYTES = 24 << 20  # for the small picture, the counting and the decoder's own tables


def peak_bytes(path: Path) -> int:
    """Return the peak memory that finding the palette of the file adds to a process of its own."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from workers.handlers.color import palette as pixels\n"
        "data = Path(sys.argv[1]).read_bytes()\n"
        "def kilobytes(name):\n"
        "    return int(Path('/proc/self/status').read_text().split(name + ':')[1].split()[0])\n"
        "resident = kilobytes('VmRSS')\n"
        "pixels.palette(data)\n"
        "print((kilobytes('VmHWM') - resident) * 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    return int(done.stdout)


def estimated_bytes(data: bytes) -> int:
    image = pictures._open(data)
    size = image.size
    if image.format == "JPEG":
        image.draft("RGB", (size[0] // 8, size[1] // 8))
    return decoding_bytes(image, data, size)


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Hard to compress, so that decoders use their tables."""
    block = np.random.default_rng(7).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    repeats = (-(-size[1] // 256), -(-size[0] // 256), 1)
    return Image.fromarray(np.tile(block, repeats)[: size[1], : size[0]]).convert(mode)


MEASURED: list[Any] = [
    pytest.param("JPEG", "RGB", {}, id="jpeg"),
    pytest.param("JPEG", "RGB", {"progressive": True, "subsampling": 0}, id="jpeg-progressive"),
    pytest.param("PNG", "RGBA", {"compress_level": 1}, id="png", marks=pytest.mark.slow),
    pytest.param("PNG", "I;16", {"compress_level": 1}, id="png-deep", marks=pytest.mark.slow),
    pytest.param("GIF", "P", {}, id="gif", marks=pytest.mark.slow),
    pytest.param("BMP", "RGB", {}, id="bmp", marks=pytest.mark.slow),
    pytest.param("TIFF", "RGB", {"tiffinfo": {274: 6}}, id="tiff-turned", marks=pytest.mark.slow),
    pytest.param(
        "TIFF",
        "RGB",
        {"compression": "jpeg", "tiffinfo": {278: 3000}},
        id="tiff-one-strip",
        marks=pytest.mark.slow,
    ),
    pytest.param("WEBP", "RGBA", {"lossless": True, "method": 0}, id="webp", marks=pytest.mark.slow),
    pytest.param("AVIF", "RGB", {"speed": 10, "subsampling": "4:4:4"}, id="avif", marks=pytest.mark.slow),
    pytest.param("HEIF", "RGB", {"enc_params": {"preset": "ultrafast"}}, id="heic", marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("kind", "mode", "options"), MEASURED)
def test_a_picture_takes_no_more_memory_than_was_estimated(
    tmp_path: Path, kind: str, mode: str, options: dict[str, Any]
) -> None:
    plain = noise((4000, 3000))
    deep = Image.fromarray(np.asarray(plain.convert("L"), dtype=np.uint16) * 257)
    data = encode(deep if mode == "I;16" else plain.convert(mode), kind, **options)
    (tmp_path / "picture").write_bytes(data)
    assert peak_bytes(tmp_path / "picture") < estimated_bytes(data) + MARGIN_BYTES


def test_the_estimate_is_that_of_the_format() -> None:
    assert estimated_bytes(claim_size(encode(halves((64, 64)), "JPEG"), *PHONE_200)) < 16 << 20
    progressive = encode(halves((64, 64)), "JPEG", progressive=True)
    assert 560 << 20 < estimated_bytes(claim_size(progressive, *PHONE_200)) < MEMORY_BYTES
    assert estimated_bytes(encode(Image.new("1", (1000, 1000)))) == 1_000_000
