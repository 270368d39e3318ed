"""Makes the SVG that Rich exports independent of fonts: blocks and lines become rectangles.

A font's blocks leave gaps between two rows, and a page that shows a picture may load no font of ours.  Some
programs ignore how wide a text should be, so each word has its own place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape, unescape
from itertools import groupby

_CELL_WIDTH, _CELL_HEIGHT, _BASELINE, _BACKGROUND_OFFSET = 12.2, 24.4, 20.0, 1.5
"""Size of a character in Rich's SVG; its background begins so much below the top of the line."""

_Shape = tuple[float, float, float, float]
"""Left, top, width and height as shares of a cell."""
_THIN, _THICK = 0.07, 0.14
_WIDE_CELL = 2.0
"""Height of a cell over its width: a vertical line is as thick as a horizontal one."""


def _horizontal(left: float, right: float, thickness: float = _THIN) -> _Shape:
    return (left, (1 - thickness) / 2, right - left, thickness)


def _vertical(top: float, bottom: float) -> _Shape:
    width = _THIN * _WIDE_CELL
    return ((1 - width) / 2, top, width, bottom - top)


_SHAPES: dict[str, tuple[_Shape, ...]] = {
    **{block: ((0, 1 - eighths / 8, 1, eighths / 8),) for eighths, block in enumerate("▁▂▃▄▅▆▇█", 1)},
    "─": (_horizontal(0, 1),),
    "━": (_horizontal(0, 1, _THICK),),
    "┄": (_horizontal(0.05, 0.4), _horizontal(0.55, 0.9)),
    "│": (_vertical(0, 1),),
    "┤": (_vertical(0, 1), _horizontal(0, 0.5)),
    "┬": (_horizontal(0, 1), _vertical(0.5, 1)),
    "┼": (_horizontal(0, 1), _vertical(0, 1)),
    "▔": ((0, 0, 1, 1 / 8),),
    "▎": ((0, 0, 1 / 4, 1),),
    "▊": ((0, 0, 3 / 4, 1),),
}
_TEXT = re.compile(
    r'<text class="([^"]+)" x="([^"]+)" y="([^"]+)" textLength="[^"]+" (clip-path="[^"]+")>([^<]*)</text>'
)
_FONT_FACES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_FONTS = 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace'
_SPACE = "\N{NO-BREAK SPACE}"


def independent_of_fonts(svg: str) -> str:
    """Draw blocks and lines, and name fonts of the reader, so that no font is downloaded."""
    return _TEXT.sub(_draw, _FONT_FACES.sub("", svg)).replace("Fira Code, monospace", _FONTS)


def _draw(match: re.Match[str]) -> str:
    style, left, baseline, clip, escaped = match.groups()
    elements: list[str] = []
    cell = 0
    for kind, run in groupby(unescape(escaped), key=_kind):
        characters = "".join(run)
        x = float(left) + cell * _CELL_WIDTH
        cell += len(characters)
        if kind in _SHAPES:
            elements += _rectangles(style, x, float(baseline) - _BASELINE + _BACKGROUND_OFFSET, characters)
        elif kind != _SPACE:
            elements.append(
                f'<text class="{style}" x="{x:g}" y="{baseline}" '
                f'textLength="{len(characters) * _CELL_WIDTH:g}" {clip}>{escape(characters)}</text>'
            )
    return "".join(elements)


def _kind(character: str) -> str:
    """Return the character itself if it is drawn or a space, else ``word``."""
    return character if character in _SHAPES or character == _SPACE else "word"


def _rectangles(style: str, left: float, top: float, run: str) -> Iterator[str]:
    """Yield a shape for a run of one character: one that fills the width of its cell is drawn once."""
    for x, y, width, height in _SHAPES[run[0]]:
        cells = [0.0] if width == 1 else [number * _CELL_WIDTH for number in range(len(run))]
        extent = _CELL_WIDTH * (len(run) if width == 1 else width)
        for cell in cells:
            yield (
                f'<rect class="{style}" x="{left + cell + x * _CELL_WIDTH:g}" y="{top + y * _CELL_HEIGHT:g}" '
                f'width="{extent:g}" height="{height * _CELL_HEIGHT + 0.25:g}" shape-rendering="crispEdges"/>'
            )
