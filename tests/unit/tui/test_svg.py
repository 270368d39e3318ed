"""Pictures do not depend on the fonts of who looks at them."""

from __future__ import annotations

import io
import re

from rich.console import Console
from rich.text import Text

from tui.text.svg import independent_of_fonts

SHAPE = re.compile(r'<rect class="([^"]+)" x="([^"]+)" y="([^"]+)" width="([^"]+)" height="([^"]+)"')


def picture(*lines: str) -> str:
    console = Console(width=20, height=len(lines), file=io.StringIO(), record=True, force_terminal=True)
    for line in lines:
        console.print(Text(line, "red"))
    return independent_of_fonts(console.export_svg(title="t"))


def shapes(svg: str) -> list[tuple[float, ...]]:
    return [tuple(map(float, found[1:])) for found in SHAPE.findall(svg)]


def words(svg: str) -> list[tuple[float, str]]:
    body = svg[svg.index('clip-path="url(#') :]
    return [(float(x), text) for x, text in re.findall(r'<text [^>]*x="([^"]+)"[^>]*>([^<\n]*)</text>', body)]


def test_blocks_are_as_high_as_they_stand_for_and_rows_touch() -> None:
    (lower, *_), (full, *_) = shapes(picture("▂▂▂")), shapes(picture("███"))
    assert (full[0], round(full[2], 1)) == (0.0, 36.6)
    assert round(lower[3] / full[3], 1) == 0.3  # two of eight
    top, bottom = shapes(picture("█", "█"))
    assert top[1] + top[3] >= bottom[1]


def test_each_word_stands_at_its_own_column() -> None:
    shown = words(picture("ab  cd▃▃ef ▏"))
    assert [(round(x / 12.2), text) for x, text in shown][:3] == [(0, "ab"), (4, "cd"), (8, "ef")]
    assert round(shapes(picture("ab  cd▃▃ef"))[0][0] / 12.2) == 6


def test_text_from_jobs_stays_text() -> None:
    shown = picture("<b>&amp;</b> ▅")
    assert "&lt;b&gt;&amp;amp;&lt;/b&gt;" in shown
    assert "<b>" not in shown


def test_no_font_is_downloaded() -> None:
    shown = picture("a")
    assert "@font-face" not in shown
    assert "url(http" not in shown
    assert "ui-monospace" in shown
